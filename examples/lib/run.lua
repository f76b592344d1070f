--- One training run: from its seed or a checkpoint to its last step.
local fp8 = require "fp8"
local locate = require "locate"
local make_loss_log = require "loss_log"
local make_report = require "report"
local ranks = require "ranks"
local resume = require "resume"
local stepping = require "stepping"

-- Rows of a watcher's table that are printed.
local watched_rows = 16

-- Fixed numbers for every step, so that a run which goes on from a checkpoint draws the same. Seeds are whole to 2^53
-- only: of those from 2^29 on, the upper bits choose another stretch of the same generator.
local function seed_step(seed, step)
  fp8.manual_seed(seed % 2^29 * 2^24 + step, math.floor(seed / 2^29) * 2^40)
end

-- A path of the options for one run; where there are several, each has its own.
local function own_path(path, settings, precision, seed)
  if not path or settings.single then return path end
  local base, ending = path:match "^(.*)(%.[^./]*)$"
  return ("%s-%s-%d%s"):format(base or path, precision.name, seed, ending or "")
end

-- Draws the same numbers whatever was drawn before, so that a state has one result.
local function evaluate(run, seed, step)
  seed_step(seed, step)
  run.model:eval()
  local metrics = fp8.no_grad(run.evaluate)
  run.model:train()
  return metrics
end

local function is_finite(number) return math.abs(number) < math.huge end

-- What is wrong with the state after a step, in words, or nil. Parameters may be finite and yet too large to compute
-- with, which the step's own loss, from before its update, does not show.
-- @param metrics of the state, or nil
local function wrong_state(run, experiment, metrics)
  if not locate.all_finite(run.model:parameters()) then return "a parameter is not finite after it" end
  local loss = ranks.mean({fp8.no_grad(fp8.scope, function() return run.loss():item() end)})[1]
  if not is_finite(loss) then return ("the loss is %g after it"):format(loss) end
  for _, metric in ipairs(metrics and experiment.metrics or {}) do
    local value = metrics[metric.key]
    if not is_finite(value) then return ("%s is %g after it"):format(metric.name, value) end
  end
end

--- Trains once.
-- @return a table of the metrics, loss, seconds and rate; or nil and, in words, what stopped being finite, and where
return function(experiment, precision, seed, settings, log)
  fp8.manual_seed(seed)
  local run = experiment.build(precision, seed)
  stepping.convert(run.model, precision.recipe, settings)
  ranks.join(run.model)
  local optimizer = stepping.optimizer(run.model, settings)
  local warmup = settings.warmup or math.floor(run.steps / 10)
  local schedule = fp8.optim.cosine_schedule {lr = settings.lr, warmup = warmup, steps = run.steps}
  local path = own_path(settings.checkpoint, settings, precision, seed)
  local identity = path and resume.identity(experiment, run, precision, seed, warmup, settings)
  local saved = resume.step(path)
  if saved then stepping.convert(run.model, precision.recipe, settings, saved) end
  local found = resume.load(path, {model = run.model, optimizer = optimizer}, identity)
  local done, extra = found and found.step or 0, found and found.extra or {}
  if found then print(("%s %s goes on from step %d of %s"):format(experiment.name, precision.name, done, path)) end
  log:begin(precision.name .. "," .. seed, done)
  local report = make_report(experiment, run, precision, settings, seed, log, extra.seconds)
  local losses = make_loss_log(run.steps, settings.device)
  run.watcher = settings.watch and fp8.watch(run.model, {every = settings.watch})
  local take_step, compute, update = stepping.make(run, optimizer, settings)
  local snapshot, reported = locate.snapshot(run.model, optimizer), done

  local function begin(step)
    if stepping.convert(run.model, precision.recipe, settings, step) > 0 then
      take_step, compute, update = stepping.make(run, optimizer, settings)
    end
    seed_step(seed, step)
    optimizer.lr = schedule(step)
    run.feed(step)
  end

  local function save(step)
    fp8.checkpoint.save(path, {model = run.model, optimizer = optimizer, step = step,
      extra = {settings = identity, seconds = report.seconds, loss = report.loss, rate = report.rate}})
  end

  -- The end of a run in which `what` is wrong at a step, after `last` steps.
  local function fail(what, step, last)
    if run.watcher then run.watcher:close() end
    stepping.convert(run.model, precision.recipe, settings, reported) -- as it was in the snapshot
    local place = locate.find(run.model, optimizer, snapshot, reported + 1, last, {
      compute = function(n)
        begin(n)
        return compute()
      end,
      update = function() update() end,
      look = function()
        local loss = run.loss()
        evaluate(run, seed, last)
        return loss
      end,
    })
    return nil, ("step %d: %s; %s"):format(step, what,
      place and "first not finite, " .. place or "nothing was found when the steps before were repeated")
  end

  local metrics
  for step = done + 1, run.steps do
    begin(step)
    local full = losses.add(take_step())
    if run.watcher then run.watcher:step() end
    local function is_multiple(every) return every and step % every == 0 end
    local is_last = step == run.steps
    local to_save = path and (is_last or is_multiple(settings.checkpoint_every))
    local to_evaluate = is_last or is_multiple(settings.evaluate_every)
    if full or to_save or to_evaluate or step == done + 1 then
      local values = ranks.mean(losses.read())
      local bad = losses.first_bad(values)
      if bad then return fail(("the loss is %g"):format(values[bad]), reported + bad, step) end
      metrics = to_evaluate and report.pause(evaluate, run, seed, step) or nil
      local wrong = (to_save or to_evaluate) and report.pause(wrong_state, run, experiment, metrics)
      report.losses(values, step, not wrong and metrics or nil, schedule)
      if wrong then return fail(wrong, step, step) end
      if to_save then report.pause(save, step) end
      report.pause(function() snapshot = locate.snapshot(run.model, optimizer, snapshot) end)
      reported = step
    end
  end
  if not metrics then -- the run was complete when it was read from its checkpoint
    metrics = evaluate(run, seed, done)
    local wrong = wrong_state(run, experiment, metrics)
    if wrong then return fail(wrong, done, done) end
  end
  if run.watcher then
    run.watcher:print(watched_rows)
    if settings.watch_csv then run.watcher:save(own_path(settings.watch_csv, settings, precision, seed)) end
    run.watcher:close()
  end
  if run.finish then run.finish() end
  local last = report.loss and report or extra
  metrics.loss, metrics.seconds, metrics.rate = last.loss, last.seconds, last.rate
  return metrics
end
