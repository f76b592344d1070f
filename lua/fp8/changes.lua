--- Changes of tables and tensors that are made together: all of them, or none where an error comes up, be it for lack
-- of memory or one that a debug hook raises, which is how Ctrl-C reaches a script.
local core = require "fp8.core"

local commit, with = core.commit, core.with

local changes = {}

local open = {list = false} -- what `together` collects: {fields =, count =, copies =, sums =, seed =, position =}

--- Whether `together` collects changes now.
function changes.are_open() return open.list and true or false end

--- table[key] = value, without metamethods.
function changes.set(table, key, value)
  local list = open.list
  local fields, count = list.fields, list.count
  fields[3 * count + 1], fields[3 * count + 2], fields[3 * count + 3] = table, key, value
  list.count = count + 1
end

-- Two tensors into the open list's `name`.
local function append(name, tensor, other)
  local list = open.list
  local tensors = list[name] or {}
  local count = #tensors
  tensors[count + 1], tensors[count + 2] = tensor, other
  list[name] = tensors
end

--- tensor:copy_(source)
function changes.copy(tensor, source) append("copies", tensor, source) end

--- tensor:add_(addend), of the same shape, dtype and device.
function changes.add(tensor, addend) append("sums", tensor, addend) end

--- fp8.manual_seed(seed, position)
function changes.seed(seed, position) open.list.seed, open.list.position = seed, position end

local function finish(list, ...)
  commit(list.fields, list.count, list.copies, list.sums, list.seed, list.position)
  return ...
end

local function collect(list, f, ...) return finish(list, f(...)) end

--- Calls f(…), and then makes all changes that it has asked for with the functions above, unless it raised an error.
-- Inside of another call they wait for the end of that one.
-- @return what f returns
function changes.together(f, ...)
  if open.list then return f(...) end
  local list = {fields = {}, count = 0}
  return with(open, "list", list, collect, list, f, ...)
end

return changes
