--- Whether the layers that fp8.sensitivity names are those to keep in full precision: trains a GPT without a recipe,
-- asks which layers the recipe harms most, and trains with the recipe, in all layers and with those exempt. Options:
-- --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local language_experiment = require "language_experiment"
local options = require "options"
local own_recipes = require "own_recipes"
local stepping = require "stepping"
local training = require "training"

local usage = [[
usage: luajit examples/exempt.lua [options]                                 (default on the GPU, on the CPU)
  --recipe NAME    of fp8.recipes, or of lib/own_recipes.lua (mxfp4)
  --by NAME        what of a layer alone says how bad it is: gradient, output or loss (gradient)
  --text FILE      what it learns; gzip is fine (default: the file of Debian's package jargon-text)
  --layers N       transformer blocks (6, 2)
  --width N        features (512, 64)
  --heads N        of attention (8, 2)
  --context N      bytes that it sees (256, 64)
  --batch N        sequences in a step (64, 16)
  --steps N        (400, 300)
  --evaluate-every N   steps between looks at the last tenth of the text, which it does not learn (default: at the end)
The runs of --compare are a dtype, the recipe, worst_quarter, worst_half and best_half: the recipe in all layers but
those. Layers come from the first run with the first seed.
]]

local sizes = {
  cuda = {layers = 6, width = 512, heads = 8, context = 256, batch = 64, steps = 400, lr = 1e-3},
  cpu = {layers = 2, width = 64, heads = 2, context = 64, batch = 16, steps = 300, lr = 2e-3},
}

-- The layers from one share of the rows of a table to another, as a set.
local function part_of(rows, first, last)
  local names = {}
  for i = math.floor(first * #rows) + 1, math.floor(last * #rows) do names[rows[i].layer] = true end
  return names
end

-- What the runs keep in full precision: `exempt`, by the run's name, which is filled once the table is there.
local function recipes_of(recipe, exempt)
  local recipes = {}
  for _, name in ipairs {"worst_quarter", "worst_half", "best_half"} do
    recipes[name] = function(layer)
      if exempt[name] and exempt[name][layer] then return nil end
      return recipe
    end
  end
  return recipes
end

local function experiment(settings, recipe)
  local work, exempt = language_experiment.new("exempt", settings), {}
  local build = work.build
  work.recipes = recipes_of(recipe, exempt)
  work.recipes[settings.recipe] = recipe

  function work.build(precision, seed)
    local run = build(precision)
    function run.finish()
      if precision.recipe or seed ~= settings.seed then return end
      local rows = fp8.sensitivity(run.model, run.loss, recipe,
        {filter = stepping.filter(recipe, settings), by = settings.by})
      print()
      print(rows)
      print()
      exempt.worst_quarter, exempt.worst_half = part_of(rows, 0, 0.25), part_of(rows, 0, 0.5)
      exempt.best_half = part_of(rows, 0.5, 1)
    end
    return run
  end

  return work
end

-- The means over seeds of the gap to the first run, and how much of the second one's gap is gone.
local function summarize(precisions, results)
  local gaps, rows = {}, {{"run", "nats a byte", "gap", "gap closed"}}
  for i, precision in ipairs(precisions) do
    local losses, own = {}, {}
    for k, result in ipairs(results[precision.name]) do
      local base = results[precisions[1].name][k]
      losses[k], own[k] = result.validation, base and result.validation - base.validation or 0 / 0
    end
    local sum = 0
    for _, gap in ipairs(own) do sum = sum + gap end
    gaps[i] = sum / #own
    rows[#rows + 1] = {
      precision.name, #own > 0 and training.mean_text(losses, {format = "%.4f"}) or "-",
      #own > 0 and training.mean_text(own, {format = "%+.4f"}) or "-",
      i > 2 and ("%.0f %%"):format((1 - gaps[i] / gaps[2]) * 100) or "",
    }
  end
  print()
  training.print_rows(rows)
end

options.main("exempt", function()
  local readers = language_experiment.readers()
  readers.recipe = {function(text) return (rawget(fp8.recipes, text) or own_recipes[text]) and text end, "a recipe"}
  readers.by = {options.one_of("gradient", "output", "loss"), "gradient, output or loss"}
  local settings = training.options("exempt", usage, readers,
    {recipe = "mxfp4", by = "gradient", compare = false, layer_scale = false, weight_decay = 0.1}, sizes)
  settings.compare = settings.compare or {settings.dtype, settings.recipe, "worst_quarter", "worst_half", "best_half"}
  local work = experiment(settings, rawget(fp8.recipes, settings.recipe) or own_recipes[settings.recipe])
  work.summarize = summarize
  print(("%d layers of width %d, context %d, batch %d, on %s"):format(settings.layers, settings.width, settings.context,
    settings.batch, settings.device))
  if not training.compare(work, settings) then os.exit(1, true) end
end)
