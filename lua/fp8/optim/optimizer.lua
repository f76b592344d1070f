--- What all optimizers have in common: groups of parameters with their settings, and steps of all parameters at once.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local graph = require "fp8.graph"
local is_whole = require "fp8.is_whole"
local later = require "fp8.later"
local live_step = require "fp8.optim.live_step"
local moments = require "fp8.optim.moments"
local parameters = require "fp8.optim.parameters"
local public = require "fp8.public"
local state = require "fp8.optim.state"

local raise = core.raise

local Optimizer = {}
Optimizer.__index = Optimizer

local optional = {check_group = true, expand = true, takes_whole = true, shard = true} -- of a class, or an object

-- A misspelt setting is an error, read or written: optimizer.weight_deacy = 0 would change nothing.
local function check_field(class, key)
  if not optional[key] and class.defaults[key] == nil then later "fp8.near_miss"(class.name, key, class.defaults) end
end

-- The settings that are strings: of 16-bit parameters, and of Muon.
local choices = {
  rounding = {nearest = true, stochastic = true, text = '"nearest" or "stochastic"'},
  adjust_lr_fn = {
    original = true, match_rms_adamw = true, spectral_unclamped = true,
    text = '"original", "match_rms_adamw" or "spectral_unclamped"',
  },
}

-- Betas are shares that moving averages keep: 1 would never let a gradient in. Muon's steps are those of a loop.
local function is_right(key, value, default)
  if type(default) == "string" then return value ~= "text" and choices[key][value] ~= nil end
  if type(default) ~= "number" then return type(value) == type(default) end
  if key == "ns_steps" then return is_whole(value, 1) and value < 100 end
  return type(value) == "number" and value >= 0 and value < math.huge and (not key:find "^beta" or value < 1)
end

local function kind_of(key, default)
  if type(default) == "string" then return choices[key].text end
  if type(default) ~= "number" then return "a boolean" end
  if key == "ns_steps" then return "a whole number from 1 to 99" end
  return key:find "^beta" and "a number from 0 to below 1" or "a finite number of at least 0"
end

local function check_setting(name, key, value, default)
  if is_right(key, value, default) then return end
  raise(("%s: option %s must be %s, got %s"):format(name, key, kind_of(key, default), tostring(value)))
end

--- Fails for a group with the settings of `own`, where it has them, and else of `shared` that don't go together.
-- @param label for errors
function Optimizer.check_together(label, own, shared)
  local masters, rounding = own.master_weights, own.rounding
  if masters == nil then masters = shared.master_weights end
  if rounding == nil then rounding = shared.rounding end
  if masters and rounding == "stochastic" then
    raise(label .. ': rounding = "stochastic" is instead of master_weights: one of the two')
  end
end

local function resolved(self, group)
  local settings = {}
  Optimizer.check_together(self.name, group, self)
  for key, default in pairs(self.defaults) do
    local value = group[key]
    if value == nil then value = self[key] end
    check_setting(self.name, key, value, default)
    settings[key] = value
  end
  if self.rule == "sgd" and settings.nesterov and settings.momentum == 0 then
    raise(self.name .. ": option nesterov needs a momentum")
  end
  return settings
end

--- The settings that hold for a group now: its own, and the optimizer's for the others.
function Optimizer:settings_of(group)
  local settings = resolved(self, group)
  for i, moment in ipairs(self.moments(settings)) do
    if moment ~= group.moments[i] then
      raise(("%s: %s after the optimizer was made"):format(self.name,
        settings.use_muon == nil and "momentum can't be switched on" or "use_muon can't be changed"))
    end
  end
  return settings
end

--- The settings of a batch's step number `step`, as core.update takes them.
function Optimizer:settings_at(batch, step)
  local settings = self:settings_of(batch.group)
  settings.step = step
  return batch.derive and batch.derive(settings) or settings
end

-- What is kept for a parameter, or for a part of it, of which the whole has `count` elements: tensors by name, and the
-- number of its steps. The tensors only if there is a parameter.
local function new_entry(parameter, count, group, master_weights)
  local entry = {steps = 0}
  if not parameter then return entry end
  moments.begin(entry, parameter, count, group.moments, group.formats)
  if master_weights and core.dtype(parameter) ~= "f32" then entry.master = core.to(parameter, {dtype = "f32"}) end
  return entry
end

--- What is kept for parameter number `position` before its first step.
function Optimizer:fresh_entry(position)
  local group = self.groups[1]
  for i = 2, #self.groups do
    if self.groups[i].first <= position then group = self.groups[i] end
  end
  local parameter = self.parameters[position]
  return new_entry(parameter, core.numel(parameter), group, resolved(self, group).master_weights)
end

-- What a group needs beside its settings: its rule, names of moments, their formats (false for f32), and its first
-- parameter's number.
local function complete(self, group, label, shared, first)
  local settings = resolved(self, group)
  group.rule = type(self.rule) == "function" and self.rule(settings) or self.rule
  group.moments, group.first = self.moments(settings), first
  group.scales = {}
  for i, moment in ipairs(group.moments) do group.scales[i] = moment .. "_scale" end
  local own = moments.option(group.state)
  if group.state == nil then own = shared end
  if self.check_group then self.check_group(label, group, own) end
  group.formats, group.state = moments.read(label, own, group.moments), nil
end

-- Elements of which a part of a parameter has whole multiples, for kernels.
local aligned = 64

-- Random numbers that ranks draw for parameters of their own would not be those of the others any more.
local function new_shard(self, form)
  if form ~= true and form ~= "codes" then
    raise(('%s: option shard must be true, false or "codes", got %s'):format(self.name, tostring(form)))
  end
  for i = 0, #self.groups do
    if (i == 0 and self or self.groups[i]).rounding == "stochastic" then
      raise(self.name .. ': option shard does not go together with rounding = "stochastic"')
    end
  end
  local unit = aligned
  for _, group in ipairs(self.groups) do
    if group.formats then unit = moments.longest_block end
  end
  return later "fp8.distributed.shard".new(self.name, self.parameters, form, not self.takes_whole and unit or nil)
end

--- A class of optimizers.
-- @param name     for errors and tostring
-- @param rule     which of core's updates is used, "sgd" or another of src/lua/optim.c; or a function(settings) that
--   says it of a group
-- @param defaults settings with their values; they become fields of the object and can be changed between steps
-- @param names    names(settings): names of the first and the second moment, as far as they are kept
-- @param more     nil, or {check_group = function(label, group, state) that raises an error if a group can't have its
--   rule, settings or this option `state`, expand = function(batches) that returns what core.update is to get in place
--   of these, takes_whole = true where the update of an element is not by its own gradient alone}
function Optimizer.class(name, rule, defaults, names, more)
  defaults.master_weights, defaults.rounding = false, "nearest"
  local class = {name = name, rule = rule, defaults = defaults, moments = names}
  setmetatable(class, {__index = function(_, key)
    local method = Optimizer[key]
    if method == nil then check_field(class, key) end
    return method
  end})
  for key, value in pairs(more or {}) do class[key] = value end
  class.__index = class
  function class.__newindex(self, key, value)
    check_field(class, key)
    rawset(self, key, value)
  end
  function class.__tostring(self) return ("%s(%d parameters, lr = %g)"):format(name, #self.parameters, self.lr) end
  local settings_known, known, not_settings = {}, {state = true, shard = true}, {state = true, shard = true}
  for key in pairs(defaults) do settings_known[key], known[key] = true, true end
  local function check_settings(label, options)
    for key, value in pairs(check_options(label, options, settings_known)) do
      check_setting(label, key, value, defaults[key])
    end
  end
  local function check(label, options)
    for key, value in pairs(check_options(label, options, known)) do
      if not not_settings[key] then check_setting(label, key, value, defaults[key]) end
    end
  end
  local function check_group(label, options)
    if options.shard ~= nil then raise(label .. ": option shard is one of all groups together") end
    check(label, options)
  end
  return function(source, settings)
    check(name, settings)
    local self = setmetatable({check_settings = check_settings}, class)
    for key, default in pairs(defaults) do
      self[key] = default
      if settings and settings[key] ~= nil then self[key] = settings[key] end
    end
    self.groups = parameters.groups(name, source, check_group)
    self.parameters, self.state = {}, {}
    for _, group in ipairs(self.groups) do
      for _, parameter in ipairs(group.parameters) do self.parameters[#self.parameters + 1] = parameter end
    end
    local shared, count = moments.option(settings and settings.state, source), 0
    for i, group in ipairs(self.groups) do
      local label = #self.groups > 1 and ("%s: group %d"):format(name, i) or name
      complete(self, group, label, shared, count + 1)
      count = count + #group.parameters
    end
    if settings and settings.shard then rawset(self, "shard", new_shard(self, settings.shard)) end
    count = 0
    for _, group in ipairs(self.groups) do
      local own = resolved(self, group)
      for _, parameter in ipairs(group.parameters) do
        count = count + 1
        local kept = parameter
        if self.shard then kept = self.shard:kept_of(count) end
        self.state[count] = new_entry(kept, core.numel(parameter), group, own.master_weights)
      end
    end
    for i, parameter in ipairs(self.parameters) do -- of gradients from now on
      autograd.edge(parameter).cut = self.shard and self.shard:cuts(i)
    end
    return self
  end
end

-- The batch of a group that parameters with so many steps on this device belong to.
local function batch_for(batches, first, group, steps, device)
  for i = #batches, first, -1 do
    if batches[i].steps == steps and batches[i].device == device then return batches[i] end
  end
  local batch = {rule = group.rule, group = group, steps = steps, device = device, list = {}, states = {},
    parameters = {}}
  if group.formats then
    batch.first_format, batch.second_format = group.formats[1].quantizer, group.formats[2].quantizer
  end
  batches[#batches + 1] = batch
  return batch
end

-- What is updated here of a parameter, and by what of its gradient; nil if nothing is.
local function kept_of(self, position, grad)
  if self.shard then
    local kept = self.shard:kept_of(position)
    return kept, grad and kept and self.shard:part_of(position, grad)
  end
  if grad and autograd.partial[grad] then
    raise(("%s: the gradient of parameter %d is shared out among ranks, for an optimizer with the option shard"):format(
      self.name, position))
  end
  return self.parameters[position], grad
end

-- Parameters with gradients that one update can take: of one group, with equally many steps, on one device.
local function collect_batches(self)
  local batches, found = {}, false
  for _, group in ipairs(self.groups) do
    local first, names, scales = #batches + 1, group.moments, group.scales
    for i, parameter in ipairs(group.parameters) do
      parameters.check_current(self.name, group.first + i - 1, parameter)
      local position, grad = group.first + i - 1, autograd.grad(parameter)
      found = found or grad ~= nil
      local kept, own = kept_of(self, position, grad)
      if grad and kept then
        local entry = self.state[position]
        local batch = batch_for(batches, first, group, entry.steps, core.device(parameter))
        local list = batch.list
        local count = #list
        list[count + 1], list[count + 2] = kept, own
        list[count + 3], list[count + 4] = entry[names[1]] or false, entry[names[2]] or false
        list[count + 5] = entry.master or false
        list[count + 6], list[count + 7] = entry[scales[1]] or false, entry[scales[2]] or false
        batch.states[#batch.states + 1] = entry
        batch.parameters[#batch.states] = parameter
      end
    end
  end
  if not found then raise(self.name .. ": no parameter has a gradient: backward() gives them theirs") end
  for _, batch in ipairs(batches) do batch.settings = self:settings_at(batch, batch.steps + 1) end
  return self.expand and #batches > 0 and self.expand(batches) or batches
end

--- Updates every parameter that has a gradient, in place; an error if none has. While a graph is captured nothing is
-- updated yet, so no step is counted.
function Optimizer:step()
  local batches, capturing = collect_batches(self), graph.capturing()
  local fields, count = {}, 0 -- what the step changes beside tensors, as core.commit takes it
  for _, batch in ipairs(batches) do
    batch.live = capturing and live_step(self, batch, capturing) or nil
    for _, entry in ipairs(capturing and {} or batch.states) do
      fields[3 * count + 1], fields[3 * count + 2], fields[3 * count + 3] = entry, "steps", batch.steps + 1
      count = count + 1
    end
  end
  if #batches > 0 then core.update(batches, fields, count) end
  if self.shard then self.shard:exchange() end
end

--- With the option shard = "codes": all ranks, which call this together, get the weights of which they have codes as
-- those have them that keep them. Nothing without that option.
--   local optimizer = fp8.optim.AdamW(fp8.Linear(2, 2))
--   optimizer:gather_weights() --> nil
function Optimizer:gather_weights()
  if self.shard then self.shard:gather_weights() end
end

--- Drops the gradients of all parameters.
function Optimizer:zero_grad()
  autograd.drop_grads(self.parameters)
end

--- Everything that the optimizer knows, as a table of tensors by name that fp8.save can store, alone or beside a
-- model's: "1.first_moment", "1.second_moment", "1.momentum_buffer", "1.master", … for the parameters in their order
-- (sharing the optimizer's memory), "steps", how many each has had, and "settings", text, of the optimizer and its
-- groups. Moments in 8 bits are codes, with "1.first_moment_scale" and, where the format is a map,
-- "1.first_moment_map".
-- With the option shard all ranks call it, and all get the whole, of the weights too (gather_weights).
Optimizer.state_dict = state.save

--- Takes over what state_dict returned for parameters of the same shapes in the same groups, settings included; tensors
-- are copied, from any device. Moments must be kept in the same formats, as the option `state` says. Nothing changes if
-- anything is wrong.
Optimizer.load_state_dict = state.load

public.methods(Optimizer, "step", "zero_grad", "state_dict", "gather_weights")

return Optimizer
