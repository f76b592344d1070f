--- What optimizers keep moments in: f32, or codes in 8 bits with a scale for every block, as their option `state` says
-- (adamw.lua).
local core = require "fp8.core"
local check_options = require "fp8.check_options"
local number_formats = require "fp8.linear.formats"
local is_whole = require "fp8.is_whole"

local raise = core.raise

local moments = {}

local fields = {format = true, second_format = true, blocksize = true, smallest = true}

local default_blocksize, least_block, longest_block = 256, 64, 2048
moments.longest_block = longest_block

-- Smaller parameters, biases and norms say, keep f32 moments: bitsandbytes' limit.
local default_smallest = 4096

local function is_power_of_two(value) return type(value) == "number" and math.frexp(value) == 0.5 end

local function shown(value) return type(value) == "string" and ('"%s"'):format(value) or tostring(value) end

-- A copy of a map that a script has given.
local function copied(label, map)
  local ok, copy = pcall(core.clone, map)
  if ok then return copy end
  local reason = type(copy) == "string" and copy:match "this tensor was freed.*"
  if reason then raise(("%s: %s"):format(label, reason)) end
  error(copy, 0)
end

-- A format with its quantizer and a copy of its map, so that codes mean the same whatever becomes of the map.
local function read_format(label, format, blocksize)
  local is_hardware = number_formats.is_hardware(format)
  if is_hardware then
    return {quantizer = core.quantizer {format = format, blocksize = blocksize}}
  elseif is_hardware == nil and not core.is_tensor(format) then
    raise(("%s must be a map (a tensor of 256 values) or one of %s, got %s"):format(label,
      table.concat(number_formats.names(), ", "), shown(format)))
  end
  local map = is_hardware == nil and copied(label, format) or number_formats.map_of(format)
  local quantizer = core.quantizer {format = map, blocksize = blocksize}
  local ok, message = pcall(core.quantize, core.zeros({1}, {dtype = "f32", device = "cpu"}), quantizer, "codes")
  local reason = not ok and type(message) == "string" and message:match "quantize: (.*)"
  if reason then raise(("%s: %s"):format(label, reason)) end
  if not ok then error(message, 0) end -- not about the map: an interruption, say
  return {quantizer = quantizer, map = map}
end

--- What the option `state` asks for: false for f32, or {formats of the first and of the second moment: {quantizer =,
-- map = nil of a hardware type}, smallest = elements of a parameter that has 8-bit moments}.
-- @param label for errors
-- @param names of the moments that the optimizer keeps
function moments.read(label, option, names)
  if option == nil or option == "f32" then return false end
  if type(option) ~= "table" then
    raise(('%s: option state must be "f32" or a table with a format, got %s'):format(label, shown(option)))
  end
  check_options(label .. ": state", option, fields)
  local blocksize, smallest = option.blocksize, option.smallest
  if blocksize == nil then blocksize = default_blocksize end
  if smallest == nil then smallest = default_smallest end
  if not is_power_of_two(blocksize) or blocksize < least_block or blocksize > longest_block then
    raise(("%s: state.blocksize must be a power of two from %d to %d, got %s"):format(label, least_block,
      longest_block, shown(blocksize)))
  elseif not is_whole(smallest, 0) then
    raise(("%s: state.smallest must be a whole number of at least 0, got %s"):format(label, shown(smallest)))
  elseif #names == 0 then
    raise(label .. ": option state is about moments, of which there are none without momentum")
  end
  local first = read_format(label .. ": state.format", option.format, blocksize)
  if #names == 1 then
    if option.second_format ~= nil then raise(label .. ": state.second_format: there is no second moment") end
    return {first, first, smallest = smallest}
  end
  local second = option.second_format
  if second == nil then second = core.is_tensor(option.format) and core.create_dynamic_map(false) or option.format end
  second = read_format(label .. ": state.second_format", second, blocksize)
  if second.map and core.totable(second.map)[256] <= 0 then
    raise(label .. ": state.second_format: a map of second moments must have a number above 0")
  end
  return {first, second, smallest = smallest}
end

-- Whether a value is a module.
local function is_module(value) return type(value) == "table" and type(value.parameters) == "function" end

--- The option `state` that holds for parameters: that of the recipes which fp8.convert has given a module, where the
-- option is one, or where it is left out and the parameters are a module's.
-- @param source what an optimizer took as its parameters
function moments.option(option, source)
  local model = option
  if option == nil then model = source end
  if not is_module(model) then return option end
  local given = rawget(model, "given_recipes") -- nn/convert/init.lua
  return given and given.recipes.optimizer_state
end

--- Begins the moments of a parameter: entry[name], and of one in 8 bits entry[name_scale] and entry[name_map].
-- @param parameter or the part of it that is kept here
-- @param count     of the whole parameter's elements
-- @param formats   as moments.read returns them
function moments.begin(entry, parameter, count, names, formats)
  local shape, on_device = core.shape(parameter), {dtype = "f32", device = core.device(parameter)}
  for i, name in ipairs(names) do
    local zeros = core.zeros(shape, on_device)
    if formats and count >= formats.smallest then
      entry[name], entry[name .. "_scale"] = core.quantize(zeros, formats[i].quantizer, "codes scale")
      entry[name .. "_map"] = formats[i].map
      core.free(zeros)
    else
      entry[name] = zeros
    end
  end
end

return moments
