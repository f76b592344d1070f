--- The bytes of a text file, compressed with gzip or not.
local ffi = require "ffi"
local fp8 = require "fp8"
local zlib = require "zlib"

local default_path = "/usr/share/doc/jargon-text/jargon.txt.gz"

local piece_length = 2^16

-- What a file of gzip holds: one member after the other, after which it may be filled up with zeros.
local function inflated(compressed)
  local position, pieces = 1, {}
  repeat
    local inflate, start = zlib.inflate(), position
    local finished, used
    repeat
      local piece = compressed:sub(position, position + piece_length - 1)
      pieces[#pieces + 1], finished, used = inflate(piece)
      position = position + #piece
    until finished or position > #compressed
    if not finished then error "the last member has no end" end
    position = start + used
  until not compressed:find("%Z", position)
  return table.concat(pieces)
end

local function read_all(path)
  local file, reason = io.open(path, "rb")
  if not file then
    if path == default_path then
      error(("there is no %s; install Debian's package jargon-text, or name another file with --text"):format(path), 0)
    end
    error(reason, 0)
  end
  local text, why = file:read "*a"
  file:close()
  if not text then error(("%s: %s"):format(path, why), 0) end
  if text:sub(1, 2) ~= "\31\139" then return text end
  local ok, found = pcall(inflated, text)
  if not ok then error(path .. ": the compressed data is damaged or truncated", 0) end
  return found
end

--- @param path   of the file; nil for that of the Debian package jargon-text
-- @param device where the text goes
-- @return u8 (n); and a text that tells these bytes from others
return function(path, device)
  local text = read_all(path or default_path)
  local bytes = fp8.empty(#text, {dtype = "u8", device = "cpu"})
  ffi.copy(bytes:data(), text, #text)
  return bytes:to {device = device}, ("of %d bytes with CRC-32 %08x"):format(#text, zlib.crc32()(text))
end
