--- fp8.load and fp8.save: safetensors files.
local bit = require "bit"
local ffi = require "ffi"
local write_atomically = require("fp8.files.atomic_file").write
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local paths = require "fp8.files.paths"
local safetensors = require "fp8.files.safetensors"

ffi.cdef "size_t fread(void *data, size_t size, size_t count, void *file);"

local C = ffi.C
local raise = core.raise

local files = {}

local doubles_at_once = 65536
local nan = 0 / 0

local booleans = setmetatable({}, {__mode = "k"}) -- the tensors that were read from BOOL

-- One of these may have been written to.
local function is_boolean(tensor)
  return booleans[tensor] and (core.numel(tensor) == 0 or core.item(core.max(tensor)) <= 1) or false
end

local function fail(message, ...) error({message = message:format(...)}, 0) end

-- Calls f(…); an error becomes one of `caller` about `path`.
local function guarded(caller, path, f, ...)
  local ok, first, second = pcall(f, ...)
  if ok then return first, second end
  local message = type(first) == "table" and first.message or tostring(first):gsub("^[^\n]-:%d+: ", "")
  raise(("%s: %s: %s"):format(caller, path, message))
end

local function read_bytes(file, address, bytes)
  if tonumber(C.fread(address, 1, bytes, file)) ~= bytes then fail("can't read: the file is shorter than it was") end
end

-- A NaN may have any bits. LuaJIT keeps what isn't a number in those that no processor makes: read as a number such a
-- NaN would be nil, or an address.
local function read_doubles(file, address, count)
  local target, buffer = ffi.cast("float *", address), ffi.new("double[?]", math.min(count, doubles_at_once))
  local words = ffi.cast("uint32_t *", buffer)
  for start = 0, count - 1, doubles_at_once do
    local length = math.min(count - start, doubles_at_once)
    read_bytes(file, buffer, 8 * length)
    for i = 0, length - 1 do
      local high = bit.band(words[2 * i + 1], 0x7FFFFFFF)
      local is_nan = high > 0x7FF00000 or high == 0x7FF00000 and words[2 * i] ~= 0
      target[start + i] = is_nan and nan or buffer[i]
    end
  end
end

local function read_tensor(file, entry, device)
  local tensor = core.empty(entry.shape, {dtype = entry.dtype, device = "cpu"})
  if entry.is_double then
    read_doubles(file, core.data(tensor), entry.count)
  elseif entry.bytes > 0 then
    read_bytes(file, core.data(tensor), entry.bytes)
  end
  if device then tensor = core.to(tensor, {device = device}) end
  if entry.is_boolean then booleans[tensor] = true end
  return tensor
end

local function read_file(file, options)
  local size, reason = file:seek("end")
  if not size then fail("can't read: %s", reason) end
  file:seek("set", 0)
  local start, why = file:read(safetensors.start_bytes)
  if not start and why then fail("can't read: %s", why) end
  if not start or #start < 8 then fail("the file is too short to be a safetensors file: %d bytes", size) end
  local length = safetensors.read_length(start, size)
  file:seek("set", 8)
  local text = length > 0 and file:read(length) or ""
  if #text < length then fail("can't read: the file is shorter than it was") end
  local entries, metadata = safetensors.read_header(text, size - 8 - length, options)
  local tensors = {}
  for _, entry in ipairs(entries) do tensors[entry.name] = read_tensor(file, entry, options.device) end
  return tensors, metadata
end

--- Reads a safetensors file.
-- Types: F32, F16, BF16, F8_E4M3, F8_E5M2, U8, I32, I64, and BOOL as u8; these tensors are BOOL again where fp8.save
-- writes them.
-- @param path    of the file
-- @param options {device = where the tensors go (the CPU if left out), f64 = "f32" to read double precision as f32}
-- @return table of tensors by name; table of metadata strings by name
--   local path = os.tmpname()
--   fp8.save(path, {x = fp8.tensor {1, 2}}, {step = "3"})
--   fp8.load(path).x --> {1, 2}
--   select(2, fp8.load(path)).step --> "3"
function files.load(path, options)
  paths.check("load", path)
  options = check_options("load", options, {device = "device", f64 = true})
  if options.f64 ~= nil and options.f64 ~= "f32" then
    raise('load: option f64 must be "f32", got ' .. tostring(options.f64))
  end
  local file, reason = paths.open(path)
  if not file then raise("load: " .. reason) end
  return guarded("load", path, function()
    local ok, tensors, metadata = pcall(read_file, file, options)
    file:close()
    if not ok then error(tensors, 0) end
    return tensors, metadata
  end)
end

local function save(path, tensors, metadata)
  local header, entries = safetensors.write_header(tensors, metadata, is_boolean)
  write_atomically(path, function(put)
    put(header, #header)
    for _, entry in ipairs(entries) do
      local elements = core.contiguous(core.to(entry.tensor, {device = "cpu"}))
      if entry.bytes > 0 then put(core.data(elements), entry.bytes) end
    end
  end)
end

--- Writes a safetensors file. It appears under its name only when it is complete and on the disk: whatever happens, a
-- file that was there before is whole until then (atomic_file.lua).
-- @param path     of the file
-- @param tensors  table of tensors by name, of any dtype and device
-- @param metadata table of strings by name, or nil; with names and shapes of the tensors they may be 100,000,000 bytes
--   of JSON, as in the reference implementation
--   fp8.save(os.tmpname(), {weight = fp8.zeros(2, 3)}, {note = "the first"}) --> nil
function files.save(path, tensors, metadata)
  paths.check("save", path)
  if type(tensors) ~= "table" then raise("save: tensors must be a table, got " .. type(tensors)) end
  if metadata ~= nil and type(metadata) ~= "table" then
    raise("save: metadata must be a table of strings, got " .. type(metadata))
  end
  guarded("save", path, save, path, tensors, metadata)
end

return files
