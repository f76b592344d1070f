--- fp8.data.read_idx, of plain and compressed files.
local bit = require "bit"
local zlib = require "zlib"
local core = require "fp8.core"
local fp8 = require "fp8"
local compare = require "spec.fuzz.compare"

local codes = {u8 = "\8", i32 = "\12", f32 = "\13"}

local function is_compressed(bytes) return bytes:sub(1, 2) == "\31\139" end

-- The bytes of an idx file of a tensor.
local function encode(tensor)
  local shape, dtype = core.shape(tensor), core.dtype(tensor)
  local parts = {"\0\0", codes[dtype], string.char(#shape)}
  for _, size in ipairs(shape) do
    for shift = 24, 0, -8 do parts[#parts + 1] = string.char(bit.band(bit.rshift(size, shift), 255)) end
  end
  local elements = compare.bytes(tensor)
  parts[#parts + 1] = dtype == "u8" and elements or elements:gsub("....", string.reverse)
  return table.concat(parts)
end

-- A plain file is what its tensor makes of it again; a compressed one holds the same tensor as a plain one.
local function verify(tensor, bytes, path)
  local again = encode(tensor)
  if not is_compressed(bytes) then return compare.same("file", bytes, again) end
  local file = assert(io.open(path, "wb"))
  file:write(again)
  file:close()
  compare.same("tensor", compare.text(tensor), compare.text(fp8.data.read_idx(path)))
end

local function inflated(bytes)
  local ok, text = pcall(zlib.inflate(), bytes)
  return ok and text or nil
end

-- One to three members that hold the text.
local function deflated(text, random)
  local members, count = {}, random(3) == 1 and random(3) or 1
  for i = 1, count do
    local from, to = math.floor(#text * (i - 1) / count), math.floor(#text * i / count)
    members[i] = zlib.deflate(random(10) - 1, 31)(text:sub(from + 1, to), "finish")
  end
  return table.concat(members) .. ("\0"):rep(random(4) == 1 and random(16) or 0)
end

local function mutate(bytes, longest, random, mutate_bytes)
  local text = is_compressed(bytes) and random(4) > 1 and inflated(bytes)
  if text and #text > 0 and #text <= longest then return deflated(mutate_bytes(text, longest), random) end
  if random(64) == 1 then return deflated(bytes, random) end
  return mutate_bytes(bytes, longest)
end

local kinds = {}
for kind in ([[
this is not an idx file: it must begin with two zero bytes
unknown element type 0x…
element type … is not supported; u8, i32 and f32 are
… dimensions; 1 to 8 are supported
sizes … are too large
the header promises … bytes, more than the file can hold
the file ends within its header
the file is truncated: … of … bytes
there are bytes after the last element
there are bytes after the end of the compressed data
the compressed data is truncated
the compressed data is damaged (…)
]]):gmatch "[^\n]+" do kinds[#kinds + 1] = "read_idx: FILE: " .. kind end

return {
  files = {"lua/fp8/data/idx.lua", "lua/fp8/files/paths.lua"},
  kinds = kinds,
  memory = function(bytes) return #bytes * (is_compressed(bytes) and 1032 or 1) end,
  read = fp8.data.read_idx, verify = verify, mutate = mutate,
}
