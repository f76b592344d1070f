--- What attention's options say, as compute.lua takes it; and how it is recorded.
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local recipes = require "fp8.ops.attention.recipe"

local rules = {}

--- The options that there are, and others.
function rules.options(others)
  local known = {causal = "boolean", scale = "number", dropout = "number", mask = true, recipe = true}
  for name, kind in pairs(others) do known[name] = kind end
  return known
end

--- The rule that options say, checked but for the mask.
function rules.read(name, options, known, features)
  options = check_options(name, options, known)
  local scale, dropout = options.scale or 1 / math.sqrt(features), options.dropout or 0
  if not (scale > -math.huge and scale < math.huge) then
    core.raise(("%s: option scale must be finite, got %s"):format(name, scale))
  end
  if not (dropout >= 0 and dropout < 1) then
    core.raise(("%s: option dropout must be at least 0 and below 1, got %s"):format(name, dropout))
  end
  return {
    causal = options.causal or false, scale = scale, dropout = dropout, group = 1, mask = options.mask,
    wants_mask = autograd.needs_grad(options.mask),
    plan = options.recipe ~= nil and recipes.plan(name .. ": recipe", options.recipe) or nil,
  }
end

--- Records y, which came of `saved` by a rule.
function rules.remember(y, operation, inputs, saved, rule)
  local node = autograd.record(y, operation, inputs, saved)
  node.rule, node.owned = rule, {unpack(saved)}
  return node
end

function rules.free_all(list)
  for _, tensor in ipairs(list) do core.free(tensor) end
end

return rules
