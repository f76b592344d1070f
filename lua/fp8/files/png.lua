--- .png, a tensor as a picture (https://www.w3.org/TR/png): 8 bits a sample, compressed by zlib.
local zlib = require "fp8.files.package" "zlib"
local core = require "fp8.core"
local ffi = require "ffi"
local elements = require "fp8.files.elements"
local dtypes = core.dtypes

local png = {save_options = {range = "table"}}

-- By samples of a pixel: grey, grey and alpha, colours, colours and alpha.
local colour_types = {[1] = 0, [2] = 4, [3] = 2, [4] = 6}
local largest_side = 2^31 - 1
local rows_at_once = 64

local function fail(message, ...) error({message = message:format(...)}, 0) end

local function big_endian(value)
  return string.char(math.floor(value / 16777216) % 256, math.floor(value / 65536) % 256, math.floor(value / 256) % 256,
    value % 256)
end

local function range_of(options)
  local range = options.range
  if not range then return 0, 1 end
  local low, high = range[1], range[2]
  if #range ~= 2 or type(low) ~= "number" or type(high) ~= "number" or not (low < high and high - low < math.huge) then
    fail "option range must be two finite numbers {black, white}, the first below the second"
  end
  return low, high
end

-- Numbers from black to white as bytes, rounded to nearest; a NaN is 0.
local function as_bytes(tensor, options)
  if core.dtype(tensor) == "u8" and not options.range then return tensor end
  if dtypes[core.dtype(tensor)].kind == "integer" and not options.range then
    fail("pictures of %s need the option range = {black, white}", core.dtype(tensor))
  end
  local low, high = range_of(options)
  local numbers = core.to(tensor, {dtype = "f32"})
  numbers = core.add(core.mul(core.sub(numbers, low), 255 / (high - low)), 0.5)
  return core.to(core.clamp(numbers, 0, 255), {dtype = "u8"})
end

--- A function write(put) of a picture of a tensor (height, width) or (1 to 4 samples, height, width).
function png.writer(tensor, options)
  if not core.is_tensor(tensor) then fail("a tensor expected, got %s", type(tensor)) end
  local shape = core.shape(tensor)
  local samples = #shape == 2 and 1 or shape[1]
  if #shape ~= 2 and #shape ~= 3 or not colour_types[samples] then
    fail("a tensor of shape (height, width) or (1 to 4, height, width) expected, got (%s)", table.concat(shape, ", "))
  end
  local height, width = shape[#shape - 1], shape[#shape]
  if height < 1 or width < 1 or height > largest_side or width > largest_side then
    fail("a picture can't be %.0f pixels wide and %.0f high", width, height)
  end
  local pixels = as_bytes(core.requires_grad(tensor) and core.share(tensor) or tensor, options)
  if #shape == 3 then pixels = core.permute(pixels, 2, 3, 1) end
  pixels = elements.on_cpu(pixels)
  return function(put)
    local function chunk(kind, data)
      local sum = zlib.crc32()
      sum(kind)
      local text = big_endian(#data) .. kind .. data .. big_endian(sum(data))
      put(text, #text)
    end
    put("\137PNG\r\n\26\n", 8)
    chunk("IHDR", big_endian(width) .. big_endian(height) .. "\8" .. string.char(colour_types[samples]) .. "\0\0\0")
    local deflate, row_bytes = zlib.deflate(), width * samples
    local address = ffi.cast("const char *", core.data(pixels))
    for first = 0, height - 1, rows_at_once do
      local rows = {}
      for row = first, math.min(first + rows_at_once, height) - 1 do
        rows[#rows + 1] = "\0" .. ffi.string(address + row * row_bytes, row_bytes) -- filter 0: none
      end
      local data = deflate(table.concat(rows))
      if #data > 0 then chunk("IDAT", data) end
    end
    chunk("IDAT", (deflate("", "finish")))
    chunk("IEND", "")
  end
end

return png
