--- Modules that only hold others: what they are called in state_dict is their position or key.
local core = require "fp8.core"
local list_length = require "fp8.list_length"
local Module = require "fp8.nn.module"

local raise = core.raise

local function check_part(class_name, what, part)
  if not Module.is_module(part) then
    raise(("%s: %s must be a module, got %s"):format(class_name, what, type(part)))
  end
  return part
end

local ModuleList = Module:extend("ModuleList")

--- fp8.nn.ModuleList{first, second, …} or fp8.nn.ModuleList(): modules that are fields 1, 2, …, for a forward function
-- that calls them itself. #list is how many there are, and ipairs(list) goes through them.
--   local layers = fp8.nn.ModuleList {fp8.Linear(4, 4), fp8.Linear(4, 2)}
--   #layers:append(fp8.nn.ReLU()) --> 3
function ModuleList:init(parts)
  if parts == nil then parts = {} end
  if type(parts) ~= "table" or Module.is_module(parts) then
    raise("ModuleList: a list of modules is needed, got " .. (type(parts) == "table" and "a module" or type(parts)))
  end
  for i = 1, list_length("ModuleList", parts) do self:append(parts[i]) end
end

--- list:append(module): one more at the end.
-- @return the list
function ModuleList:append(part)
  local position = #self + 1
  self[position] = check_part("ModuleList", ("part %d"):format(position), part)
  return self
end

local ModuleDict = Module:extend("ModuleDict")

--- fp8.nn.ModuleDict{key = module, …} or fp8.nn.ModuleDict(): modules that are fields by their keys: dict.key. Keys are
-- strings without a dot that name nothing which a module has anyway. dict:children() goes through them, in the order
-- of their keys.
--   fp8.nn.ModuleDict({gate = fp8.nn.Sigmoid()}).gate(fp8.zeros(1)) --> {0.5}
function ModuleDict:init(parts)
  if parts == nil then parts = {} end
  if type(parts) ~= "table" or Module.is_module(parts) then
    raise("ModuleDict: a table of modules is needed, got " .. (type(parts) == "table" and "a module" or type(parts)))
  end
  local keys = {}
  for key in next, parts do
    if type(key) ~= "string" then
      raise("ModuleDict: keys must be strings, got " .. tostring(key))
    elseif key == "" or key:find(".", 1, true) then
      raise(("ModuleDict: a key can't be empty or have a dot, got '%s'"):format(key))
    elseif ModuleDict[key] ~= nil then
      raise(("ModuleDict: '%s' can't be a key: every module has that field"):format(key))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do self[key] = check_part("ModuleDict", "part " .. key, parts[key]) end
end

jit.off(ModuleDict.init) -- nn/module.lua says why

return {ModuleList = ModuleList, ModuleDict = ModuleDict}
