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

local allowed = {lr = true, warmup = true, steps = true, final = true}

local function check(name, key, value, valid, kind)
  if type(value) == "number" and valid(value) then return end
  raise(("%s: option %s must be %s, got %s"):format(name, key, kind, tostring(value)))
end

local function is_rate(value) return value >= 0 and value < math.huge end
local function is_count(value) return is_whole(value, 0) end

-- A schedule that goes from lr to `final` as shape(progress) from 1 to 0, progress from 0 to 1.
local function schedule(name, options, shape)
  if type(options) ~= "table" then raise(("%s: a table of options is needed, got %s"):format(name, type(options))) end
  check_options(name, options, allowed)
  local lr, steps, warmup, final = options.lr, options.steps, options.warmup, options.final
  if warmup == nil then warmup = 0 end
  if final == nil then final = 0 end
  check(name, "lr", lr, is_rate, "a finite number of at least 0")
  check(name, "final", final, is_rate, "a finite number of at least 0")
  check(name, "steps", steps, is_count, "a whole number of at least 0")
  check(name, "warmup", warmup, function(value) return is_count(value) and value <= steps end,
    "a whole number from 0 to steps")
  return function(step)
    if type(step) ~= "number" or not (step >= 1) then
      raise(("%s: steps are numbers from 1 on, got %s"):format(name, tostring(step)))
    end
    if step <= warmup then return lr * (step / warmup) end
    if step >= steps then return final end
    return final + (lr - final) * shape((step - warmup) / (steps - warmup))
  end
end

--- fp8.optim.cosine_schedule{lr =, steps =, warmup = 0, final = 0}
--
--   step ≤ warmup   lr · step / warmup
--   step < steps    final + (lr - final) · (1 + cos(π · (step - warmup) / (steps - warmup))) / 2
--   step ≥ steps    final
function schedules.cosine(options)
  return schedule("cosine_schedule", options, function(progress) return (1 + math.cos(math.pi * progress)) / 2 end)
end

--- fp8.optim.linear_schedule{lr =, steps =, warmup = 0, final = 0}: the same with a straight line down, final +
-- (lr - final) · (1 - (step - warmup) / (steps - warmup)).
function schedules.linear(options)
  return schedule("linear_schedule", options, function(progress) return 1 - progress end)
end

return schedules
