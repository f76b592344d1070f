--- Recipes of attention: {q =, k =, v =, probabilities =}, any of which may be missing, each an operand as in
-- fp8.recipes. What is quantized is multiplied in place of the tensor, and gradients pass straight through. An operand
-- is taken as a matrix, (all rows, features) of q, k and v and (all rows, keys) of the probabilities, which have been
-- through dropout: a "row" is that of one head and position.
local core = require "fp8.core"
local later = require "fp8.later"
local operands = require "fp8.linear.operands"
local planning = require "fp8.linear.plan"
local recipe_check = require "fp8.linear.recipe_check"
local recipe_copies = require "fp8.linear.recipe_copies"
local shapes = require "fp8.shapes"

local raise = core.raise

local recipe = {}

local names = {q = true, k = true, v = true, probabilities = true}

-- A recipe that has been checked: {operands =, planned = by name, {columns =, operand = of a plan for as many},
-- observer = nil or a function}.
local Plan = {}
Plan.__index = Plan

--- Whether a value is a recipe of attention rather than of a linear layer.
function recipe.is(value)
  if type(value) ~= "table" then return false end
  for name in pairs(names) do
    if value[name] ~= nil then return true end
  end
  return false
end

--- The plan of a recipe.
-- @param where names it in errors
-- @param value a recipe, or a plan already
function recipe.plan(where, value)
  if getmetatable(value) == Plan then return value end
  if type(value) ~= "table" then raise(("%s must be a table of operands, got %s"):format(where, type(value))) end
  local copy = {}
  for name, operand in pairs(value) do
    if not names[name] then
      raise(("%s: unknown field %s%s"):format(where, tostring(name), later("fp8.nearest").hint(name, names)))
    end
    local own = ("%s.%s"):format(where, name)
    planning.operand(own, operand, 1)
    recipe_check.check_outside(own, operand, "attention")
    if operand ~= "full" then copy[name] = recipe_copies.copied(operand) end
  end
  return setmetatable({operands = copy, planned = {}, where = where}, Plan)
end

--- Whether something is quantized that is called so.
function Plan:has(name) return self.operands[name] ~= nil end

local function planned(self, name, columns)
  local known = self.planned[name]
  if not known or known.columns ~= columns then
    local operand = planning.operand(("%s.%s"):format(self.where, name), self.operands[name], columns, name)
    known = {columns = columns, operand = operand}
    self.planned[name] = known
  end
  return known.operand
end

--- The same plan, which calls observer(name, matrix, operand) before anything is quantized.
function Plan:observed(observer)
  return setmetatable({operands = self.operands, planned = self.planned, where = self.where, observer = observer}, Plan)
end

--- What is multiplied in place of x: new values of its shape and dtype; x itself, shared, where nothing is quantized.
function Plan:values(name, x)
  if not self.operands[name] then return core.share(x) end
  local operand = planned(self, name, core.size(x, -1))
  if self.observer then self.observer(name, shapes.contiguous_rows(x), operand) end
  return operands.values_in_shape(x, operand)
end

return recipe
