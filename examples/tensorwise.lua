--- One scale for a tensor: trains a GPT in 8 bits with such scales, as it is and with layer scale from zero, and shows
-- beside each other what the loss says and what fp8.watch says of the same steps. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local csv = require "csv"
local fp8 = require "fp8"
local language_experiment = require "language_experiment"
local options = require "options"
local own_recipes = require "own_recipes"
local run_once = require "run"
local training = require "training"

local usage = [[
usage: luajit examples/tensorwise.lua [options]                             (default on the GPU, on the CPU)
  --pictures FOLDER  where tensorwise_gap.svg and tensorwise_lost.svg go; needs gnuplot
  --text FILE      what it learns; gzip is fine (default: the file of Debian's package jargon-text)
  --layers N       transformer blocks (12, 2)
  --width N        features (768, 64)
  --heads N        of attention (12, 2)
  --context N      bytes that it sees (256, 64)
  --batch N        sequences in a step (64, 16)
  --steps N        (300, 200)
  --evaluate-every N   steps between looks at the last tenth of the text and at the tensors (a fifteenth of all steps)
Each recipe of --compare, and its first precision, runs twice: as it is, and with layer scale from zero. Gaps are to the
first one.
]]

local sizes = {
  cuda = {layers = 12, width = 768, heads = 12, context = 256, batch = 64, steps = 300, lr = 1e-3},
  cpu = {layers = 2, width = 64, heads = 2, context = 64, batch = 16, steps = 200, lr = 2e-3},
}

local compared = {"bf16", "int8_tensorwise", "int8_gradient_rows", "global"}

local suffix = " + layer scale"

-- Of the rows of one step: the share of gradients that are lost, and the row that has lost most.
local function lost_in(rows)
  local sum, count, worst, most = 0, 0, nil, -1
  for _, row in ipairs(rows) do
    local lost = row.underflow + row.saturated
    if lost > most then worst, most = row, lost end
    if row.tensor == "grad_output" then sum, count = sum + lost, count + 1 end
  end
  return count > 0 and sum / count or 0, worst, most
end

-- What a watcher has recorded, as a list of rows by step; of what was quantized.
local function rows_by_step(watcher)
  local by_step = {}
  for _, row in ipairs(watcher:rows()) do
    if row.format then
      by_step[row.step] = by_step[row.step] or {}
      table.insert(by_step[row.step], row)
    end
  end
  return by_step
end

-- The experiment, with layer scale or not; its runs note {losses =, rows = by step, steps = list} by name and seed.
local function experiment(settings, records)
  local work = language_experiment.new("tensorwise", settings)
  local build = work.build

  function work.build(precision, seed)
    local run, record, at = build(precision), {losses = {}, rows = {}, steps = {}}, 0
    local feed, evaluate = run.feed, run.evaluate
    records[precision.name .. seed] = record

    function run.feed(step)
      at = step
      feed()
    end

    function run.evaluate()
      local metrics = evaluate()
      record.losses[at], record.steps[#record.steps + 1] = metrics.validation, at
      return metrics
    end

    function run.finish()
      if run.watcher then record.rows = rows_by_step(run.watcher) end
    end

    return run
  end

  return work
end

-- Every precision twice.
local function doubled(precisions)
  local list = {}
  for _, ending in ipairs {"", suffix} do
    for _, precision in ipairs(precisions) do
      list[#list + 1] = {
        name = precision.name .. ending, dtype = precision.dtype, recipe = precision.recipe, scaled = ending ~= "",
      }
    end
  end
  return list
end

-- The steps of a run beside the same ones of the first precision, with or without layer scale.
local function print_run(precision, record, base)
  if not (precision.recipe and base) then return end
  print(("\n%s"):format(precision.name))
  local rows = {{"step", "nats a byte", "gap", "gradients lost", "worst tensor"}}
  for _, step in ipairs(record.steps) do
    local loss, gap = record.losses[step], base.losses[step]
    local mean, worst, most = lost_in(record.rows[step] or {})
    rows[#rows + 1] = {
      tostring(step), ("%.4f"):format(loss), gap and ("%+.4f"):format(loss - gap) or "-",
      ("%.1f %%"):format(100 * mean),
      worst and ("%s %s: %.1f %%, %.1f dB"):format(worst.layer, worst.tensor, 100 * most, worst.snr) or "-",
    }
  end
  training.print_rows(rows)
  print()
end

-- Gaps, and shares of gradients that are lost, by step.
local function charts_of(precisions, records, seed, base_of)
  local gaps, lost = {}, {}
  for _, precision in ipairs(precisions) do
    local record = records[precision.name .. seed]
    local base = records[base_of(precision) .. seed]
    if precision.recipe and record and base then
      local steps, gap, shares = {}, {}, {}
      for i, step in ipairs(record.steps) do
        steps[i], gap[i] = step, record.losses[step] - (base.losses[step] or 0 / 0)
        shares[i] = 100 * lost_in(record.rows[step] or {})
      end
      if #steps > 0 then gaps[precision.name], lost[precision.name] = {steps, gap}, {steps, shares} end
    end
  end
  if not next(gaps) then return nil end
  local first = precisions[1].name
  return fp8.plot.lines(gaps, {title = ("nats a byte more than %s"):format(first), x_label = "step"}),
    fp8.plot.lines(lost, {title = "% of gradients' elements that become 0 or saturate, mean of all layers",
      x_label = "step"})
end

local function summarize(precisions, settings, records, base_of)
  local gaps, lost = charts_of(precisions, records, settings.seed, base_of)
  if not gaps then return end
  print(gaps)
  print()
  print(lost)
  if not settings.pictures then return end
  gaps:save(settings.pictures .. "/tensorwise_gap.svg")
  lost:save(settings.pictures .. "/tensorwise_lost.svg")
end

options.main("tensorwise", function()
  local readers = language_experiment.readers()
  readers.pictures = options.kinds.path
  local settings = training.options("tensorwise", usage, readers,
    {compare = compared, layer_scale = false, weight_decay = 0.1}, sizes)
  settings.evaluate_every = settings.evaluate_every or math.ceil(settings.steps / 15)
  local records, precisions = {}, doubled(training.precisions(settings, own_recipes))
  local scaled_settings = setmetatable({layer_scale = true}, {__index = settings})
  local plain, scaled = experiment(settings, records), experiment(scaled_settings, records)
  local function base_of(precision) return precisions[1].name .. (precision.scaled and suffix or "") end
  function plain.summarize() summarize(precisions, settings, records, base_of) end
  local log = csv.open(settings.csv, {"precision", "seed", "step", "loss", "lr", "bytes_per_second", "seconds",
    "validation"}, settings.checkpoint ~= nil)
  print(("%d layers of width %d, context %d, batch %d, on %s"):format(settings.layers, settings.width, settings.context,
    settings.batch, settings.device))
  local all_well = training.tabulate(plain, precisions, settings, function(precision, seed)
    local own = setmetatable({watch = precision.recipe and (settings.watch or settings.evaluate_every)},
      {__index = precision.scaled and scaled_settings or settings})
    local result, failure = run_once(precision.scaled and scaled or plain, precision, seed, own, log)
    print_run(precision, records[precision.name .. seed], records[base_of(precision) .. seed])
    return result, failure
  end)
  if not all_well then os.exit(1, true) end
end)
