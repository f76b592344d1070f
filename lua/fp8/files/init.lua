--- fp8.load and fp8.save: safetensors files, and those of NumPy (.npy, .npz), of tables (.csv) and of pictures (.png),
-- by the end of their names.
local write_atomically = require("fp8.files.atomic_file").write
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local elements = require "fp8.files.elements"
local later = require "fp8.later"
local paths = require "fp8.files.paths"
local safetensors = require "fp8.files.safetensors"

local raise = core.raise

local files = {}

local others = {npy = "fp8.files.npy", npz = "fp8.files.npz", csv = "fp8.files.csv", png = "fp8.files.png"}

local function fail(message, ...) error({message = message:format(...)}, 0) end

-- Calls f(…); an error becomes one of `caller` about `path`.
local function guarded(caller, path, f, ...)
  local ok, first, second = pcall(f, ...)
  if ok then return first, second end
  local message = type(first) == "table" and first.message or tostring(first):gsub("^[^\n]-:%d+: ", "")
  raise(("%s: %s: %s"):format(caller, path, message))
end

-- What reads and writes files that are called so, if that is no safetensors file; and how their names end.
local function format_of(path)
  local ending = path:match "%.([%w]+)$"
  local name = ending and others[ending:lower()]
  return name and later(name), ending
end

local function read_safetensors(file, size, options)
  local start, why = file:read(safetensors.start_bytes)
  if not start and why then fail("can't read: %s", why) end
  if not start or #start < 8 then fail("the file is too short to be a safetensors file: %d bytes", size) end
  local length = safetensors.read_length(start, size)
  file:seek("set", 8)
  local text = length > 0 and file:read(length) or ""
  if #text < length then fail("can't read: the file is shorter than it was") end
  local entries, metadata = safetensors.read_header(text, size - 8 - length, options)
  local tensors, read = {}, elements.reader(file)
  for _, entry in ipairs(entries) do tensors[entry.name] = elements.read(read, entry, options.device) end
  return tensors, metadata
end

local function read_file(read, file, options)
  local size, reason = file:seek("end")
  if not size then fail("can't read: %s", reason) end
  file:seek("set", 0)
  return read(file, size, options)
end

local function load(format, path, options)
  options = check_options("load", options, format and format.options or {device = "device", f64 = true})
  if options.f64 ~= nil and options.f64 ~= "f32" then
    raise('load: option f64 must be "f32", got ' .. tostring(options.f64))
  end
  local file, reason = paths.open(path)
  if not file then raise("load: " .. reason) end
  return guarded("load", path, function()
    local ok, tensors, more = pcall(read_file, format and format.read or read_safetensors, file, options)
    file:close()
    if not ok then error(tensors, 0) end
    return tensors, more
  end)
end

--- Reads a safetensors file, whatever its name ends in.
function files.load_safetensors(path, options)
  paths.check("load", path)
  return load(nil, path, options)
end

--- Reads a file: a safetensors file, unless its name ends in .npy, .npz or .csv.
-- Types of safetensors: F32, F16, BF16, F8_E4M3, F8_E5M2, U8, I32, I64, and BOOL as u8; of NumPy's files: float32,
-- float16, uint8, int32, int64, and bool as u8. What was boolean is so again where fp8.save writes it. F64, float64, is
-- read by request.
-- @param path    of the file
-- @param options {device = where the tensors go (the CPU if left out), f64 = "f32" to read double precision as f32,
--   dtype = of a .csv file's tensor (f32 if left out)}
-- @return of a safetensors file a table of tensors by name, and a table of metadata strings by name; of .npz a table
--   of tensors by name; of .npy a tensor; of .csv a tensor of rows and columns, and the list of the columns' names
--   where the first line has such. In a .csv file, lines that are empty or begin with # are left out.
--   local path = os.tmpname()
--   fp8.save(path, {x = fp8.tensor {1, 2}}, {step = "3"})
--   fp8.load(path).x --> {1, 2}
--   select(2, fp8.load(path)).step --> "3"
function files.load(path, options)
  paths.check("load", path)
  local format, ending = format_of(path)
  if format and not format.read then raise(("load: %s: .%s files can be written, not read"):format(path, ending)) end
  return load(format, path, options)
end

local function save_safetensors(path, tensors, metadata)
  local header, entries = safetensors.write_header(tensors, metadata, elements.is_boolean)
  write_atomically(path, function(put)
    put(header, #header)
    for _, entry in ipairs(entries) do
      local values = elements.on_cpu(entry.tensor)
      if entry.bytes > 0 then put(core.data(values), entry.bytes) end
    end
  end)
end

--- Writes a safetensors file, whatever its name ends in.
function files.save_safetensors(path, tensors, metadata)
  paths.check("save", path)
  if type(tensors) ~= "table" then raise("save: tensors must be a table, got " .. type(tensors)) end
  if metadata ~= nil and type(metadata) ~= "table" then
    raise("save: metadata must be a table of strings, got " .. type(metadata))
  end
  guarded("save", path, save_safetensors, path, tensors, metadata)
end

--- Writes a file: a safetensors file, unless its name ends in .npy, .npz, .csv or .png. It appears under its name
-- only when it is complete and on the disk: whatever happens, a file that was there before is whole until then
-- (atomic_file.lua).
--
-- A .png file is a picture of a tensor of shape (height, width) or (1 to 4, height, width): grey, grey and alpha,
-- colours, colours and alpha. Numbers from 0 to 1 go from black to white, others to the nearer of both, and NaN to
-- black; a u8 tensor has 0 to 255. The option range = {black, white} says other numbers, of any dtype.
-- @param path     of the file
-- @param tensors  table of tensors by name, of any dtype and device; for .npy, .csv and .png one tensor. NumPy has f32,
--   f16, u8, i32 and i64; a .csv file is of 1 or 2 dimensions
-- @param metadata of a safetensors file: table of strings by name, or nil; with names and shapes of the tensors they
--   may be 100,000,000 bytes of JSON, as in the reference implementation. Of other files, options: for .npz {compress
--   = true}, for .csv {names = list of the columns' names}, for .png {range = {black, white}}
--   fp8.save(os.tmpname(), {weight = fp8.zeros(2, 3)}, {note = "the first"}) --> nil
--   local path = os.tmpname() .. ".csv"
--   fp8.save(path, fp8.tensor {{1, 2}, {3, 4.5}}, {names = {"step", "loss"}})
--   local x, names = fp8.load(path)
--   os.remove(path)
--   x --> {{1, 2}, {3, 4.5}}
function files.save(path, tensors, metadata)
  paths.check("save", path)
  local format = format_of(path)
  if not format then return files.save_safetensors(path, tensors, metadata) end
  local options = check_options("save", metadata, format.save_options or {})
  guarded("save", path, function() write_atomically(path, format.writer(tensors, options)) end)
end

return files
