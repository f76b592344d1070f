--- What a run has to share with the checkpoint that it goes on from.
local fp8 = require "fp8"
local is_file = require("fp8.files.paths").is_file
local plain_text = require "fp8.files.plain_text"
local zlib = require "zlib"

local resume = {}

-- Options that it shares, beside the experiment's own.
local common_settings = {"convert", "optimizer", "state", "rounding", "lr", "beta2", "weight_decay", "clip"}

-- A recipe with its maps as lists of numbers.
local function without_tensors(value)
  if fp8.is_tensor(value) then return value:totable() end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, part in pairs(value) do copy[key] = without_tensors(part) end
  return copy
end

-- The names in two tables, sorted.
local function names_of(first, second)
  local names = {}
  for name in pairs(first) do names[#names + 1] = name end
  for name in pairs(second) do
    if first[name] == nil then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- A text that tells the recipes of a model's layers from others, whatever they are called.
local function recipes_of(model)
  local recipes = {}
  for name, module in model:named_modules() do recipes[name] = without_tensors(module.recipe) end
  if not next(recipes) then return "none" end
  return ("of CRC-32 %08x"):format(zlib.crc32()(assert(plain_text.encode(recipes))))
end

--- What makes a run this one and no other: a table of plain values by the name of the setting.
-- @param warmup steps of it
function resume.identity(experiment, run, precision, seed, warmup, settings)
  local values = {program = experiment.name, precision = precision.name, dtype = precision.dtype, seed = seed,
    warmup = warmup, recipe = recipes_of(run.model)}
  for _, names in ipairs {common_settings, experiment.settings} do
    for _, name in ipairs(names) do values[name] = settings[name] end
  end
  for name, value in pairs(experiment.content or {}) do values[name] = value end
  return values
end

--- The steps that are done in a checkpoint, nil if there is none.
function resume.step(path)
  if not path or is_file(path) == nil then return nil end
  return fp8.checkpoint.read(path).step
end

--- Reads a checkpoint, if there is one, and makes sure that it is of this run.
-- @param path     of it, or nil
-- @param parts    as for fp8.checkpoint.load
-- @param identity of the run
-- @return what fp8.checkpoint.load returns, or nil
function resume.load(path, parts, identity)
  if not path or is_file(path) == nil then return nil end
  local found = fp8.checkpoint.load(path, parts)
  local settings = type(found.extra.settings) == "table" and found.extra.settings or {}
  for _, name in ipairs(names_of(settings, identity)) do
    if settings[name] ~= identity[name] then
      error(("%s is of a run with %s %s, not %s"):format(path, name, tostring(settings[name]),
        tostring(identity[name])), 0)
    end
  end
  return found
end

return resume
