--- Reader of idx files, the format of MNIST and its relatives: a zero u16, an element type, the number of dimensions,
-- the sizes as big-endian u32, then the elements, big-endian. Compressed ones (gzip) are inflated as they are read.
local bit = require "bit"
local ffi = require "ffi"
local zlib = require "fp8.files.package" "zlib"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local dtypes = require("fp8.core").dtypes
local paths = require "fp8.files.paths"

local raise = core.raise

local largest_rank = 8
-- Deflate makes at most 1,032 bytes of one, so that a piece of this length gives 4 MiB at most.
local piece_bytes = 4096
local largest_expansion = 1032

local types = {
  [0x08] = "u8", [0x09] = "i8", [0x0B] = "i16", [0x0C] = "i32", [0x0D] = "f32", [0x0E] = "f64",
}

local function fail(message, ...) error({message = message:format(...)}, 0) end

-- A function that returns the file's contents piece by piece, inflated if they are compressed, and nil at the end.
local function open_pieces(file)
  local magic = file:read(2)
  file:seek("set", 0)
  if magic ~= "\31\139" then
    return function() return file:read(piece_bytes) end, false
  end
  -- One member after the other, as gzip and Python's gzip read them; zeros may follow the last. What is left of a piece
  -- after the end of a member is kept in `rest`.
  local inflate, used, rest = zlib.inflate(), 0, ""
  local function next_piece()
    local piece = rest ~= "" and rest or file:read(piece_bytes)
    rest = ""
    if not inflate then
      while piece and not piece:find "%Z" do piece = file:read(piece_bytes) end
      if not piece then return nil end
      -- A piece may end between the two bytes by which a member is known.
      piece = piece:match "%Z.*"
      if #piece == 1 then piece = piece .. (file:read(1) or "") end
      if piece:sub(1, 2) ~= "\31\139" then fail("there are bytes after the end of the compressed data") end
      inflate, used = zlib.inflate(), 0
    end
    if not piece then fail("the compressed data is truncated") end
    local ok, output, ended, consumed = pcall(inflate, piece)
    if not ok and tostring(output):find "[Mm]emory" then error(output, 0) end
    if not ok then fail("the compressed data is damaged (%s)", tostring(output):gsub("^[^\n]-:%d+: ", "")) end
    if ended then
      inflate, rest = nil, piece:sub(consumed - used + 1)
    end
    used = used + #piece
    return output
  end
  return next_piece, true
end

-- At least `count` bytes from the pieces, all that came with them included.
local function read_at_least(next_piece, count, start)
  while #start < count do
    local piece = next_piece()
    if not piece then fail("the file ends within its header") end
    start = start .. piece
  end
  return start
end

local function big_endian(text, position)
  local a, b, c, d = text:byte(position, position + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- Dtype and shape, the number of elements, and what was read beyond the header.
local function read_header(next_piece)
  local text = read_at_least(next_piece, 4, "")
  local zero, also_zero, code, rank = text:byte(1, 4)
  if zero ~= 0 or also_zero ~= 0 then fail("this is not an idx file: it must begin with two zero bytes") end
  local name = types[code]
  if not name then fail("unknown element type 0x%02X", code) end
  if not dtypes[name] then fail("element type %s is not supported; u8, i32 and f32 are", name) end
  if rank < 1 or rank > largest_rank then fail("%d dimensions; 1 to %d are supported", rank, largest_rank) end
  text = read_at_least(next_piece, 4 + 4 * rank, text)
  local shape, count, largest = {}, 1, dtypes[name].size
  for i = 1, rank do
    shape[i] = big_endian(text, 1 + 4 * i)
    count, largest = count * shape[i], largest * math.max(shape[i], 1) -- a tensor without elements has strides too
  end
  if largest >= 2^53 then fail("sizes %s are too large", table.concat(shape, " x ")) end
  return name, shape, count, text:sub(5 + 4 * rank)
end

local function swap_bytes(address, count)
  local words = ffi.cast("int32_t *", address)
  for i = 0, count - 1 do words[i] = bit.bswap(words[i]) end
end

local function read_file(file)
  local file_bytes = file:seek("end")
  file:seek("set", 0)
  local next_piece, compressed = open_pieces(file)
  local dtype, shape, count, piece = read_header(next_piece)
  local bytes, filled = count * dtypes[dtype].size, 0
  -- Before memory is asked for: can the file hold that much at all?
  if bytes > file_bytes * (compressed and largest_expansion or 1) then
    fail("the header promises %.0f bytes, more than the file can hold", bytes)
  end
  local tensor = core.empty(shape, {dtype = dtype, device = "cpu"})
  local target = ffi.cast("uint8_t *", core.data(tensor))
  while piece do
    if filled + #piece > bytes then fail("there are bytes after the last element") end
    ffi.copy(target + filled, piece, #piece)
    filled = filled + #piece
    piece = next_piece()
  end
  if filled < bytes then fail("the file is truncated: %.0f of %.0f bytes", filled, bytes) end
  if dtypes[dtype].size == 4 then swap_bytes(target, count) end
  return tensor
end

--- Reads an idx file, compressed with gzip or not, of element type u8, i32 or f32.
-- @param path    of the file
-- @param options {device = where the tensor goes, the CPU if left out}
-- @return a tensor of the file's shape
--   local path = os.tmpname()
--   local file = io.open(path, "wb")
--   file:write "\0\0\8\1\0\0\0\3\5\6\7" -- u8, one dimension of 3
--   file:close()
--   fp8.data.read_idx(path) --> {5, 6, 7}
return function(path, options)
  paths.check("read_idx", path)
  options = check_options("read_idx", options, {device = "device"})
  local file, reason = paths.open(path)
  if not file then raise("read_idx: " .. reason) end
  local ok, result = pcall(function()
    local _, why, code = file:read(0)
    if code then fail("can't read: %s", why) end
    return read_file(file)
  end)
  file:close()
  if not ok then
    local message = type(result) == "table" and result.message or tostring(result):gsub("^[^\n]-:%d+: ", "")
    raise(("read_idx: %s: %s"):format(path, message))
  end
  return options and options.device and core.to(result, {device = options.device}) or result
end
