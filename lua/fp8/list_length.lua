--- The number of elements of a list that Lua code reads; those that the core reads are checked there in the same way.
local raise = require("fp8.core").raise

--- An error unless the keys of a table are 1 … n: the # of one with holes may be any of several numbers.
-- @param name of the function and its argument, for errors
local function list_length(name, list)
  local count, last = 0, 0
  for key in next, list do
    if type(key) ~= "number" then
      raise(("%s: a list is expected, got a table with a field '%s'"):format(name, tostring(key)))
    elseif key < 1 or key ~= math.floor(key) then
      raise(("%s: lists count from 1, got element %.14g"):format(name, key))
    end
    count, last = count + 1, math.max(last, key)
  end
  if count == last then return count end
  local hole = 1
  while rawget(list, hole) ~= nil do hole = hole + 1 end
  raise(("%s: element %d of the list is missing"):format(name, hole))
end

jit.off(list_length) -- nn/module.lua says why

return list_length
