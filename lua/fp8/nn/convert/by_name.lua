--- Recipes for a whole network: a table that says which layers compute by which recipe, and until which step.
--
--   {default = "mx", ["blocks.1.*"] = false, head = "rowwise", until_step = 540, after = false}
--
--   default     a recipe, a name in fp8.recipes, or false for plain products: of all layers that nothing else names.
--               That there is one tells such a table from a recipe
--   a name      the same for the layers called so. In names * stands for any characters, dots too, and ? for one. Where
--               several fit, the name without either counts, then the one with most other characters
--   until_step  the last training step for which this holds, a whole number of at least 1; nil for all
--   after       what holds then: a recipe, or another such table; false if left out
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local later = require "fp8.later"

local raise = core.raise

local by_name = {}

local own_fields = {default = true, until_step = true, after = true}

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

-- What a name that fits no layer may have been meant to be: layers, what is in a part, and the fields.
local function hint(name, names)
  local known = {}
  for field in pairs(own_fields) do known[field] = true end
  for _, layer in ipairs(names) do
    known[layer] = true
    for position in layer:gmatch "()%." do known[layer:sub(1, position) .. "*"] = true end
  end
  return later("fp8.nearest").hint(name, known)
end

-- The names with a recipe that fit a layer best: the first, and another one that fits as well.
local function best_names(recipes, layer)
  local best, other, precision = nil, nil, -1
  for name in pairs(recipes) do
    if not own_fields[name] and layer:find(pattern_of(name)) then
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

--- What a table says of every layer, by its name.
-- @param where names the caller in errors
-- @param names of all layers, a list
function by_name.choose(where, recipes, names)
  for name in pairs(recipes) do
    if type(name) ~= "string" then
      raise(("%s: the names of layers must be strings, got %s"):format(where, tostring(name)))
    elseif not own_fields[name] then
      local fits = false
      for _, layer in ipairs(names) do fits = fits or layer:find(pattern_of(name)) ~= nil end
      if not fits then raise(("%s: no layer is called %s%s"):format(where, name, hint(name, names))) end
    end
  end
  local chosen = {}
  for _, layer in ipairs(names) do
    local best, other = best_names(recipes, layer)
    if other and recipes[other] ~= recipes[best] then
      if other < best then best, other = other, best end
      local what = layer == "" and "the model" or "layer " .. layer
      raise(("%s: %s is called %s and %s, which say as much and differ"):format(where, what, best, other))
    end
    chosen[layer] = recipes[best or "default"]
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
