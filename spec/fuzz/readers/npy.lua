--- fp8.load of NumPy's files of one array, and fp8.save of what it gives.
local fp8 = require "fp8"
local compare = require "spec.fuzz.compare"
local numpy = require "spec.fuzz.numpy"

-- What is there in rows and little-endian is there as it is; the bytes of double precision were rounded.
local function verify(tensor, bytes, path)
  local elements = compare.bytes(tensor)
  local header = bytes:sub(1, #bytes - #elements)
  if header:find "'descr'%s*:%s*'[<|]" and not header:find("<f8", 1, true) and header:find("False", 1, true) then
    compare.same("elements", bytes:sub(#bytes - #elements + 1), elements)
  end
  path = path .. ".npy"
  fp8.save(path, tensor)
  compare.same("tensor", compare.text(tensor), compare.text(fp8.load(path)))
end

local kinds = {}
for kind in (numpy.kinds .. [[
the file is too short to be a NumPy array: … bytes
]]):gmatch "[^\n]+" do kinds[#kinds + 1] = "load: FILE.npy: " .. kind end

return {
  files = {"lua/fp8/files/npy.lua", "lua/fp8/files/elements.lua"},
  kinds = kinds,
  memory = function(bytes) return 2 * #bytes + 64 end, -- columns are read, and then made rows
  read = function(path) return numpy.read(path, ".npy") end, verify = verify, mutate = numpy.mutate,
}
