--- What optimizers take as parameters: a module, a list of tensors, or a list of groups of either.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local list_length = require "fp8.list_length"

local replaced = require "fp8.replaced"

local raise = core.raise

local parameters = {}

local function is_module(value) return type(value) == "table" and type(value.parameters) == "function" end

--- An error if parameter number `position` is one that module:to has replaced.
function parameters.check_current(name, position, parameter)
  if not replaced[parameter] then return end
  raise(("%s: parameter %d was replaced when its module was converted or moved: take the parameters after module:to")
    :format(name, position))
end

--- The tensors of a module or a list, as a list; may be empty.
-- @param name of the function, for errors
function parameters.list(name, source)
  if is_module(source) then source = source:parameters() end
  if type(source) ~= "table" then
    raise(("%s: a module or a list of parameters is needed, got %s"):format(name,
      core.is_tensor(source) and "a tensor" or type(source)))
  end
  local list = {}
  for i = 1, list_length(name, source) do
    if not core.is_tensor(source[i]) then
      raise(("%s: parameter %d must be a tensor, got %s"):format(name, i, type(source[i])))
    end
    parameters.check_current(name, i, source[i])
    list[i] = source[i]
  end
  return list
end

local function check(name, list, seen)
  for i, parameter in ipairs(list) do
    if not core.requires_grad(parameter) or not autograd.is_leaf(parameter) then
      raise(("%s: parameter %d must be a leaf that requires a gradient"):format(name, i))
    elseif not core.is_contiguous(parameter) then
      raise(("%s: parameter %d must be contiguous"):format(name, i))
    elseif seen[parameter] then
      raise(("%s: parameter %d is given twice"):format(name, i))
    end
    seen[parameter] = true
  end
  return list
end

local function is_group(value)
  return type(value) == "table" and not is_module(value) and (value.parameters ~= nil or value.params ~= nil)
end

--- A list of groups {parameters = list, and the other fields}, made from any of the three forms; a group that is given
-- may call the list `params`, as PyTorch does.
-- @param name of the optimizer, for errors
-- @param check_settings check_settings(name, settings) raises an error if the fields of a group are wrong
function parameters.groups(name, source, check_settings)
  local seen, groups, count = {}, {}, 0
  if type(source) ~= "table" or is_module(source) or not is_group(source[1]) then
    groups[1] = {parameters = check(name, parameters.list(name, source), seen)}
    count = #groups[1].parameters
  else
    for i = 1, list_length(name, source) do
      local label = ("%s: group %d"):format(name, i)
      if not is_group(source[i]) then raise(label .. " must be a table with a field parameters") end
      local group, own = {}, source[i].parameters
      for key, value in pairs(source[i]) do
        if key ~= "parameters" and key ~= "params" then group[key] = value end
      end
      if own == nil then
        own = source[i].params
      elseif source[i].params ~= nil then
        raise(label .. " has both parameters and params, two names of one field")
      end
      check_settings(label, group)
      group.parameters = check(label, parameters.list(label, own), seen)
      groups[i], count = group, count + #group.parameters
    end
  end
  if count == 0 then
    raise(name .. ": a module or a list of parameters is needed, with at least one parameter")
  end
  return groups
end

return parameters
