--- Whether two things that were read are the same.
local ffi = require "ffi"
local core = require "fp8.core"

local compare = {}

local function fail(what, a, b) error(("%s: %s became %s"):format(what, tostring(a), tostring(b)), 0) end

--- An error unless two plain values are the same: tables have the same contents.
function compare.same(what, a, b)
  if type(a) ~= type(b) then fail(what, a, b) end
  if type(a) ~= "table" then
    if a ~= b then fail(what, a, b) end
    return
  end
  for key, value in pairs(a) do compare.same(("%s.%s"):format(what, tostring(key)), value, b[key]) end
  for key, value in pairs(b) do
    if a[key] == nil then fail(("%s.%s"):format(what, tostring(key)), nil, value) end
  end
end

--- The bytes of a tensor's elements, row-major; it is on the CPU.
function compare.bytes(tensor)
  local elements, width = core.contiguous(tensor), core.dtypes[core.dtype(tensor)].size
  return ffi.string(core.data(elements), core.numel(elements) * width)
end

--- Its dtype, shape and bytes, as one string.
function compare.text(tensor)
  return ("%s (%s) %s"):format(core.dtype(tensor), table.concat(core.shape(tensor), ", "), compare.bytes(tensor))
end

--- By name, the texts of tensors.
function compare.texts(tensors)
  local texts = {}
  for name, tensor in pairs(tensors) do texts[name] = compare.text(tensor) end
  return texts
end

--- An error unless two tables of tensors by name hold the same ones.
function compare.same_tensors(a, b) compare.same("tensors", compare.texts(a), compare.texts(b)) end

return compare
