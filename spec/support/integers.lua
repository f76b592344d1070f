--- Integers of 64 bits (int64_t cdata) in specs: what doubles can't hold.
local ffi = require "ffi"
local fp8 = require "fp8"

local integers = {}

local int64 = ffi.typeof "int64_t"

--- The largest integer; its negative, less 1, is the smallest.
local largest = 0x7fffffffffffffffLL
local smallest = -largest - 1

--- {smallest, largest} by dtype.
integers.range = {u8 = {0LL, 255LL}, i32 = {-2147483648LL, 2147483647LL}, i64 = {smallest, largest}}

--- An integer as an element of an integer dtype: the nearest that it holds.
function integers.saturated(value, dtype)
  local low, high = unpack(integers.range[dtype])
  return value < low and low or value > high and high or value
end

local cells = {u8 = ffi.new "uint8_t[1]", i32 = ffi.new "int32_t[1]", i64 = ffi.new "int64_t[1]"}

--- An integer as a result of arithmetic in an integer dtype: its low bits.
function integers.wrapped(value, dtype)
  cells[dtype][0] = value
  return int64(cells[dtype][0])
end

--- A double, or an integer, cast to an integer dtype: towards zero, saturating, NaN to 0.
function integers.from_number(x, dtype)
  if type(x) == "cdata" then return integers.saturated(int64(x), dtype) end
  if x ~= x then return 0LL end
  local value = x >= 2 ^ 63 and largest or x < -2 ^ 63 and smallest or int64(x)
  return integers.saturated(value, dtype)
end

--- Whether an integer is below (-1), equal to (0) or above (1) a double or another integer, taken exactly; nil for NaN.
function integers.compare(a, x)
  if type(x) == "cdata" then return a < int64(x) and -1 or a > int64(x) and 1 or 0 end
  if x ~= x then return nil end
  if x >= 2 ^ 63 then return -1 end
  if x < -2 ^ 63 then return 1 end
  local floor = math.floor(x)
  local below = int64(floor)
  if a == below then return x > floor and -1 or 0 end
  return a < below and -1 or 1
end

--- low <= high, exactly, for doubles and integers.
function integers.at_most(low, high)
  if type(low) == "cdata" then return (integers.compare(int64(low), high) or 1) <= 0 end
  if type(high) == "cdata" then return (integers.compare(int64(high), low) or -1) >= 0 end
  return low <= high
end

--- A tensor of integers from a list.
function integers.tensor(list, dtype, device)
  local x = fp8.empty(#list, {dtype = dtype})
  local data = x:data()
  for i, value in ipairs(list) do data[i - 1] = value end
  return x:to(device)
end

--- The elements of a tensor of an integer dtype as a list of int64_t, row-major.
function integers.list(x)
  x = x:to("cpu"):contiguous()
  local data, list = x:data(), {}
  for i = 1, x:numel() do list[i] = int64(data[i - 1]) end
  return list
end

return integers
