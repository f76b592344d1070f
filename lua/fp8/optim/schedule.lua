--- Learning rates that change with the step: functions from its number, from 1, to the rate.
--
--   local rate = fp8.optim.cosine_schedule {lr = 3e-4, warmup = 100, steps = 2000}
--   for step = 1, 2000 do
--     optimizer.lr = rate(step)
--     …
--   end
local check_options = require "fp8.check_options"
local is_whole = require "fp8.is_whole"
local raise = require("fp8.core").raise

local schedules = {}

local function check(name, key, value, valid, kind)
  if type(value) == "number" and valid(value) then return end
  raise(("%s: option %s must be %s, got %s"):format(name, key, kind, tostring(value)))
end

local function is_rate(value) return value >= 0 and value < math.huge end
local function is_count(value) return is_whole(value, 0) end

local function check_step(name, step)
  if type(step) == "number" and step >= 1 then return end
  raise(("%s: steps are numbers from 1 on, got %s"):format(name, tostring(step)))
end

-- The options, complete. `known` has an entry for each that the schedule takes.
local function check_all(name, options, known)
  if type(options) ~= "table" then raise(("%s: a table of options is needed, got %s"):format(name, type(options))) end
  if getmetatable(options) then
    raise(name .. ": a table of options is needed, {lr =, …}, got an object: the rates are for its field lr")
  end
  local complete = {warmup = 0, final = 0, factor = 0.1}
  for option, value in next, check_options(name, options, known) do complete[option] = value end
  check(name, "lr", complete.lr, is_rate, "a finite number of at least 0")
  if known.final then check(name, "final", complete.final, is_rate, "a finite number of at least 0") end
  if known.steps then check(name, "steps", complete.steps, is_count, "a whole number of at least 0") end
  local most = known.steps and complete.steps or math.huge
  check(name, "warmup", complete.warmup, function(value) return is_count(value) and value <= most end,
    known.steps and "a whole number from 0 to steps" or "a whole number of at least 0")
  return complete
end

-- A schedule that warms up, and goes on as after(step).
local function warming_up(name, lr, warmup, after)
  return function(step)
    check_step(name, step)
    if step <= warmup then return lr * (step / warmup) end
    return after(step)
  end
end

local allowed = {lr = true, warmup = true, steps = true, final = true}

-- A schedule that goes from lr to `final` as shape(progress) from 1 to 0, progress from 0 to 1.
local function falling(name, options, shape)
  local all = check_all(name, options, allowed)
  local lr, steps, warmup, final = all.lr, all.steps, all.warmup, all.final
  return warming_up(name, lr, warmup, function(step)
    if step >= steps then return final end
    return final + (lr - final) * shape((step - warmup) / (steps - warmup))
  end)
end

--- fp8.optim.cosine_schedule{lr =, steps =, warmup = 0, final = 0}
--
--   step ≤ warmup   lr · step / warmup
--   step < steps    final + (lr - final) · (1 + cos(π · (step - warmup) / (steps - warmup))) / 2
--   step ≥ steps    final
--   local rate = fp8.optim.cosine_schedule {lr = 1, steps = 100, warmup = 10}
--   rate(5) --> 0.5
--   rate(55) --> 0.5
function schedules.cosine(options)
  return falling("cosine_schedule", options, function(progress) return (1 + math.cos(math.pi * progress)) / 2 end)
end

--- fp8.optim.linear_schedule{lr =, steps =, warmup = 0, final = 0}: the same with a straight line down, final +
-- (lr - final) · (1 - (step - warmup) / (steps - warmup)).
--   local rate = fp8.optim.linear_schedule {lr = 1, steps = 100, final = 0.5}
--   rate(50) --> 0.75
function schedules.linear(options)
  return falling("linear_schedule", options, function(progress) return 1 - progress end)
end

--- fp8.optim.constant_schedule{lr =, warmup = 0}: lr, after lr · step / warmup in the steps up to warmup.
--
--   local rate = fp8.optim.constant_schedule {lr = 3e-4, warmup = 2}
--   rate(1) --> 1.5e-4
--   rate(1000) --> 3e-4
function schedules.constant(options)
  local all = check_all("constant_schedule", options, {lr = true, warmup = true})
  return warming_up("constant_schedule", all.lr, all.warmup, function() return all.lr end)
end

--- fp8.optim.warmup_stable_decay_schedule{lr =, steps =, decay =, warmup = 0, final = 0}, from Hu et al., "MiniCPM:
-- unveiling the potential of small language models with scalable training strategies" (2024), with a straight line at
-- its end; warmup + decay are at most steps.
--
--   step ≤ warmup           lr · step / warmup
--   step ≤ steps - decay    lr
--   step < steps            final + (lr - final) · (steps - step) / decay
--   step ≥ steps            final
--
--   local rate = fp8.optim.warmup_stable_decay_schedule {lr = 1, warmup = 10, steps = 100, decay = 20}
--   rate(50) --> 1
--   rate(90) --> 0.5
function schedules.warmup_stable_decay(options)
  local name = "warmup_stable_decay_schedule"
  local all = check_all(name, options, {lr = true, warmup = true, steps = true, final = true, decay = true})
  local lr, steps, final, decay = all.lr, all.steps, all.final, all.decay
  check(name, "decay", decay, function(value) return is_count(value) and value <= steps - all.warmup end,
    "a whole number from 0 to steps - warmup")
  return warming_up(name, lr, all.warmup, function(step)
    if step >= steps then return final end
    if step <= steps - decay then return lr end
    return final + (lr - final) * ((steps - step) / decay)
  end)
end

--- fp8.optim.step_schedule{lr =, every =, factor = 0.1, warmup = 0}: the rate is multiplied with factor after every
-- `every` steps, as by PyTorch's StepLR.
--
--   step ≤ warmup    lr · step / warmup
--   step > warmup    lr · factor^⌊(step - warmup - 1) / every⌋
--
--   local rate = fp8.optim.step_schedule {lr = 1, every = 30, factor = 0.5}
--   rate(30) --> 1
--   rate(31) --> 0.5
function schedules.step(options)
  local name = "step_schedule"
  local all = check_all(name, options, {lr = true, warmup = true, every = true, factor = true})
  check(name, "every", all.every, function(value) return is_whole(value, 1) end, "a whole number of at least 1")
  check(name, "factor", all.factor, is_rate, "a finite number of at least 0")
  return warming_up(name, all.lr, all.warmup, function(step)
    return all.lr * all.factor ^ math.floor((step - all.warmup - 1) / all.every)
  end)
end

return schedules
