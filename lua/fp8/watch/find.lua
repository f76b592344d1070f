--- fp8.watch.find: the first tensor of a training step that is not finite.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local calls = require "fp8.nn.calls"
local comparison = require "fp8.watch.compare"
local computable = require "fp8.computable"
local Module = require "fp8.nn.module"

local raise = core.raise

local Finding = {}
Finding.__index = Finding

function Finding:__tostring()
  local where = self.layer == "" and "" or self.layer .. ": "
  return ("%s%s has %s"):format(where, self.tensor, comparison.nonfinite_text(self, self.shape))
end

-- A finding if `tensor` holds a NaN or an infinity, else nil.
local function inspect(layer, name, tensor)
  if not core.is_tensor(tensor) or not computable[core.dtype(tensor)] then return nil end
  local row = comparison.new_rows(core.device(tensor))
  core.compare(row, tensor)
  local statistics = comparison.read(core.to(row, {device = "cpu"}), 0)
  core.free(row)
  if statistics.nonfinite == 0 then return nil end
  return setmetatable({layer = layer, tensor = name, nonfinite = statistics.nonfinite,
    first_nonfinite = statistics.first_nonfinite, shape = core.shape(tensor)}, Finding)
end

-- The search so far: `finding`, `names` of modules, and the `outputs` of modules, {layer =, module =, tensor =}, in the
-- order in which they were complete, each tensor under the module that was first to return it.
local function new_search(model)
  local search = {names = {}, outputs = {}, seen = {}}
  for name, module in model:named_modules() do
    search.names[module] = name == "" and module.class_name or name
  end
  return search
end

local function look(search, layer, name, tensor)
  if not search.finding and not search.seen[tensor] then search.finding = inspect(layer, name, tensor) end
end

local function finish_call(search, module, layer, ...)
  for i = 1, select("#", ...) do
    local output = select(i, ...)
    if core.is_tensor(output) and not search.seen[output] then
      look(search, layer, "output", output)
      search.seen[output] = true
      search.outputs[#search.outputs + 1] = {layer = layer, module = module, tensor = output}
      if autograd.needs_grad(output) then autograd.retain_grad(output) end
    end
  end
  return ...
end

local function observe(search, module, ...)
  local layer = search.names[module] or module.class_name
  for i = 1, select("#", ...) do
    local input = select(i, ...)
    if core.is_tensor(input) then
      look(search, layer, "input", input)
      search.seen[input] = true
    end
  end
  for name, value in next, module do
    if type(name) == "string" then look(search, layer, name, value) end
  end
  return finish_call(search, module, layer, module:forward(...))
end

jit.off(observe) -- nn/module.lua says why

-- Gradients in the order of the backward pass: those of outputs, last first, each before those of its module's own
-- parameters.
local function look_at_gradients(search)
  for i = #search.outputs, 1, -1 do
    local output = search.outputs[i]
    look(search, output.layer, "grad_output", autograd.grad(output.tensor))
    for name, value in next, output.module do
      if core.is_tensor(value) then
        look(search, output.layer, ("the gradient of %s"):format(name), autograd.grad(value))
      end
    end
  end
end

jit.off(look_at_gradients)

--- Runs a training step again, or any part of one, and looks at every tensor that passes between modules: their inputs,
-- parameters and outputs, what `f` returns, and, if `f` calls backward, the gradients of outputs and parameters. Slow:
-- it waits for the device after every call.
--
--   print(fp8.watch.find(model, function()
--     local loss = fp8.cross_entropy(model(x), target)
--     loss:backward()
--     return loss
--   end))
--
-- @param model a module
-- @param f     a function without arguments; not a captured graph, which runs no Lua
-- @return the first tensor in the order of computation that holds a NaN or an infinity, as {layer = name of the module
--   in the model, "" for what f returned, tensor = "input", "output", "grad_output" (the gradient of the output), the
--   name of a parameter, or "the gradient of " one, nonfinite = how many, first_nonfinite = position, shape =},
--   whose tostring is a sentence; nil if all are finite
--   local model = fp8.nn.Sequential(fp8.Linear(2, 2), fp8.nn.ReLU())
--   model[1].weight:detach():fill_(0 / 0)
--   fp8.watch.find(model, function() return model(fp8.ones(1, 2)) end).tensor --> "weight"
return function(model, f)
  if not Module.is_module(model) then raise("find: a module is needed, got " .. type(model)) end
  if type(f) ~= "function" then raise("find: a function is needed, got " .. type(f)) end
  local search = new_search(model)
  local function observer(module, ...) return observe(search, module, ...) end
  local result = core.with(calls, "observer", observer, f)
  look(search, "", "what the function returned", result)
  look_at_gradients(search)
  return search.finding
end
