--- One training run: from its seed or a checkpoint to its last step.
local fp8 = require "fp8"
local locate = require "locate"
local stepping = require "stepping"
local terminal = require "terminal"

-- Options that a run shares with a checkpoint which it goes on from, beside the experiment's own.
local common_settings = {"convert", "optimizer", "lr", "beta2", "warmup", "weight_decay", "clip"}

-- Most steps between two looks at the loss.
local longest_report = 50

-- Rows of a watcher's table that are printed.
local watched_rows = 16

-- Fixed numbers for every step, so that a run which goes on from a checkpoint draws the same.
local function seed_step(seed, step) fp8.manual_seed(seed * 2^24 + step) end

-- Where the losses of the steps since the last report are, on the device: reading each would wait for it.
local function make_loss_log(length, device)
  local losses, count = fp8.zeros(length, {device = device}), 0
  local log = {}
  function log.add(loss)
    count = count + 1
    losses:narrow(1, count, 1):copy_(loss)
    return count == length
  end
  function log.read()
    local values = count > 0 and losses:narrow(1, 1, count):totable() or {}
    count = 0
    return values
  end
  return log
end

-- A path of the options for one run; where there are several, each has its own.
local function own_path(path, settings, precision, seed)
  if not path or settings.single then return path end
  local base, ending = path:match "^(.*)(%.[^./]*)$"
  return ("%s-%s-%d%s"):format(base or path, precision.name, seed, ending or "")
end

-- Reads a checkpoint, if there is one, and makes sure that it is of a run like this one.
local function resume(path, parts, expected)
  local file = path and io.open(path)
  if not file then return nil end
  file:close()
  local found = fp8.checkpoint.load(path, parts)
  local settings = type(found.extra.settings) == "table" and found.extra.settings or {}
  for name, value in pairs(expected) do
    if settings[name] ~= value then
      error(("%s is of a run with %s %s, not %s"):format(path, name, tostring(settings[name]), tostring(value)), 0)
    end
  end
  return found
end

local function chosen(experiment, settings, precision, seed)
  local values = {program = experiment.name, precision = precision.name, dtype = precision.dtype, seed = seed}
  for _, names in ipairs {common_settings, experiment.settings} do
    for _, name in ipairs(names) do values[name] = settings[name] end
  end
  return values
end

-- Prints and logs one run.
local function make_report(experiment, run, precision, seed, settings, log, before)
  local title = ("%s %s%s"):format(experiment.name, precision.name, settings.seeds > 1 and " seed " .. seed or "")
  local progress = terminal.progress(title)
  local started, first_step = terminal.now(), nil
  local away = 0 -- seconds that were no training
  local report = {seconds = 0, rate = 0}

  --- Seconds that f takes do not count.
  function report.pause(f, ...)
    local start = terminal.now()
    local result = f(...)
    away = away + terminal.now() - start
    return result
  end

  --- The losses of the steps up to `step`, which are done.
  function report.losses(values, step, schedule, metrics)
    local now = terminal.now() - away
    report.seconds = before + now - started
    if not first_step then -- which takes longer, most of all where it is captured
      first_step, started, before = step, now, report.seconds
    else
      report.rate = (step - first_step) * run.units / (now - started)
    end
    local sum = 0
    for i, loss in ipairs(values) do
      local at = step - #values + i
      sum = sum + loss
      local fields = {at, ("%.9g"):format(loss), ("%.6g"):format(schedule(at)), ("%.1f"):format(report.rate),
        ("%.3f"):format(report.seconds)}
      for _, metric in ipairs(experiment.metrics) do
        fields[#fields + 1] = metrics and at == step and ("%.9g"):format(metrics[metric.key]) or ""
      end
      log:write(fields)
    end
    log:flush()
    report.loss = sum / #values
    local text = ("step %d/%d  loss %.4f  %.0f %s/s"):format(step, run.steps, report.loss, report.rate, experiment.unit)
    for _, metric in ipairs(metrics and experiment.metrics or {}) do
      text = ("%s  %s " .. metric.format):format(text, metric.name, metrics[metric.key] * (metric.factor or 1))
    end
    progress(step, run.steps, text)
  end

  return report
end

local function evaluate(run)
  run.model:eval()
  local metrics = fp8.no_grad(run.evaluate)
  run.model:train()
  return metrics
end

-- The place of the first loss that is not finite, or nil.
local function first_bad(losses)
  for i, loss in ipairs(losses) do
    if loss ~= loss or math.abs(loss) == math.huge then return i end
  end
end

--- Trains once.
-- @return a table of the metrics, loss, seconds and rate; or nil and, in words, where the loss stopped being finite
return function(experiment, precision, seed, settings, log)
  fp8.manual_seed(seed)
  local run = experiment.build(precision, seed)
  run.recipe = precision.recipe
  if run.recipe then
    fp8.convert(run.model, run.recipe, settings.convert == "blocks" and stepping.in_blocks or nil)
  end
  local optimizer = stepping.optimizer(run.model, settings)
  local schedule = fp8.optim.cosine_schedule {
    lr = settings.lr, warmup = settings.warmup or math.floor(run.steps / 10), steps = run.steps,
  }
  local path = own_path(settings.checkpoint, settings, precision, seed)
  local expected = chosen(experiment, settings, precision, seed)
  local found = resume(path, {model = run.model, optimizer = optimizer}, expected)
  local done, extra = found and found.step or 0, found and found.extra or {}
  if found then print(("%s %s goes on from step %d of %s"):format(experiment.name, precision.name, done, path)) end
  log:begin(precision.name .. "," .. seed, done)
  local report = make_report(experiment, run, precision, seed, settings, log, extra.seconds or 0)
  local losses = make_loss_log(math.max(1, math.min(longest_report, math.floor(run.steps / 50))), settings.device)
  run.watcher = settings.watch and fp8.watch(run.model, {every = settings.watch})
  local take_step, compute, update = stepping.make(run, optimizer, settings)
  local snapshot, reported = locate.snapshot(run.model, optimizer), done

  local function begin(step)
    seed_step(seed, step)
    optimizer.lr = schedule(step)
    run.feed(step)
  end

  local function save(step)
    fp8.checkpoint.save(path, {model = run.model, optimizer = optimizer, step = step,
      extra = {settings = expected, seconds = report.seconds, loss = report.loss, rate = report.rate}})
  end

  for step = done + 1, run.steps do
    begin(step)
    local full = losses.add(take_step())
    if run.watcher then run.watcher:step() end
    local function is_multiple(every) return every and step % every == 0 end
    local to_save = path and (step == run.steps or is_multiple(settings.checkpoint_every))
    local to_evaluate = step < run.steps and is_multiple(settings.evaluate_every)
    if full or to_save or to_evaluate or step == done + 1 or step == run.steps then
      local values = losses.read()
      local bad = first_bad(values)
      if bad then
        if run.watcher then run.watcher:close() end
        local at, tensor = locate.find(run.model, optimizer, snapshot, reported + 1, step, function(n)
          begin(n)
          return compute()
        end, update)
        local place = at and ("first not finite, in step %d: %s"):format(at, tostring(tensor)) or
          "nothing was found when the steps before were repeated"
        return nil, ("step %d: the loss is %g; %s"):format(reported + bad, values[bad], place)
      end
      report.losses(values, step, schedule, to_evaluate and report.pause(evaluate, run) or nil)
      if to_save then report.pause(save, step) end
      report.pause(function() snapshot = locate.snapshot(run.model, optimizer, snapshot) end)
      reported = step
    end
  end
  if run.watcher then
    run.watcher:print(watched_rows)
    if settings.watch_csv then run.watcher:save(own_path(settings.watch_csv, settings, precision, seed)) end
    run.watcher:close()
  end
  local result = evaluate(run)
  if run.finish then run.finish() end
  -- A run that was complete when it was read from its checkpoint has nothing new to say.
  local last = report.loss and report or extra
  result.loss, result.seconds, result.rate = last.loss, last.seconds, last.rate
  return result
end
