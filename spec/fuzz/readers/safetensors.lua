--- fp8.load, and fp8.save of what it gives.
local cjson = require "cjson"
local fp8 = require "fp8"
local compare = require "spec.fuzz.compare"
local mutations = require "spec.fuzz.mutations"

local words = {
  "__metadata__", "dtype", "shape", "data_offsets", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "U8", "I32", "I64",
  "BOOL", "F64", "I16", "x", "", "\\u0078", "\195\169", "\1",
}

-- Double precision only if there is some, so that it is seen to be refused without the option.
local function read(path)
  local ok, tensors, metadata = pcall(fp8.load, path)
  if not ok and tensors:find("has dtype F64", 1, true) then tensors, metadata = fp8.load(path, {f64 = "f32"})
  elseif not ok then error(tensors, 0) end
  return {tensors = tensors, metadata = metadata}
end

-- Where the header says that a tensor is, there are its bytes. Those of double precision were rounded.
local function check_places(tensors, bytes)
  local length = bytes:byte(1) + 256 * bytes:byte(2)
  local header = cjson.decode(bytes:sub(9, 8 + length))
  header.__metadata__ = nil
  for name, entry in pairs(header) do
    local start, stop = unpack(entry.data_offsets)
    if entry.dtype ~= "F64" then
      compare.same("tensor " .. name, bytes:sub(9 + length + start, 8 + length + stop), compare.bytes(tensors[name]))
    end
  end
end

local function verify(found, bytes, path)
  check_places(found.tensors, bytes)
  fp8.save(path, found.tensors, found.metadata)
  local tensors, metadata = fp8.load(path)
  compare.same("metadata", found.metadata, metadata)
  compare.same_tensors(found.tensors, tensors)
end

local kinds = {}
for kind in ([[
the file is too short to be a safetensors file: … bytes
not a safetensors file: it seems to be …
not a safetensors file: its header does not begin with {
not a safetensors file: its header would have … bytes, the file has …
the header has … bytes, the file …: it is truncated, or not a safetensors file
the header is not a JSON object
the header contains a zero byte
the header is not UTF-8
the header is not valid JSON: Expected … but found …
the header is not valid JSON: Found too many nested data structures …
the header is not valid JSON: the number …
the header is not valid JSON: the string … has the control character …
the header's field '…' must be an object
the header has the field '…' twice
__metadata__ must hold strings, got … for '…'
tensor '…': dtype must be a string
tensor '…': dtype … is not supported
tensor '…': shape must be a list
tensor '…': data_offsets must be a list
tensor '…': shape must hold whole numbers of at least 0, got …
tensor '…': data_offsets must hold whole numbers of at least 0, got …
tensor '…': data_offsets must be two numbers, got …
tensor '…' has … dimensions: at most 8 are supported
tensor '…': shape … is too large
tensor '…': … bytes of … are needed, its data_offsets hold …
tensor '…' ends at byte … of …: the file is truncated or its header is wrong
tensor '…' overlaps another one
… bytes before tensor '…' belong to no tensor
… bytes after the last tensor belong to no tensor
]]):gmatch "[^\n]+" do kinds[#kinds + 1] = "load: FILE: " .. kind end

return {
  files = {
    "lua/fp8/files/init.lua", "lua/fp8/files/safetensors.lua", "lua/fp8/files/json.lua", "lua/fp8/files/paths.lua",
    "lua/fp8/files/atomic_file.lua", "lua/fp8/files/elements.lua",
  },
  kinds = kinds,
  memory = function(bytes) return #bytes end,
  read = read, verify = verify,
  mutate = function(bytes, ...) return mutations.safetensors(bytes, words, {}, ...) end,
}
