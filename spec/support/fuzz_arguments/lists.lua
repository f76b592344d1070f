--- What random arguments are picked from. Sizes are small or far too large: one between would be granted.
local ffi = require "ffi"

local lists = {}

lists.dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}
lists.shapes = {
  {}, {0}, {1}, {3}, {4}, {3, 4}, {4, 3}, {4, 4}, {1, 4}, {3, 1}, {2, 0}, {2, 3, 4}, {2, 4, 3}, {1, 3, 1},
  {2, 1, 3, 4}, {256}, {2, 70}, {1, 1, 1, 1, 2, 1, 1, 2},
}
lists.whole = {0, 1, 2, 3, 4, 5, -1, -2, -3, -4, 2 ^ 45, 2 ^ 53, -2 ^ 53, 2 ^ 62, 2 ^ 63}
lists.numbers = {0.5, -0.0, 1.5, 1e300, -1e300, 1e-300, 0 / 0, math.huge, -math.huge, 64, 128, 4096}
lists.integers = {
  5LL, 9007199254740993LL, -0x7fffffffffffffffLL - 1, 7ULL, 0xffffffffffffffffULL, ffi.new "int64_t[1]",
}
lists.strings = {
  "", "x", "1", "\0", "cpu", "cpu:0", "cuda:99", "f64", "nearest", "stochastic", "none", "mean", "sum", "weight",
  "grad", "shape", "%s%n%d", "tensor", "row", "block", ("long "):rep(1000), "\255\254", "1.weight",
  "/nowhere/at.all", "inf", "nan", "-1", "dtype",
}

return lists
