--- What all optimizers have in common: checked parameters and settings, gradients to zero, and state to save.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local graph = require "fp8.graph"
local shapes = require "fp8.shapes"

local raise = core.raise

local Optimizer = {}
Optimizer.__index = Optimizer

local function check_parameters(name, parameters)
  if type(parameters) == "table" and type(parameters.parameters) == "function" then
    parameters = parameters:parameters()
  end
  if type(parameters) ~= "table" or #parameters == 0 then
    raise(name .. ": a module or a list of parameters is needed, with at least one parameter")
  end
  local list = {}
  for i = 1, #parameters do
    local parameter = parameters[i]
    if not core.is_tensor(parameter) then
      raise(("%s: parameter %d must be a tensor, got %s"):format(name, i, type(parameter)))
    elseif not core.requires_grad(parameter) or not autograd.is_leaf(parameter) then
      raise(("%s: parameter %d must be a leaf that requires a gradient"):format(name, i))
    end
    list[i] = parameter
  end
  return list
end

local function check_settings(name, settings, defaults)
  if settings ~= nil and type(settings) ~= "table" then
    raise(("%s: options must be a table, got %s"):format(name, type(settings)))
  end
  for key, value in pairs(settings or {}) do
    if defaults[key] == nil then raise(("%s: unknown option %s"):format(name, tostring(key))) end
    if type(value) ~= type(defaults[key]) or value ~= value or (type(value) == "number" and value < 0) then
      raise(("%s: option %s must be a %s, got %s"):format(name, key, type(defaults[key]) == "number" and
        "number of at least 0" or "boolean", tostring(value)))
    end
  end
end

--- A class of optimizers.
-- @param name     for errors and tostring
-- @param defaults settings with their values; they become fields of the object and can be changed between steps
-- @param moments  moments(settings): names of the f32 tensors that are kept for each parameter
-- @param kind     which of core's updates is used: "sgd" or "adamw"
-- @param settings_at settings_at(self, steps): what the update takes of them after so many steps; a table that is
--                 used again
-- @param update   update(parameter, grad, state, settings, live): one step of one parameter; state has the moments, and
--                 `steps`, the number of steps before this one; live is nil, or holds the settings too (graph.lua)
function Optimizer.class(name, defaults, moments, kind, settings_at, update)
  local class = setmetatable({defaults = defaults, kind = kind, settings = settings_at, update = update}, Optimizer)
  class.__index = class
  function class.__tostring(self) return ("%s(%d parameters, lr = %g)"):format(name, #self.parameters, self.lr) end
  return function(parameters, settings)
    check_settings(name, settings, defaults)
    local self = setmetatable({}, class)
    for key, default in pairs(defaults) do
      self[key] = default
      if settings and settings[key] ~= nil then self[key] = settings[key] end
    end
    self.parameters = check_parameters(name, parameters)
    self.moment_names = moments(self)
    self.state = {}
    for i, parameter in ipairs(self.parameters) do
      self.state[i] = {steps = 0}
      for _, moment in ipairs(self.moment_names) do
        self.state[i][moment] = core.zeros(core.shape(parameter), {dtype = "f32", device = core.device(parameter)})
      end
    end
    return self
  end
end

-- The same while a graph is captured: nothing is updated yet, so no step counted.
local function capture_step(self)
  local live_steps = {} -- by the number of steps that their parameters have had
  for i, parameter in ipairs(self.parameters) do
    local grad, state = autograd.grad(parameter), self.state[i]
    if grad then
      local steps = state.steps
      local step = live_steps[steps] or graph.live_step(self, core.device(parameter))
      live_steps[steps] = step
      step.states[#step.states + 1] = state
      self.update(parameter, grad, state, self:settings(steps), step.live)
    end
  end
end

--- Updates every parameter that has a gradient, in place.
function Optimizer:step()
  if graph.open() then return capture_step(self) end
  local update, states = self.update, self.state
  local settings, settings_of -- for parameters that have had `settings_of` steps
  for i, parameter in ipairs(self.parameters) do
    local grad = autograd.grad(parameter)
    if grad then
      local state = states[i]
      local steps = state.steps
      if steps ~= settings_of then settings, settings_of = self:settings(steps), steps end
      update(parameter, grad, state, settings)
      state.steps = steps + 1
    end
  end
end

--- Drops the gradients of all parameters.
function Optimizer:zero_grad()
  for _, parameter in ipairs(self.parameters) do autograd.set_grad(parameter, nil) end
end

--- Settings and moments: {settings = {lr = …}, state = {{steps =, …}, …}}, one entry a parameter. Shares the
-- moments' memory.
function Optimizer:state_dict()
  local settings, state = {}, {}
  for key in pairs(self.defaults) do settings[key] = self[key] end
  for i, entry in ipairs(self.state) do
    state[i] = {}
    for key, value in pairs(entry) do state[i][key] = value end
  end
  return {settings = settings, state = state}
end

local function check_state(self, dict)
  if type(dict) ~= "table" or type(dict.settings) ~= "table" or type(dict.state) ~= "table" then
    raise("load_state_dict: a table {settings =, state =} is needed")
  end
  check_settings("load_state_dict", dict.settings, self.defaults)
  if #dict.state ~= #self.state then
    raise(("load_state_dict: state of %d parameters, the optimizer has %d"):format(#dict.state, #self.state))
  end
  for i, entry in ipairs(self.state) do
    local source = dict.state[i]
    if type(source) ~= "table" or type(source.steps) ~= "number" then
      raise(("load_state_dict: state %d must be a table with a number `steps`"):format(i))
    end
    for key in pairs(source) do
      if entry[key] == nil then
        raise(("load_state_dict: state %d has %s, which this optimizer does not keep"):format(i, tostring(key)))
      end
    end
    for _, moment in ipairs(self.moment_names) do
      local need = shapes.text(core.shape(entry[moment]))
      local have = core.is_tensor(source[moment]) and shapes.text(core.shape(source[moment])) or type(source[moment])
      if have ~= need then
        raise(("load_state_dict: %s of parameter %d must be a tensor %s, got %s"):format(moment, i, need, have))
      end
    end
  end
end

--- Takes over what state_dict returned for the same parameters; the moments are copied. Nothing changes if anything is
-- wrong.
function Optimizer:load_state_dict(dict)
  check_state(self, dict)
  for i, entry in ipairs(self.state) do
    for _, moment in ipairs(self.moment_names) do core.copy_(entry[moment], dict.state[i][moment]) end
    entry.steps = dict.state[i].steps
  end
  for key, value in pairs(dict.settings) do self[key] = value end
end

return Optimizer
