--- fp8.load of NumPy's files of several arrays, and fp8.save of what it gives.
local fp8 = require "fp8"
local compare = require "spec.fuzz.compare"
local numpy = require "spec.fuzz.numpy"

local function verify(tensors, _, path)
  path = path .. ".npz"
  for _, options in ipairs {{compress = false}, {compress = true}} do
    fp8.save(path, tensors, options)
    compare.same_tensors(tensors, fp8.load(path))
  end
end

-- One of the arrays that are stored in it, another one; its checksum, of which there are two copies, is made right by
-- saving what can be read.
local function mutate(bytes, longest, random, mutate_bytes)
  if random(3) > 1 then return mutate_bytes(bytes, longest) end
  local start = bytes:find("\147NUMPY", 1, true)
  if not start then return mutate_bytes(bytes, longest) end
  local changed = numpy.mutate(bytes:sub(start, start + 255), 256, random, mutate_bytes)
  return (bytes:sub(1, start - 1) .. changed .. bytes:sub(start + 256)):sub(1, longest)
end

local kinds = {}
for kind in ([[
not a zip archive: it is too short
not a zip archive, or a truncated one: there is no directory at its end
the directory's end is damaged
a directory of … bytes is too long
the directory lies outside the file
the directory is damaged
the directory has … entries, not …
member '…': its sizes are missing
member '…' is encrypted
member '…' is compressed by method …; deflate is supported
member '…' lies outside the file
member '…' has no header
member '…' can't have … bytes, out of … in the file
members '…' and '…' overlap
member '…' is no .npy file
the name of a member is not UTF-8
there are two members '…'
member '…': its compressed data is truncated
member '…': its compressed data is damaged
member '…': there are bytes after its compressed data
member '…' has more bytes than the directory says
member '…' is truncated
member '…' is damaged: its checksum is wrong
member '…': the file is too short to be a NumPy array: … bytes
]]):gmatch "[^\n]+" do kinds[#kinds + 1] = "load: FILE.npz: " .. kind end
for kind in numpy.kinds:gmatch "[^\n]+" do kinds[#kinds + 1] = "load: FILE.npz: member '…': " .. kind end

return {
  files = {"lua/fp8/files/npz.lua", "lua/fp8/files/zip.lua"},
  kinds = kinds,
  memory = function(bytes) return 2 * 1032 * #bytes + 64 end,
  read = function(path) return numpy.read(path, ".npz") end, verify = verify, mutate = mutate,
}
