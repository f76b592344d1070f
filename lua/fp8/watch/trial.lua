--- One forward and backward pass of a model whose layers have other plans meanwhile, for fp8.sensitivity. It leaves
-- nothing behind: layers compute as before, with the histories of delayed scaling, quantized weights and observers that
-- they had; tensors that are no parameters (running means, say) have their values, and the generator its state.
-- Gradients are taken from the walk back, and never enter `.grad`.
local autograd = require "fp8.autograd"
local changes = require "fp8.changes"
local core = require "fp8.core"
local layers = require "fp8.nn.convert.layers"
local linear_state = require "fp8.linear.state"
local parts = require "fp8.nn.parts"
local scope = require "fp8.scope"
local views = require "fp8.ops.view"
local walk = require "fp8.autograd.walk"

local raise = core.raise

local trial = {}

-- A state for one pass by another plan: its histories are empty, so that the scale is that of the pass itself.
local function empty_state(layer, plan)
  local state = linear_state.new {}
  changes.together(linear_state.renew, state, nil, plan, core.device(layer.weight))
  return state
end

-- A state for one pass by the layer's own plan. The histories are among the tensors that get their values back.
local function copied_state(layer)
  local state = linear_state.new(layer)
  for field, contents in pairs(layer.state.recorded) do state.recorded[field] = contents end
  return state
end

-- The tensors of a model that a pass may change: a list of {tensor =, copy =, version =}.
local function changing_tensors(model, kept)
  local list = {}
  for _, entry in ipairs(parts.list_tensors(model)) do
    local tensor = entry.owner[entry.field]
    local is_factor = kept[entry.owner] and (entry.field == "weight" or entry.field == "bias")
    if not core.requires_grad(tensor) and not is_factor then
      list[#list + 1] = {tensor = tensor, copy = core.clone(tensor), version = core.version(tensor)}
    end
  end
  return list
end

-- The rest of this part undoes a pass, and allocates nothing: it may follow an error for lack of memory.

-- Gives tensors back the values that they had.
local function restore_tensors(list)
  for i = 1, #list do
    local entry = list[i]
    if core.version(entry.tensor) ~= entry.version then
      core.copy_(entry.tensor, entry.copy)
      entry.version = core.version(entry.tensor)
    end
  end
end

-- Sets a field, nil included, unless it has that value.
local function restore_field(object, field, value)
  if rawget(object, field) ~= value then rawset(object, field, value) end
end

local function give_back(self)
  local before = self.before
  for i = 1, #before do
    local entry = before[i]
    restore_field(entry.layer, "plan", entry.plan)
    restore_field(entry.layer, "state", entry.state)
  end
  restore_field(self.model, "forward", self.forward)
  core.manual_seed(self.seed, self.position)
  restore_tensors(self.tensors)
end

--- Passes of `f`, a function without arguments that returns the loss and maybe the model's output.
-- @param converted the layers to which trial.run gives plans: a list of {layer =}
function trial.new(model, f, converted)
  local self = {model = model, f = f, before = {}, is_converted = {}, forward = rawget(model, "forward")}
  for _, entry in ipairs(converted) do self.is_converted[entry.layer] = true end
  local kept = {}
  for _, entry in ipairs(layers.all(model)) do
    local layer = entry.layer
    kept[layer] = entry.kind == "layer"
    self.before[#self.before + 1] = {
      layer = layer, kind = entry.kind, plan = rawget(layer, "plan"), state = rawget(layer, "state"),
    }
  end
  self.seed, self.position = core.random_state()
  self.tensors = changing_tensors(model, kept)
  return self
end

-- A state for one pass. Attention keeps nothing from call to call, but shows its operands to no watcher meanwhile.
local function state_for(entry, converted, plan)
  if entry.kind ~= "layer" then return {} end
  return converted and empty_state(entry.layer, plan) or copied_state(entry.layer)
end

-- Has every layer compute by the plan of `plans`, or by its own where it is none of the converted ones.
local function take_plans(self, plans)
  for _, entry in ipairs(self.before) do
    local layer, converted = entry.layer, self.is_converted[entry.layer]
    if entry.state then rawset(layer, "state", state_for(entry, converted, plans[layer])) end
    if converted then rawset(layer, "plan", plans[layer]) end
  end
end

local function check_loss(loss)
  if core.is_tensor(loss) and core.numel(loss) == 1 and autograd.edge(loss) then return end
  raise("sensitivity: the function must return a loss, a tensor of one element that requires a gradient, got " ..
    (core.is_tensor(loss) and "a tensor of " .. core.numel(loss) or type(loss)))
end

-- The gradients of leaves by their nodes.
local function gradients_of(loss)
  local first = core.full(core.shape(loss), 1, {dtype = core.dtype(loss), device = core.device(loss)})
  local arrived, gradients = walk(autograd.edge(loss), first, nil, false), {}
  for i = 1, #arrived, 2 do
    if arrived[i].leaf then gradients[arrived[i]] = arrived[i + 1] end
  end
  return gradients
end

-- Has the model note what its calls return, in noted.output.
local function note_output(model, noted)
  local forward = model.forward
  local function finish(...)
    noted.output = ...
    return ...
  end
  rawset(model, "forward", function(...) return finish(forward(...)) end)
end

local function pass(self, plans)
  local noted = {}
  take_plans(self, plans)
  note_output(self.model, noted)
  core.manual_seed(self.seed, self.position)
  local loss, output = autograd.recorded(self.f)
  check_loss(loss)
  if not core.is_tensor(output) then output = noted.output end
  output = core.is_tensor(output) and views.detach(output) or nil
  return {loss = core.item(loss), output = output, gradients = gradients_of(loss)}
end

jit.off(pass) -- nn/module.lua says why

local function visited(self, visit, plans)
  return visit(core.finally(function() give_back(self) end, pass, self, plans))
end

--- Calls visit({loss = a number, output = what the function returned as its second value, else what the model returned
-- in its last call, nil for nothing, gradients = by leaf node}) for one pass, and returns what it returns.
-- @param plans by layer; a converted one without a plan computes plain products
function trial.run(self, plans, visit) return scope(visited, self, visit, plans) end

return trial
