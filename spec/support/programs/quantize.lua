--- Quantization; dropout, and a function from Lua.
local ffi = require "ffi"
local bound = require "spec.support.reference.bound"
local operation = require "spec.support.programs.operation"
local reference = require "spec.support.reference"
local tensor = require "spec.support.reference.tensor"

local new, map, var = operation.new, operation.map, operation.var
local int64 = ffi.typeof "int64_t"

local operations = {}

-- An element that stays, as what dropout makes of it.
local function kept(value, probability, dtype)
  local factor = reference.f32(1 / (1 - reference.f32(probability)))
  return bound.to(dtype, bound.mul(bound.exact(value), bound.within(factor, factor * 2 ^ -23)))
end

operations.dropout = {
  text = "function", takes = operation.is_computable,
  make = function(g, x) return {var(x), g.pick {0.5, 0.25, 0.9}} end,
  compute = function(x, probability)
    local list = map(function(value)
      if value ~= value or math.abs(value) == math.huge then return false end
      local stays = kept(value, probability, x.dtype)
      return function(found) return found == 0 or bound.holds(x.dtype, stays, found) end
    end, tensor.list(x))
    return new(x.dtype, x.shape, list)
  end,
  gradient = function(node, dy)
    local x, probability = unpack(node.arguments)
    return {map(function(g, value, result)
      -- What was dropped can't be seen of these.
      local plain = value ~= 0 and math.abs(value) < math.huge
      if not plain or g[2] == math.huge then return {0, math.huge} end
      if result == 0 then return math.abs(value) < 1e-4 and {0, math.huge} or bound.exact(0) end
      local factor = bound.within(1 / (1 - probability), 2e-6)
      return bound.to(x.dtype, bound.mul(g, factor))
    end, dy, tensor.list(x), tensor.list(node.result))}
  end,
}

operations.Function = {
  takes = operation.is_computable,
  make = function(_, x) return {var(x)} end,
  text = function(x)
    return "fp8.Function{forward = function(_, x) return -x end, backward = function(_, g) return -g end}(" .. x .. ")"
  end,
  compute = function(x) return new(x.dtype, x.shape, map(function(value) return -value end, tensor.list(x))) end,
  gradient = function(_, dy) return {map(bound.neg, dy)} end,
}

--- --- quantization ---

local formats = {
  {text = "fp8.create_map(true, 4, 3, 8)", map = reference.map(true, 4, 3)},
  {text = "fp8.create_map(true, 5, 2, 8)", map = reference.map(true, 5, 2)},
  {text = "fp8.create_map(false, 3, 5, 8)", map = reference.map(false, 3, 5)},
  {text = '"e4m3"'}, {text = '"e5m2"'},
}

local function f32_list(x) return operation.float_list(x) end

-- Codes by a map or a hardware format, in blocks of so many elements or (nil) one; and absmax or the scales.
local function codes_of(x, format, blocksize)
  local list = f32_list(x)
  blocksize = blocksize or math.max(#list, 1)
  if format.map then
    local codes, absmax = reference.quantize(list, format.map, blocksize, blocksize == #list and not x.blockwise)
    return map(int64, codes), absmax
  end
  local codes, scales, name = {}, {}, format.text:match "%w+"
  for start = 1, #list, blocksize do
    local largest, finish = 0, math.min(start + blocksize - 1, #list)
    for i = start, finish do
      local magnitude = math.abs(list[i])
      if magnitude ~= magnitude or magnitude == math.huge then largest = 0 / 0 end
      if largest == largest then largest = math.max(largest, magnitude) end
    end
    local scale = reference.scale(largest, name)
    table.insert(scales, scale)
    local inverse = reference.f32(1 / scale)
    for i = start, finish do
      local s = (scale ~= scale or scale == 0) and scale or
        reference.f32(inverse == math.huge and list[i] / scale or list[i] * inverse)
      codes[i] = reference.round[name](s)
    end
  end
  return codes, scales
end

-- The call of a quantizing function: the format is given by its number.
local function call(name, x, format, blocksize)
  return ("fp8.%s(%s, %s%s)"):format(name, x, formats[tonumber(format)].text, blocksize and ", " .. blocksize or "")
end

local function quantizing(name)
  local blockwise = name == "quantize_blockwise"
  return {
    differentiable = false, takes = operation.is_computable,
    make = function(g, x)
      return {var(x), g.random(#formats), blockwise and g.pick {64, 128} or nil}
    end,
    text = function(...) return "(" .. call(name, ...) .. ")" end,
    compute = function(x, format, blocksize)
      local flat = tensor.new(x.dtype, x.shape, tensor.list(x))
      flat.blockwise = blockwise
      local codes = codes_of(flat, formats[format], blocksize)
      local dtype = formats[format].map and "u8" or formats[format].text:match "%w+"
      return new(dtype, x.shape, codes, true)
    end,
  }
end

operations.quantize_blockwise, operations.quantize = quantizing "quantize_blockwise", quantizing "quantize"

-- Quantized and back.
local function dequantizing(name, forward)
  local blockwise = name == "dequantize_blockwise"
  return {
    differentiable = false, takes = operation.is_computable,
    make = operations[forward].make,
    text = function(...) return ("fp8.%s(%s)"):format(name, call(forward, ...)) end,
    compute = function(x, number, blocksize)
      local flat, format = tensor.new(x.dtype, x.shape, tensor.list(x)), formats[number]
      flat.blockwise = blockwise
      local codes, scales = codes_of(flat, format, blocksize)
      local length, list = blocksize or math.max(#codes, 1), {}
      for i, code in ipairs(codes) do
        local scale = scales[math.floor((i - 1) / length) + 1]
        local value = format.map and format.map[tonumber(code) + 1] or code
        list[i] = tensor.cast((scale ~= scale or scale == 0) and scale or reference.f32(value * scale), x.dtype)
      end
      return new(x.dtype, x.shape, list, true)
    end,
  }
end

operations.dequantize_blockwise = dequantizing("dequantize_blockwise", "quantize_blockwise")
operations.dequantize = dequantizing("dequantize", "quantize")

operations.create_map = {
  creates = true,
  make = function(g)
    local signed, exponent_bits = g.random(2) == 1, g.random(6)
    return {signed, exponent_bits, 8 - exponent_bits - (signed and 1 or 0), 8}
  end,
  text = function(...) return ("fp8.create_map(%s):to(device)"):format(table.concat({...}, ", ")) end,
  compute = function(signed, exponent_bits, precision_bits)
    return new("f32", {256}, reference.map(signed, exponent_bits, precision_bits), true)
  end,
}

return operations
