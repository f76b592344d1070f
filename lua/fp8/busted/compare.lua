--- How two tensors differ, in words: what assertions of specs say (init.lua).
local core = require "fp8.core"
local shapes = require "fp8.shapes"

-- PyTorch's tolerances where none are given: torch.testing.assert_close.
local tolerances = {f32 = {1.3e-6, 1e-5}, f16 = {1e-3, 1e-5}, bf16 = {1.6e-2, 1e-5}}

local function tolerance_of(dtype, options)
  if options.rtol or options.atol then return options.rtol or 0, options.atol or 0 end
  return unpack(tolerances[dtype] or {0, 0})
end

-- The elements in row-major order, as numbers, or int64_t beyond 2^53.
local function elements(x)
  local place = {device = "cpu"}
  if core.dtypes[core.dtype(x)].kind ~= "integer" then place.dtype = "f32" end
  local flat = core.view(core.contiguous(core.to(x, place)), {core.numel(x)})
  return core.totable(flat)
end

-- %.9g tells all numbers of float32 apart.
local function number_text(value)
  if type(value) == "cdata" then return tostring(value) end
  return (value % 1 == 0 and "%.17g" or "%.9g"):format(value)
end

-- The absolute difference; nan where one of the two is NaN.
local function distance(a, b)
  if a == b then return 0 end
  if type(a) == "cdata" or type(b) == "cdata" then return math.abs(tonumber(a - b)) end
  return math.abs(a - b)
end

local function is_nan(value) return value ~= value end

local function are_close(a, b, difference, rtol, atol, equal_nan)
  if a == b then return true end
  if is_nan(a) or is_nan(b) then return equal_nan and is_nan(a) and is_nan(b) end
  return difference < math.huge and difference <= atol + rtol * math.abs(tonumber(b))
end

-- Whether a difference is larger than another one: NaN than all.
local function is_larger(value, other) return other == nil or is_nan(value) and not is_nan(other) or value > other end

local function difference_text(what, worst, a, b, shape)
  return ("largest %s difference %s at %s: %s, expected %s"):format(what, number_text(worst.value),
    shapes.position(worst.at, shape), number_text(a[worst.at]), number_text(b[worst.at]))
end

local function compare_elements(actual, expected, rtol, atol, equal_nan)
  local a, b, shape = elements(actual), elements(expected), core.shape(actual)
  local count, absolute, relative = 0, {}, {}
  for i = 1, #b do
    local difference = distance(a[i], b[i])
    if not are_close(a[i], b[i], difference, rtol, atol, equal_nan) then
      count = count + 1
      if is_larger(difference, absolute.value) then absolute.value, absolute.at = difference, i end
      local share = difference / math.abs(tonumber(b[i]))
      if is_larger(share, relative.value) then relative.value, relative.at = share, i end
    end
  end
  if count == 0 then return nil end
  return ("%d of %d elements differ (%.3g%%) by more than %.9g + %.9g · |expected|\n%s\n%s"):format(count, #b,
    100 * count / #b, atol, rtol, difference_text("absolute", absolute, a, b, shape),
    difference_text("relative", relative, a, b, shape))
end

--- nil if the tensors are close, else a text that says how they differ.
-- @param expected a tensor, or numbers for one like `actual`
-- @param options  {rtol =, atol =, equal_nan =}: init.lua
return function(actual, expected, options)
  if not core.is_tensor(expected) then
    local place = {dtype = core.dtype(actual), device = core.device(actual)}
    expected = type(expected) == "number" and core.full({}, expected, place) or core.tensor(expected, place)
  end
  for _, property in ipairs {"shape", "dtype", "device"} do
    local found, wanted = core[property](actual), core[property](expected)
    if property == "shape" then found, wanted = shapes.text(found), shapes.text(wanted) end
    if found ~= wanted then return ("the %s is %s, expected %s"):format(property, found, wanted) end
  end
  local rtol, atol = tolerance_of(core.dtype(actual), options)
  return compare_elements(actual, expected, rtol, atol, options.equal_nan)
end
