--- Trains the same GPT with every recipe of a list, and shows what each costs: the gap of its loss to the first one's,
-- time, memory, and the layer that the recipe harms most. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local language_experiment = require "language_experiment"
local options = require "options"
local own_recipes = require "own_recipes"
local stepping = require "stepping"
local training = require "training"

local usage = [[
usage: luajit examples/recipes.lua [options]                                (default on the GPU, on the CPU)
  --text FILE      what it learns; gzip is fine (default: the file of Debian's package jargon-text)
  --layers N       transformer blocks (12, 2)
  --width N        features (768, 64)
  --heads N        of attention (12, 2)
  --context N      bytes that it sees (256, 64)
  --batch N        sequences in a step (64, 16)
  --steps N        (600, 300)
  --evaluate-every N   steps between looks at the last tenth of the text (a tenth of all steps)
  --full-for X     the last part of all steps is done in full precision: 0.1 for a tenth (0)
Beside those of fp8.recipes there are the recipes nvfp4_without_hadamard nvfp4_without_stochastic nvfp4_nearest
int8_tensorwise int8_gradient_rows e2m1_blocks e2m1_blocks_stochastic e2m1_tensor. Gaps are to the first one of
--compare, with the same seed.
]]

local sizes = {
  cuda = {layers = 12, width = 768, heads = 12, context = 256, batch = 64, steps = 600, lr = 1e-3},
  cpu = {layers = 2, width = 64, heads = 2, context = 64, batch = 16, steps = 300, lr = 2e-3},
}

local compared = {
  "bf16", "mixed", "global", "mxfp8", "nvfp4", "nvfp4_without_hadamard", "nvfp4_without_stochastic", "nvfp4_nearest",
  "mxfp4", "quartet", "int8_tensorwise",
}

-- The list without the recipes that fp8 lacks, which are named.
local function present(names)
  local list = {}
  for _, name in ipairs(names) do
    if name == "bf16" or rawget(fp8.recipes, name) or own_recipes[name] then
      list[#list + 1] = name
    else
      print(("%s is not among fp8.recipes, and is left out"):format(name))
    end
  end
  return list
end

-- What is seen of a run beside its metrics: {losses = by step, steps = list, worst = the worst row of fp8.sensitivity}.
local function new_record() return {losses = {}, steps = {}} end

-- The experiment, whose runs note these things in records[precision .. seed].
local function experiment(settings, records)
  local work = language_experiment.new("recipes", settings)
  local build = work.build
  work.recipes = own_recipes

  function work.build(precision, seed)
    fp8.reset_peak_memory(settings.device)
    local run, record, at = build(precision), new_record(), 0
    local feed, evaluate = run.feed, run.evaluate
    records[precision.name .. seed] = record

    function run.feed(step)
      at = step
      feed()
    end

    function run.evaluate()
      local metrics = evaluate()
      record.steps[#record.steps + 1], record.losses[at] = at, metrics.validation
      metrics.memory = fp8.memory(settings.device).peak
      return metrics
    end

    function run.finish()
      if not precision.recipe or seed ~= settings.seed then return end
      local filter = stepping.filter(precision.recipe, settings)
      record.worst = fp8.sensitivity(run.model, run.loss, precision.recipe, {filter = filter})[1]
    end

    return run
  end

  return work
end

local columns = {
  {name = "nats a byte", key = "validation", format = "%.4f"}, {name = "gap", key = "gap", format = "%+.4f"},
  {name = "seconds", key = "seconds", format = "%.1f"},
  {name = "MiB", key = "memory", format = "%.0f", factor = 2 ^ -20},
}

-- The mean over seeds of the gap to the first precision by step, {steps, gaps}; nil without a step that all have.
local function mean_gaps(first, name, results, records)
  local steps, gaps = {}, {}
  for _, step in ipairs(results[1] and records[name .. results[1].seed].steps or {}) do
    local sum, count = 0, 0
    for _, result in ipairs(results) do
      local own, other = records[name .. result.seed].losses[step], records[first .. result.seed]
      if own and other and other.losses[step] then sum, count = sum + own - other.losses[step], count + 1 end
    end
    if count == #results then steps[#steps + 1], gaps[#gaps + 1] = step, sum / count end
  end
  return #steps > 0 and {steps, gaps} or nil
end

local function worst_text(worst)
  return worst and ("%s, gradient off by %.3g"):format(worst.layer, worst.alone.gradient_error) or "-"
end

local function summarize(precisions, results, records)
  local first, lines, heading = precisions[1].name, {}, {"recipe"}
  for i, column in ipairs(columns) do heading[i + 1] = column.name end
  heading[#heading + 1] = "worst layer alone"
  local rows = {heading}
  for _, precision in ipairs(precisions) do
    local name, ended = precision.name, results[precision.name]
    local by_seed = {}
    for _, result in ipairs(results[first]) do by_seed[result.seed] = result.validation end
    local cells = {name}
    for i, column in ipairs(columns) do
      local values = {}
      for _, result in ipairs(ended) do
        local base = by_seed[result.seed]
        result.gap = base and result.validation - base
        values[#values + 1] = result[column.key]
      end
      cells[i + 1] = #values > 0 and training.mean_text(values, column) or "-"
    end
    cells[#cells + 1] = ended[1] and worst_text(records[name .. ended[1].seed].worst) or "-" -- that of the first seed
    rows[#rows + 1] = cells
    if name ~= first then lines[name] = mean_gaps(first, name, ended, records) end
  end
  print()
  training.print_rows(rows)
  for _, precision in ipairs(precisions) do
    for _, failure in ipairs(results[precision.name].failures) do print(("%s, %s"):format(precision.name, failure)) end
  end
  if not next(lines) then return end
  print()
  print(fp8.plot.lines(lines, {title = ("nats a byte more than %s"):format(first), x_label = "step"}))
end

-- The recipes in force for the first steps only: from there on products are plain.
local function only_at_first(recipe, settings)
  local step = math.max(1, settings.steps - math.ceil(settings.steps * settings.full_for))
  if type(recipe) == "function" then error("--full-for is for recipes that are tables", 0) end
  if stepping.is_by_name(recipe) then error("--full-for is for recipes without names of layers", 0) end
  return settings.convert == "blocks" and {default = false, ["blocks.*"] = recipe, until_step = step} or
    {default = recipe, until_step = step}
end

options.main("recipes", function()
  local readers = language_experiment.readers()
  readers.full_for = {function(text)
    local number = tonumber(text)
    return number and number >= 0 and number < 1 and number or nil
  end, "a number from 0 to below 1"}
  local settings = training.options("recipes", usage, readers,
    {compare = compared, layer_scale = false, weight_decay = 0.1, full_for = 0}, sizes)
  if settings.compare == compared then settings.compare = present(compared) end
  settings.evaluate_every = settings.evaluate_every or math.ceil(settings.steps / 10)
  local records = {}
  local work = experiment(settings, records)
  function work.summarize(precisions, results) summarize(precisions, results, records) end
  function work.adapt(recipe) return settings.full_for > 0 and only_at_first(recipe, settings) or recipe end
  print(("%d layers of width %d, context %d, batch %d, on %s"):format(settings.layers, settings.width, settings.context,
    settings.batch, settings.device))
  if not training.compare(work, settings) then os.exit(1, true) end
end)
