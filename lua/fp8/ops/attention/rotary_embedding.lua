--- Rotary position embedding.
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"

local known_options = {base = "number", offset = "number", interleaved = "boolean", dimension = "number"}

local function rotated(x, rule, backwards)
  return core.rotate(x, rule.dimension, rule.base, rule.offset, rule.interleaved, backwards)
end

-- Turning back is turning by the opposite angles.
local rotation = {
  name = "rotary_embedding",
  backward = function(node, grad) return rotated(grad, node.context, true) end,
}

--- fp8.rotary_embedding(x [, options]): pairs of features turned by position · base^(-2i / features) for pair i from 0:
-- Su et al., "RoFormer: enhanced transformer with rotary position embedding" (2021). Positions count from 0, here; the
-- result is computed in float32, from cosines and sines that are rounded once, and rounded once.
--   fp8.rotary_embedding(fp8.tensor {{1, 0}, {1, 0}}) --> {{1, 0}, {0.5403023, 0.841471}}
-- @param x       (…, positions, features), f32, f16 or bf16, an even number of features
-- @param options
--   base        (10000)
--   offset      position of the first element: with a cache, how many were before (0)
--   interleaved whether features 1 and 2, 3 and 4, … are pairs, as in the paper and in Llama's own code; else feature i
--               and i + features / 2, as in GPT-NeoX and in Transformers' Llama (false)
--   dimension   the one that has the positions (-2)
-- @return the same shape and dtype
return function(x, options)
  if not core.is_tensor(x) then core.raise("rotary_embedding: the input must be a tensor, got " .. type(x)) end
  options = check_options("rotary_embedding", options, known_options)
  local rule = {
    base = options.base or 10000, offset = options.offset or 0, interleaved = options.interleaved or false,
    dimension = options.dimension or -2,
  }
  if not is_whole(rule.offset, 0) then
    core.raise(("rotary_embedding: option offset must be a whole number of at least 0, got %s"):format(rule.offset))
  end
  local name = "dimension"
  if not is_whole(rule[name], -core.rank(x)) or rule[name] == 0 or rule[name] > core.rank(x) then
    core.raise(("rotary_embedding: dimension %s of a tensor of %d dimensions"):format(rule.dimension, core.rank(x)))
  end
  local y = rotated(x, rule, false)
  if autograd.needs_grad(x) then autograd.record(y, rotation, {x}, nil, rule) end
  return y
end
