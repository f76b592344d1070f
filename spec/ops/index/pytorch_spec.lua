-- Picking and putting by index against PyTorch: results and gradients (spec/fixtures/index.py).
local fp8 = require "fp8"
local pytorch = require "spec.support.pytorch"
local support = require "spec.support"

--- f changes a copy of its first argument, twice its values.
local function assigned(f)
  return function(x, ...)
    local y = x * 2
    f(y, ...)
    return y
  end
end

local function put(key)
  return assigned(function(y, value) y[type(key) == "function" and key(y) or key] = value end)
end

local function positions(values)
  return function(x) return fp8.tensor(values, {dtype = "i64", device = x.device}) end
end

local function mask(x) return fp8.tensor({{1, 0, 1}, {0, 0, 1}}, {dtype = "u8", device = x.device}) end

local calls = {
  ["gather.smaller"] = function(x, i) return x:gather(2, i) end,
  take_along_dim = function(x, i) return x:take_along_dim(i, 2) end,
  ["take_along_dim.wide"] = function(x, i) return x:take_along_dim(i, -1) end,
  ["take_along_dim.flat"] = fp8.take_along_dim,
  take = fp8.take,
  scatter = function(x, i, s) return x:scatter(1, i, s) end,
  ["scatter.smaller"] = function(x, i, s) return x:scatter(2, i, s) end,
  ["scatter.number"] = function(x, i) return x:scatter(2, i, 1.5) end,
  scatter_add = function(x, i, s) return x:scatter_add(1, i, s) end,
  ["scatter_add.smaller"] = function(x, i, s) return x:scatter_add(-1, i, s) end,
  index_add = function(x, i, s) return x:index_add(2, i, s) end,
  ["index_add.alpha"] = function(x, i, s) return x:index_add(1, i, s, {alpha = -2.5}) end,
  index_copy = function(x, i, s) return x:index_copy(2, i, s) end,
  index_fill = function(x, i) return x:index_fill(-1, i, 4) end,
  index_put = function(x, v, i, j) return x:index_put({i, j}, v) end,
  ["index_put.broadcast"] = function(x, v, i, j) return x:index_put({i, j}, v) end,
  ["index_put.one"] = function(x, v, i) return x:index_put({i}, v) end,
  ["index_put.accumulate"] = function(x, v, i, j) return x:index_put({i, j}, v, true) end,
  masked_scatter = fp8.masked_scatter, ["masked_scatter.broadcast"] = fp8.masked_scatter,
  read = function(x) return x[{1, {2, 3}, {}, -1}] end,
  ["read.step"] = function(x) return x[{{}, {2, 6, 2}}] end,
  ["read.mask"] = function(x, m) return x[m] end,
  ["read.indices"] = function(x, i) return x[i] end,
  ["assign.row"] = put(2),
  ["assign.part"] = put {{}, {2, 3}, -1},
  ["assign.step"] = put {{}, {1, -1, 2}},
  ["assign.mask"] = put(mask), ["assign.mask.broadcast"] = put(mask),
  ["assign.indices"] = put(positions {{2, 0}, {1, 3}}),
  ["assign.numbers"] = assigned(function(y)
    y[1] = 3
    y[mask(y)] = -1
    y[{2, 2}] = 2
    local second = positions {1}(y)
    y[second] = y[second] * 2
  end),
  ["assign.rows"] = assigned(function(y)
    for i = 2, 4 do y[i] = y[i - 1] * 0.5 + y[i] end
  end),
  ["assign.constant"] = function(x, y)
    local z = fp8.zeros(3, 2, {device = x.device})
    z[1] = x
    z[{{2, 3}}] = y * y
    z[{3, 2}] = x[1]
    return z
  end,
}
for _, rule in ipairs {"sum", "prod", "amax", "amin"} do
  for name, options in pairs {[""] = {}, [".without"] = {include_self = false}} do
    local case = ("scatter_reduce.%s%s"):format(rule, name)
    calls[case] = function(x, i, s) return x:scatter_reduce(2, i, s, rule, options) end
    calls[case .. ".rows"] = calls[case]
  end
end

local tensors = fp8.load(support.fixture "index.safetensors")

support.each_device(function(device)
  describe("PyTorch's results", function()
    it("are all compared", function() assert.same({}, pytorch.missing("index.safetensors", calls)) end)

    for case in support.sorted_pairs(calls) do
      it("are those of " .. case, function() pytorch.compare(tensors, case, calls[case], device) end)
    end
  end)
end)
