--- What the training examples share: options, precisions to compare, and a table at the end; run.lua has one run.
--
-- An experiment is a table:
--   name     of the program
--   unit     what throughput counts: "images"
--   metrics  list of {name = "test accuracy", key = "accuracy", format = "%.2f%%", factor = 100}
--   settings list of the options that a run must share with a checkpoint which it goes on from
--   content  what else it must share: texts by the name of what they stand for; nil for nothing
--   row      what the first column of the table is called; nil for "precision"
--   recipes  more recipes by name, or nil
--   adapt    nil, or adapt(recipe), which returns what takes its place in the runs
--   summarize  nil, or summarize(precisions, results), which takes the place of the table; results[name] is a list of
--            the runs' metrics with seed, loss, seconds and rate, and `failures`, a list of what stopped the others
--   build    build(precision, seed) returns a run: {model =, steps = in all, units = of a step, feed = function(step)
--            that writes the step's input into fixed tensors, loss = function() of those, evaluate = function() that
--            returns a table of metrics by key, finish = function() or nil, called at the end}
local csv = require "csv"
local fp8 = require "fp8"
local options = require "options"
local ranks = require "ranks"
local run_once = require "run"
local stepping = require "stepping"
local terminal = require "terminal"

local training = {}

training.usage = [[
  --compare LIST   bf16, f16, f32, or recipes: mixed, global, mixed_native, … (default bf16)
  --recipes FILE   a Lua file that returns more recipes by name, as fp8.convert takes them
  --convert PART   blocks, whose linear layers take a recipe, or all (default blocks)
  --dtype NAME     f32, f16 or bf16: of what a recipe does not quantize (default bf16)
  --device NAME    cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --seeds N        runs of each, whose mean and deviation are printed (default 1)
  --seed N         of the first run: weights, order, augmentation (default 1)
  --optimizer NAME adamw or stable_adamw (default adamw)
  --state NAME     what its moments are kept in: f32, 8bit (dynamic maps) or a format of fp8.formats
                   (default: what recipes by name say, else f32)
  --rounding NAME  nearest, of float32 masters, or stochastic, without masters: of 16-bit parameters (default nearest)
  --lr X           learning rate at its highest: after the warm-up, from where a cosine leads to 0
  --beta2 X        share of the second moment that a step keeps, below 1 (default 0.99)
  --warmup N       steps of the warm-up (default: a tenth of all)
  --weight-decay X of the matrices
  --clip X         largest norm of all gradients together; 0 for any (default 1)
  --csv FILE       where every step's loss and the throughput go
  --checkpoint FILE       go on from FILE if it is there, and write it; with several runs, each has its own
  --checkpoint-every N    steps between checkpoints (default: one at the end)
  --watch N        record every Nth step what the formats do to the values, and print the last at the end
  --watch-csv FILE where all records go; with several runs, each has its own
  --eager          on a GPU: no graph
  --help           this text
]]

local kinds = options.kinds

training.readers = {
  compare = {options.names(), "a list of names"}, recipes = kinds.path,
  convert = {options.one_of("blocks", "all"), "blocks or all"},
  dtype = {options.one_of("f32", "f16", "bf16"), "f32, f16 or bf16"},
  device = kinds.device, seeds = kinds.whole, seed = kinds.whole,
  optimizer = {options.one_of("adamw", "stable_adamw"), "adamw or stable_adamw"},
  state = {options.one_of(unpack(stepping.state_names)), stepping.state_text},
  rounding = {options.one_of("nearest", "stochastic"), "nearest or stochastic"},
  lr = kinds.positive, beta2 = kinds.positive, warmup = kinds.count, weight_decay = kinds.not_negative,
  clip = kinds.not_negative,
  csv = kinds.path, checkpoint = kinds.path, checkpoint_every = kinds.whole,
  watch = kinds.whole, watch_csv = kinds.path,
}

local defaults = {
  compare = {"bf16"}, convert = "blocks", dtype = "bf16", seeds = 1, seed = 1, optimizer = "adamw", beta2 = 0.99,
  clip = 1, eager = false,
}

--- Reads the command line of an example.
-- @param program its name
-- @param usage   text before that of the common options
-- @param readers of its own options
-- @param values  its own defaults: one table for all devices
-- @param sizes   {cpu = , cuda = }: defaults that depend on the device
function training.options(program, usage, readers, values, sizes)
  for name, reader in pairs(training.readers) do readers[name] = readers[name] or reader end
  for name, value in pairs(defaults) do
    if values[name] == nil then values[name] = value end
  end
  options.read(program, usage .. training.usage, readers, values)
  for name, needed in pairs {checkpoint_every = "checkpoint", watch_csv = "watch"} do
    if values[name] and not values[needed] then
      options.stop(program, "option --%s needs --%s", name:gsub("_", "-"), needed)
    end
  end
  values.device = values.device or (fp8.cuda.is_available() and "cuda" or "cpu")
  for name, value in pairs(values.device == "cpu" and sizes.cpu or sizes.cuda) do
    if values[name] == nil then values[name] = value end
  end
  ranks.begin(values)
  return values
end

local plain = require "fp8.computable" -- the precisions without a recipe

-- The recipes of a user's file, by name.
local function read_recipes(path)
  local found, recipes = options.call_foreign(dofile, path), {}
  if type(found) ~= "table" then error(path .. " must return a table of recipes by name", 0) end
  for name, recipe in pairs(found) do
    recipes[name] = recipe
    if type(recipe) == "function" then
      recipes[name] = function(...) return options.call_foreign(recipe, ...) end
    end
  end
  return recipes
end

-- Whether it takes a model to tell what is wrong with a recipe.
local function needs_model(recipe) return type(recipe) == "function" or stepping.is_by_name(recipe) end

--- The precisions that --compare names, as {name =, dtype =, recipe = what fp8.convert takes}.
-- @param more recipes by name, beside those of fp8.recipes, or nil
function training.precisions(settings, more)
  more = more or {}
  local own = settings.recipes and read_recipes(settings.recipes) or {}
  local list = {}
  for i, name in ipairs(settings.compare) do
    local recipe = own[name] or rawget(fp8.recipes, name) or more[name]
    if not recipe and not plain[name] then
      local known = {}
      for _, names in ipairs {plain, fp8.recipes, own, more} do
        for known_name in pairs(names) do known[#known + 1] = tostring(known_name) end
      end
      table.sort(known)
      error(("there is no precision '%s'; known are %s"):format(name, table.concat(known, ", ")), 0)
    end
    if recipe and not needs_model(recipe) then -- what is wrong with it shows before any run
      fp8.convert(fp8.nn.Linear(1, 1, {device = "cpu"}), recipe)
    end
    list[i] = {name = name, dtype = recipe and settings.dtype or name, recipe = recipe or nil}
  end
  return list
end

--- The mean of values and, of several, their standard deviation, as text.
-- @param metric {format =, factor = 1}
function training.mean_text(values, metric)
  local sum, squares = 0, 0
  for _, value in ipairs(values) do sum = sum + value end
  local mean = sum / #values
  for _, value in ipairs(values) do squares = squares + (value - mean) ^ 2 end
  local factor = metric.factor or 1
  local text = metric.format:format(mean * factor)
  if #values == 1 then return text end
  local deviation = metric.format:gsub("%+", ""):format(math.sqrt(squares / (#values - 1)) * factor)
  return ("%s ± %s"):format(text, deviation)
end

-- Characters of a text, which are not its bytes.
local function length_of(text) return select(2, text:gsub("[^\128-\191]", "")) end

-- Text filled up with spaces to a width.
local function padded(text, width) return (" "):rep(width - length_of(text)) .. text end

--- Prints rows of texts as columns, the first and the last to the left.
function training.print_rows(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, length_of(cell)) end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local is_left = i == 1 or i == #row
      cells[i] = is_left and cell .. (" "):rep(widths[i] - length_of(cell)) or padded(cell, widths[i])
    end
    print((table.concat(cells, "  "):gsub("%s+$", "")))
  end
end

local function print_row(first, cells)
  local parts = {("%-24s"):format(first)}
  for i, cell in ipairs(cells) do parts[i + 1] = padded(cell, 17) end
  print((table.concat(parts, "  "):gsub("%s+$", "")))
end

-- One row a precision: the means over its seeds, and what stopped those that did not end.
local function print_table(experiment, precisions, results)
  local columns = {unpack(experiment.metrics)}
  columns[#columns + 1] = {name = "training loss", key = "loss", format = "%.4f"}
  columns[#columns + 1] = {name = "seconds", key = "seconds", format = "%.1f"}
  columns[#columns + 1] = {name = experiment.unit .. "/s", key = "rate", format = "%.0f"}
  local titles = {}
  for i, column in ipairs(columns) do titles[i] = column.name end
  print()
  print_row(experiment.row or "precision", titles)
  for _, precision in ipairs(precisions) do
    local cells, ended = {}, results[precision.name]
    for i, column in ipairs(columns) do
      local values = {}
      for _, result in ipairs(ended) do values[#values + 1] = result[column.key] end
      cells[i] = #values > 0 and training.mean_text(values, column) or "-"
    end
    print_row(precision.name, cells)
    for _, failure in ipairs(ended.failures) do print("  " .. failure) end
  end
end

-- A function for a recipe, or recipes by name, show what is wrong with them on a model only: before any run, too.
local function try_recipes(experiment, precisions, settings)
  for _, precision in ipairs(precisions) do
    if needs_model(precision.recipe) then
      local model = experiment.build(precision, settings.seed).model
      local ok, failure = pcall(stepping.convert, model, precision.recipe, settings)
      if not ok then
        error(type(failure) == "string" and failure:gsub("convert:", "the recipe " .. precision.name .. ":", 1) or
          failure, 0)
      end
    end
  end
end

--- Calls run(precision, seed) for every precision and seed of the settings, and prints a table of what that returns.
-- The others go on after one that failed.
-- @param experiment {name =, unit =, metrics =, row =}, as above
-- @param run        returns a table of metrics by key, with loss, seconds and rate; or nil and what went wrong in words
-- @return whether all runs ended well
function training.tabulate(experiment, precisions, settings, run)
  local results, all_well = {}, true
  for _, precision in ipairs(precisions) do
    results[precision.name] = {failures = {}}
    for seed = settings.seed, settings.seed + settings.seeds - 1 do
      local result, failure = run(precision, seed)
      if failure then
        terminal.finish_line()
        io.stderr:write(("%s: %s, seed %d: %s\n"):format(experiment.name, precision.name, seed, failure))
        table.insert(results[precision.name].failures, ("seed %d: %s"):format(seed, failure))
        all_well = false
      else
        result.seed = seed
        table.insert(results[precision.name], result)
      end
      jit.flush() -- compiled code holds the functions that it was compiled for, and they the model
      collectgarbage() -- so that it makes room for the next
    end
  end
  if experiment.summarize then
    experiment.summarize(precisions, results)
  else
    print_table(experiment, precisions, results)
  end
  return all_well
end

--- Trains with every precision and seed of the settings, and prints a table. A run in which a number is not finite
-- ends; the others go on.
-- @return whether all runs ended well
function training.compare(experiment, settings)
  local precisions = training.precisions(settings, experiment.recipes)
  for _, precision in ipairs(experiment.adapt and precisions or {}) do
    precision.recipe = precision.recipe and experiment.adapt(precision.recipe)
  end
  local columns = {"precision", "seed", "step", "loss", "lr", experiment.unit .. "_per_second", "seconds"}
  for _, metric in ipairs(experiment.metrics) do columns[#columns + 1] = metric.key end
  local log = csv.open(settings.csv, columns, settings.checkpoint ~= nil)
  try_recipes(experiment, precisions, settings)
  settings.single = #precisions == 1 and settings.seeds == 1
  return training.tabulate(experiment, precisions, settings, function(precision, seed)
    return run_once(experiment, precision, seed, settings, log)
  end)
end

return training
