--- How far a run is, printed and logged.
local terminal = require "terminal"

--- What prints and logs one run.
-- @param log    of csv.lua, or nil
-- @param before seconds that the run took before it was interrupted, or nil
return function(experiment, run, precision, settings, seed, log, before)
  local title = ("%s %s%s"):format(experiment.name, precision.name, settings.seeds > 1 and " seed " .. seed or "")
  local progress = terminal.progress(title)
  local started, first_step = terminal.now(), nil
  local away = 0 -- seconds that were no training
  local report = {seconds = 0, rate = 0}
  before = before or 0

  --- Seconds that f takes do not count.
  function report.pause(f, ...)
    local start = terminal.now()
    local result = f(...)
    away = away + terminal.now() - start
    return result
  end

  --- The losses of the steps up to `step`, which are done.
  -- @param metrics  of the state after it, or nil
  -- @param schedule the learning rate by step, for the log
  function report.losses(values, step, metrics, schedule)
    local now = terminal.now() - away
    report.seconds = before + now - started
    if not first_step then -- which takes longer, most of all where it is captured
      first_step, started, before = step, now, report.seconds
    else
      report.rate = (step - first_step) * run.units / (now - started)
    end
    local sum = 0
    for _, loss in ipairs(values) do sum = sum + loss end
    for i, loss in ipairs(log and values or {}) do
      local at = step - #values + i
      local fields = {at, ("%.9g"):format(loss), ("%.6g"):format(schedule(at)), ("%.1f"):format(report.rate),
        ("%.3f"):format(report.seconds)}
      for _, metric in ipairs(experiment.metrics) do
        fields[#fields + 1] = metrics and at == step and ("%.9g"):format(metrics[metric.key]) or ""
      end
      log:write(fields)
    end
    if log then log:flush() end
    report.loss = sum / #values
    local text = ("step %d/%d  loss %.4f  %.0f %s/s"):format(step, run.steps, report.loss, report.rate, experiment.unit)
    for _, metric in ipairs(metrics and experiment.metrics or {}) do
      text = ("%s  %s " .. metric.format):format(text, metric.name, metrics[metric.key] * (metric.factor or 1))
    end
    progress(step, run.steps, text)
  end

  return report
end
