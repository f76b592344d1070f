--- .npz, NumPy's file of several arrays: a zip archive whose members are .npy files, compressed or not.
local ffi = require "ffi"
local core = require "fp8.core"
local elements = require "fp8.files.elements"
local is_utf8 = require("fp8.files.safetensors").is_utf8
local npy = require "fp8.files.npy"
local zip = require "fp8.files.zip"
local dtypes = core.dtypes

local npz = {options = npy.options, save_options = {compress = "boolean"}}

local longest_name = 65535
local bytes_at_once = 2^20

local function fail(message, ...) error({message = message:format(...)}, 0) end

--- Reads a file that is open, of so many bytes.
function npz.read(file, bytes, options)
  local tensors = {}
  for _, member in ipairs(zip.members(file, bytes)) do
    local name = member.name:match "^(.*)%.npy$"
    if not name then fail("member '%s' is no .npy file", member.name) end
    if not is_utf8(name) then fail "the name of a member is not UTF-8" end
    if tensors[name] then fail("there are two members '%s'", member.name) end
    local ok, result = pcall(function()
      local opened = zip.open(file, member)
      local tensor = npy.read_elements(opened.read, npy.read_header(opened.text, member.bytes, options), options.device)
      opened.finish()
      return tensor
    end)
    if not ok then
      local message = type(result) == "table" and result.message
      if message and not message:find "^member" then fail("member '%s': %s", member.name, message) end
      error(result, 0)
    end
    tensors[name] = result
  end
  return tensors
end

-- Calls write(string) with a tensor's file, piece by piece.
local function write_pieces(tensor, write)
  write(npy.write_header(tensor))
  local values = elements.on_cpu(tensor)
  local bytes = core.numel(values) * dtypes[core.dtype(values)].size
  local address = bytes > 0 and ffi.cast("const char *", core.data(values))
  for start = 0, bytes - 1, bytes_at_once do
    write(ffi.string(address + start, math.min(bytes_at_once, bytes - start)))
  end
end

--- A function write(put) of a file of tensors by name.
function npz.writer(tensors, options)
  if type(tensors) ~= "table" then fail("tensors must be a table, got %s", type(tensors)) end
  local members = {}
  for name, tensor in next, tensors do
    if type(name) ~= "string" or not is_utf8(name) or name:find "%z" or #name + 4 > longest_name then
      fail("the name of a tensor must be a string that is UTF-8, got %s", tostring(name))
    end
    if not core.is_tensor(tensor) then fail("'%s' must be a tensor, got %s", name, type(tensor)) end
    local ok, reason = pcall(npy.write_header, tensor)
    if not ok then
      if type(reason) == "table" then fail("'%s': %s", name, reason.message) end
      error(reason, 0)
    end
    members[#members + 1] = {name = name .. ".npy", pieces = function(write) write_pieces(tensor, write) end}
  end
  table.sort(members, function(a, b) return a.name < b.name end)
  return function(put) zip.write(put, members, options.compress) end
end

return npz
