--- Recipes for a whole network: a table that says which layers compute by which recipe, and until which step.
--
--   {default = "mx", ["blocks.1.*"] = false, head = "rowwise", until_step = 540, after = false}
--
--   default     a recipe, a name in fp8.recipes, or false for plain products: of all linear layers and convolutions
--               that nothing else names. That there is one tells such a table from a recipe
--   a name      the same for the layers called so. In names * stands for any characters, dots too, and ? for one. Where
--               several fit, the name without either counts, then the one with most other characters. Of
--               MultiHeadAttention the recipe is {q =, k =, v =, probabilities =} (ops/attention/recipe.lua), of
--               Embedding {rows = operand} (ops/embedding.lua); such a recipe is for these modules alone, that of a
--               layer for layers alone, and false for all. Attention and embeddings that nothing names are left plain
--   optimizer_state  what optimizers that are made of the model from then on keep moments in, unless they have an
--               option `state` of their own, as which it is meant (optim/adamw.lua)
--   until_step  the last training step for which this holds, a whole number of at least 1; nil for all
--   after       what holds then: a recipe, or another such table; false if left out
local attention_recipe = require "fp8.ops.attention.recipe"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local later = require "fp8.later"
local published = require "fp8.linear.published"
local recipe_check = require "fp8.linear.recipe_check"

local raise = core.raise

local by_name = {}

local own_fields = {default = true, optimizer_state = true, until_step = true, after = true}

-- What kind of module a recipe is for, nil for any.
local function kind_of(recipe)
  if recipe == false then return nil end
  if type(recipe) ~= "table" then return "layer" end
  return attention_recipe.is(recipe) and "attention" or recipe.rows ~= nil and "embedding" or "layer"
end

--- Whether a value is such a table.
function by_name.is(recipe) return type(recipe) == "table" and rawget(recipe, "default") ~= nil end

-- As a pattern of Lua's.
local function pattern_of(name)
  return "^" .. name:gsub("[^%w*?]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".") .. "$"
end

-- How much a name says.
local function precision_of(name)
  return name:find "[*?]" and #name:gsub("[*?]", "") or math.huge
end

-- Whether a recipe that is called so is for a module: an entry of layers.all.
local function fits(name, recipe, entry)
  local kind = kind_of(recipe)
  return (not kind or kind == entry.kind) and entry.name:find(pattern_of(name)) ~= nil
end

-- What a name that fits no module of a kind, nil for any, may have been meant to be: modules, what is in a part, and
-- the fields.
local function hint(name, kind, list)
  local known = {}
  for field in pairs(own_fields) do known[field] = true end
  for _, entry in ipairs(list) do
    if not kind or entry.kind == kind then
      known[entry.name] = true
      for position in entry.name:gmatch "()%." do known[entry.name:sub(1, position) .. "*"] = true end
    end
  end
  return later("fp8.nearest").hint(name, known)
end

--- What the fields of a table without a default may have been meant to be, for an error.
function by_name.hint(recipes)
  for name in pairs(recipes) do
    local found = own_fields[name] and "" or later("fp8.nearest").hint(name, own_fields, recipe_check.fields)
    if found ~= "" then return found end
  end
  return ""
end

-- The names with a recipe that fit a module best: the first, and another one that fits as well.
local function best_names(recipes, entry)
  local best, other, precision = nil, nil, -1
  for name, recipe in pairs(recipes) do
    if not own_fields[name] and fits(name, recipe, entry) then
      local own = precision_of(name)
      if own > precision then
        best, other, precision = name, nil, own
      elseif own == precision then
        other = name
      end
    end
  end
  return best, other
end

local function check_name(where, name, recipe, list)
  if type(name) ~= "string" then
    raise(("%s: the names of layers must be strings, got %s"):format(where, tostring(name)))
  end
  if own_fields[name] then return end
  for _, entry in ipairs(list) do
    if fits(name, recipe, entry) then return end
  end
  local kind = kind_of(recipe)
  if recipe_check.fields[name] then
    raise(("%s: no %s is called %s, which is a field of a recipe: default = {…, %s = …}"):format(where, kind or "layer",
      name, name))
  end
  raise(("%s: no %s is called %s%s"):format(where, kind or "layer", name, hint(name, kind, list)))
end

--- What a table says of every module of layers.all, by its place in that list.
-- @param where names the caller in errors
function by_name.choose(where, recipes, list)
  local default = recipes.default -- which may be that of no layer
  if default ~= false then recipe_check.check(where, published.resolve(where, default)) end
  for name, recipe in pairs(recipes) do check_name(where, name, recipe, list) end
  local chosen = {}
  for i, entry in ipairs(list) do
    local best, other = best_names(recipes, entry)
    if other and recipes[other] ~= recipes[best] then
      if other < best then best, other = other, best end
      local what = entry.name == "" and "the model" or entry.kind .. " " .. entry.name
      raise(("%s: %s is called %s and %s, which say as much and differ"):format(where, what, best, other))
    end
    chosen[i] = false
    if best or entry.kind == "layer" then chosen[i] = recipes[best or "default"] end
  end
  return chosen
end

--- The tables that hold one after the other: a list, the recipe that is one table's `after` as {default =}.
function by_name.phases(where, recipes)
  local list = {recipes}
  while list[#list].until_step ~= nil or list[#list].after ~= nil do
    local last, before = list[#list], list[#list - 1]
    if not is_whole(last.until_step, before and before.until_step + 1 or 1) then
      raise(("%s: until_step must be a whole number of at least %d, got %s"):format(where,
        before and before.until_step + 1 or 1, tostring(last.until_step)))
    end
    local after = last.after or false
    list[#list + 1] = by_name.is(after) and after or {default = after}
    if list[#list].optimizer_state ~= nil then
      raise(where .. ": optimizer_state is for all steps: it belongs to the first table")
    end
  end
  return list
end

--- The number of the table in such a list that holds at a training step.
function by_name.phase_at(phases, step)
  local number = 1
  while phases[number].until_step and step > phases[number].until_step do number = number + 1 end
  return number
end

return by_name
