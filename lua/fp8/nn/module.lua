--- The base of all modules: a table whose tensors are its parameters and whose modules are its parts. Modules may
-- also be in plain tables in its fields, however deep: self.layers = {fp8.Linear(8, 8)} makes a "layers.1.weight".
-- Tensors may not: a parameter there is an error, and one that requires no gradient is no part of the module.
--
--   local Net = fp8.nn.Module:extend("Net")
--   function Net:init(width)
--     self.hidden = fp8.Linear(784, width)
--     self.output = fp8.Linear(width, 10)
--   end
--   function Net:forward(x) return self.output(self.hidden(x):relu()) end
--   local net = Net(256)
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local calls = require "fp8.nn.calls"
local changes = require "fp8.changes"
local computable = require "fp8.computable"
local known_fields = require "fp8.nn.fields"
local later = require "fp8.later"
local nearest = require "fp8.nearest"
local parts = require "fp8.nn.parts"
local public = require "fp8.public"
local replaced = require "fp8.replaced"
local to_options = require("fp8.ops.copy").to_options
local views = require "fp8.ops.view"
local shapes = require "fp8.shapes"

local raise = core.raise

-- unsearched: the fields with plain tables of its own that a class knows to have no modules in them.
local Module = {training = true, unsearched = {}}

--- module.class_name: the name of its class, which is printed and stands in errors.
--   fp8.nn.ReLU().class_name --> "ReLU"
Module.class_name = "Module"
Module.__index = Module

setmetatable(Module, {__index = function(_, key) return known_fields.missing(Module, key) end})

local function construct(class, ...)
  local object = setmetatable({}, class)
  public.check_arguments(class.class_name, class.init, ...)
  object:init(...)
  return object
end

local function call(self, ...)
  local observer = calls.observer
  if observer then return observer(self, ...) end
  return self:forward(...)
end

--- A new class of modules, derived from this one. Calling it makes an object and passes the arguments to `init`;
-- calling the object calls `forward`.
--   local Double = fp8.nn.Module:extend "Double"
--   function Double:forward(x) return x * 2 end
--   Double()(fp8.tensor {3}) --> {6}
--   fp8.nn.Module.is_module(Double()) --> true
function Module:extend(class_name)
  local class = {
    class_name = class_name, __call = call, __tostring = self.__tostring, __newindex = known_fields.remember,
  }
  class.__index = class
  return setmetatable(class, {__index = self, __call = construct})
end

--- Replace these two: what a class does with the arguments that it is called with, and its objects with theirs.
--   fp8.Linear(4, 3):forward(fp8.ones(1, 4)).shape --> {1, 3}
function Module.init() end
function Module:forward() raise(self.class_name .. ": this module has no forward function") end

-- The parameters that requires_grad_(false) has frozen.
local frozen = setmetatable({}, {__mode = "k"})

-- Full names and tensors, in an order that depends on names only; a tensor that is shared counts under its first name.
local function list_tensors(module, wanted)
  local names, tensors, seen = {}, {}, {}
  for _, entry in ipairs(parts.list_tensors(module)) do
    local tensor = entry.owner[entry.field]
    if not seen[tensor] and (not wanted or wanted(tensor)) then
      seen[tensor] = true
      names[#names + 1], tensors[#tensors + 1] = entry.name, tensor
    end
  end
  return names, tensors
end

-- The same function, which LuaJIT is not to compile: that would keep what it refers to alive.
local function interpreted(iterator)
  jit.off(iterator)
  return iterator
end

--- for name, part in module:children() do … end: the modules that are fields of this one or in plain tables there
-- ("layers.1"), in an order that depends on names only.
--   fp8.nn.Sequential(fp8.nn.ReLU(), fp8.nn.Tanh()):children()() --> "1"
function Module:children()
  local list, position = parts.list(self), 0
  return interpreted(function()
    repeat
      position = position + 1
    until list[position] == nil or parts.is_module(list[position].value)
    local part = list[position]
    if part then return part.name, part.value end
  end)
end

--- A list of the tensors that require a gradient, those of the module's parts included.
--   #fp8.Linear(4, 3):parameters() --> 2
function Module:parameters()
  local _, tensors = list_tensors(self, core.requires_grad)
  return tensors
end

--- for name, parameter in module:named_parameters() do … end; a part's names follow its own and a dot: "1.weight".
--   fp8.nn.Sequential(fp8.Linear(4, 3)):named_parameters()() --> "1.bias"
function Module:named_parameters()
  local names, tensors = list_tensors(self, core.requires_grad)
  local position = 0
  return interpreted(function()
    position = position + 1
    return names[position], tensors[position]
  end)
end

--- A table of all tensors by name, for fp8.save; they share the module's memory. A tensor that several parts share is
-- there once, under its first name.
--   fp8.Linear(4, 3):state_dict().weight.shape --> {3, 4}
function Module:state_dict()
  local state = {}
  local names, tensors = list_tensors(self)
  for i, name in ipairs(names) do state[name] = views.detach(tensors[i]) end
  return state
end

-- Dtypes other than these three mean nothing by themselves where a weight is expected: float8 tensors and codes have
-- their scale somewhere else.
local function check_dtype(name, dtype, source)
  if source == dtype or computable[source] and computable[dtype] then return end
  local text = ("load_state_dict: %s is %s in the module, %s in the table"):format(name, dtype, source)
  if not computable[dtype] then raise(text) end
  raise(('%s: if it has a scale multiply by that, else load its :to "%s"'):format(text, dtype))
end

local function check_source(name, tensor, source)
  local shape = shapes.text(core.shape(tensor))
  if not core.is_tensor(source) then
    raise(("load_state_dict: %s must be a tensor, got %s"):format(name, type(source)))
  elseif shapes.text(core.shape(source)) ~= shape then
    raise(("load_state_dict: %s has shape %s in the module, %s in the table"):format(name, shape,
      shapes.text(core.shape(source))))
  end
  check_dtype(name, core.dtype(tensor), core.dtype(source))
end

--- What a tensor of this module is loaded from, given what the table has for it, or nil. To be replaced.
--   fp8.nn.ReLU():source_of("weight", nil) --> nil
function Module.source_of(_, _, source) return source end

local most_listed = 10 -- names in an error

local function listed(what, names)
  if #names == 0 then return nil end
  table.sort(names)
  local text = table.concat(names, ", ", 1, math.min(#names, most_listed))
  return ("%s: %s%s"):format(what, text,
    #names > most_listed and (" and %d more"):format(#names - most_listed) or "")
end

-- Fails if the table lacks names of the module, or has others; one of those says which missing name it is nearest to.
local function check_names(state, known, missing)
  local absent, unexpected = {}, {}
  for _, name in ipairs(missing) do absent[name] = true end
  for name in pairs(state) do
    if not known[name] then
      local meant = nearest.name(name, nil, absent)
      unexpected[#unexpected + 1] = tostring(name) .. (meant and (" (did you mean %s?)"):format(meant) or "")
    end
  end
  if #missing == 0 and #unexpected == 0 then return end
  local lists = {}
  lists[1] = listed("the table lacks", missing)
  lists[#lists + 1] = listed("the module has no tensor", unexpected)
  raise("load_state_dict: " .. table.concat(lists, "; "))
end

local function load_state_dict(self, state)
  local sources, known = {}, {}
  for _, entry in ipairs(parts.list_tensors(self)) do
    local name, owner, field = entry.name, entry.owner, entry.field
    local tensor, source = owner[field], owner:source_of(field, state[name])
    known[name] = true
    if source ~= nil then
      check_source(name, tensor, source)
      sources[tensor] = source
    end
  end
  local names, tensors = list_tensors(self)
  local missing = {}
  for i, name in ipairs(names) do
    if not sources[tensors[i]] then missing[#missing + 1] = name end
  end
  check_names(state, known, missing)
  for _, tensor in ipairs(tensors) do changes.copy(tensor, sources[tensor]) end
end

--- Copies tensors from a table such as state_dict returns. Names and shapes must match exactly except
-- where source_of says otherwise, devices need not, and f32, f16 and bf16 go into one another; any other dtype must be
-- the same. Nothing is copied if anything is wrong. A shared tensor may come under one or all of its names, of which
-- the last counts, as in PyTorch.
-- @return the module
--   local layer = fp8.Linear(1, 1):load_state_dict {weight = fp8.tensor {{2}}, bias = fp8.tensor {1}}
--   layer(fp8.tensor {{3}}) --> {{7}}
function Module:load_state_dict(state)
  if type(state) ~= "table" then raise("load_state_dict: a table is needed, got " .. type(state)) end
  changes.together(load_state_dict, self, state)
  return self
end

local function is_float(tensor) return computable[core.dtype(tensor)] or false end

--- Whether the tensor in a field of this module keeps its dtype when the module is converted. To be replaced.
--   fp8.nn.ReLU():keeps_dtype "weight" --> false
function Module.keeps_dtype() return false end

local function move(self, options)
  local moved, gone = {}, {}
  local fields, again = parts.list_tensors(self)
  for _, entry in ipairs(fields) do
    local owner, old = entry.owner, entry.owner[entry.field]
    if not moved[old] then
      local converted = is_float(old) and not owner:keeps_dtype(entry.field)
      local new = core.to(old, converted and options or {device = options.device})
      if new ~= old then
        core.set_requires_grad(new, core.requires_grad(old))
        frozen[new] = frozen[old]
        gone[#gone + 1] = old
      end
      moved[old] = new
    end
  end
  for _, list in ipairs {fields, again} do
    for _, entry in ipairs(list) do changes.set(entry.owner, entry.field, moved[entry.owner[entry.field]]) end
  end
  for i = 1, #gone do changes.set(replaced, gone[i], true) end
end

--- Converts and moves the module's tensors: module:to("cuda"), :to("bf16"), :to{dtype =, device =}; a dtype is for
-- float tensors only, and not for those of keeps_dtype. The module gets new tensors without gradients, so make
-- optimizers afterwards: one made before refuses to step.
-- @return the module
--   fp8.Linear(4, 3):to("bf16").weight.dtype --> "bf16"
function Module:to(...)
  changes.together(move, self, to_options(...))
  return self
end

local function set_training(module, flag, seen)
  changes.set(module, "training", flag)
  seen[module] = true
  for _, part in module:children() do
    if not seen[part] then set_training(part, flag, seen) end
  end
end

local function with_training(module, flag)
  changes.together(set_training, module, flag, {})
  return module
end

--- Sets the field `training` of the module and its parts, which modules that behave differently in training look at.
-- @return the module
--   fp8.nn.Dropout():eval().training --> false
--   fp8.nn.Dropout():eval():train().training --> true
function Module:train() return with_training(self, true) end
function Module:eval() return with_training(self, false) end

--- Freezes the module, which has no parameters then, those of its parts included; or, with true, gives it back those
-- that were frozen. Optimizers take the parameters that there are when they are made.
-- @param flag whether parameters require a gradient (true)
-- @return the module
--   #fp8.Linear(4, 3):requires_grad_(false):parameters() --> 0
--   #fp8.Linear(4, 3):requires_grad_(false):requires_grad_():parameters() --> 2
function Module:requires_grad_(flag)
  if flag == nil then flag = true end
  if type(flag) ~= "boolean" then raise("requires_grad_: a boolean is needed, got " .. type(flag)) end
  local _, tensors = list_tensors(self, flag and function(tensor) return frozen[tensor] end or core.requires_grad)
  for i = 1, #tensors do
    autograd.set_requires_grad(tensors[i], flag)
    frozen[tensors[i]] = not flag or nil
  end
  return self
end

--- Drops the gradients of all parameters.
--   local layer = fp8.Linear(4, 3)
--   layer(fp8.ones(2, 4)):sum():backward()
--   layer:zero_grad()
--   layer.weight.grad --> nil
function Module:zero_grad()
  autograd.drop_grads(self:parameters())
end

local function list_modules(module, name, names, modules, seen)
  seen[module] = true
  names[#names + 1], modules[#modules + 1] = name, module
  for field, part in module:children() do
    if not seen[part] then list_modules(part, (name == "" and "" or name .. ".") .. field, names, modules, seen) end
  end
end

--- for name, module in model:named_modules() do … end; the module itself, whose name is "", then its parts and theirs,
-- each once.
--   select("#", fp8.nn.ReLU():named_modules()()) --> 2
function Module:named_modules()
  local names, modules, position = {}, {}, 0
  list_modules(self, "", names, modules, {})
  return interpreted(function()
    position = position + 1
    return names[position], modules[position]
  end)
end

--- What tells this module from others of its class, for its text: "768, 12 heads". To be replaced.
--   fp8.Linear(4, 3):description() --> "4, 3, bias = true"
function Module.description() return "" end

--- The class name and description, and the parts, functions too, on lines of their own in the order in which they
-- became fields: the tree of all modules. After each that has parameters is how many elements these have, those of its
-- parts included and those that parts share once.
function Module:__tostring() return later "fp8.nn.fields.text"(self) end

--- Whether a value is an object of a module class.
Module.is_module = parts.is_module

public.methods(Module, "children", "parameters", "named_parameters", "state_dict", "train", "eval",
  "requires_grad_", "zero_grad", "named_modules")

return Module
