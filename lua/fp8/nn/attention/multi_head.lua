--- Multi-head attention of a sequence to itself.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local arguments = require "fp8.nn.arguments"
local attention = require "fp8.ops.attention"
local changes = require "fp8.changes"
local mask = require "fp8.ops.attention.mask"
local recipes = require "fp8.ops.attention.recipe"
local recipe_copies = require "fp8.linear.recipe_copies"
local rotary_embedding = require "fp8.ops.attention.rotary_embedding"
local view = require "fp8.ops.view"
local Linear = require("fp8.nn.linear").Linear
local Module = require "fp8.nn.module"
local RotaryEmbedding = require "fp8.nn.attention.rotary_embedding"

local known_options = {
  causal = "boolean", bias = "boolean", dropout = "number", kv_heads = "number", rotary = true, recipe = true,
  dtype = "dtype", device = "device",
}
local call_options = {mask = true, key_padding_mask = true, cache = true}

local MultiHeadAttention = Module:extend("MultiHeadAttention")
MultiHeadAttention.unsearched = {recipe = true, plan = true, state = true}
MultiHeadAttention.recipe_kind = "attention"

-- Uniform in ±√(6 / (fan_in + fan_out)): Glorot and Bengio (2010), which PyTorch takes here.
local function glorot(weight)
  local fan_out, fan_in = core.size(weight, 1), core.size(weight, 2)
  core.mul_(weight, math.sqrt(6 / (fan_in + fan_out)) * math.sqrt(fan_in)) -- a Linear starts in ±1 / √fan_in
end

--- fp8.nn.MultiHeadAttention(features, heads [, options]): out_proj(attention of in_proj(x)).
--
-- The parts are Linear layers, so that fp8.convert finds them: `in_proj` (features to those of all heads' queries, then
-- the keys, then the values: 3 · features, fewer with kv_heads) and `out_proj`. PyTorch's nn.MultiheadAttention holds
-- the same numbers as in_proj_weight and in_proj_bias, here in_proj.weight and in_proj.bias, and starts as this does.
--   fp8.nn.MultiHeadAttention(8, 2, {causal = true})(fp8.randn(3, 5, 8)).shape --> {3, 5, 8}
-- @param options
--   causal   whether a position sees only those before it and itself (false)
--   bias     of both layers (true)
--   dropout  of the attention probabilities, in training (0)
--   kv_heads how many heads keys and values have, each for as many heads of queries: 1 is multi-query attention (heads)
--   rotary   true, or options of fp8.nn.RotaryEmbedding: queries and keys are turned by their positions (false)
--   recipe   {q =, k =, v =, probabilities =}, what fp8.attention quantizes; fp8.convert gives another one (none)
--   dtype, device
function MultiHeadAttention:init(features, heads, options)
  local name = self.class_name
  arguments.check_size(name, "features", features)
  arguments.check_size(name, "heads", heads)
  if features % heads ~= 0 then core.raise(("%s: %d heads can't share %d features"):format(name, heads, features)) end
  options = check_options(name, options, known_options)
  self.features, self.heads, self.kv_heads = features, heads, options.kv_heads or heads
  arguments.check_size(name, "option kv_heads", self.kv_heads)
  if heads % self.kv_heads ~= 0 then
    core.raise(("%s: %d heads can't share %d heads of keys and values"):format(name, heads, self.kv_heads))
  end
  self.causal, self.dropout = options.causal or false, options.dropout or 0
  arguments.check_probability(name, "option dropout", self.dropout)
  local rotary = options.rotary
  if rotary then -- which checks its options
    local made = RotaryEmbedding(features / heads, type(rotary) == "table" and rotary or nil)
    self.rotary = {base = made.base, interleaved = made.interleaved}
  end
  if rotary ~= nil and type(rotary) ~= "boolean" and type(rotary) ~= "table" then
    core.raise(("%s: option rotary must be a boolean or a table, got %s"):format(name, type(rotary)))
  end
  self.state = {observer = nil} -- as that of linear layers (linear/state.lua), called with what is quantized
  local bias = options.bias ~= false
  local settings = {bias = bias, dtype = options.dtype, device = options.device}
  self.in_proj = Linear(features, features / heads * (heads + 2 * self.kv_heads), settings)
  self.out_proj = Linear(features, features, settings)
  if options.recipe ~= nil then self.plan, self.recipe = self:plan_for(name, options.recipe) end
  glorot(self.in_proj.weight)
  if bias then
    core.zero_(self.in_proj.bias)
    core.zero_(self.out_proj.bias)
  end
end

--- The plan of this module for a recipe of attention, or false for none; and the recipe.
-- @param where names the caller in errors
function MultiHeadAttention.plan_for(_, where, recipe)
  if recipe == false then return nil, nil end
  return recipes.plan(where .. ": recipe", recipe), recipe_copies.copied(recipe)
end

--- Takes another recipe, as plan_for gave it; to be called inside changes.together.
function MultiHeadAttention:adopt(plan, recipe)
  changes.set(self, "plan", plan)
  changes.set(self, "recipe", recipe)
end

-- The mask of a call's options.
local function mask_of(self, options, x, keys)
  local padding = options.key_padding_mask
  if padding == nil then return options.mask end
  local batch = core.size(x, 1)
  mask.check(self.class_name, "key_padding_mask", padding, {batch, keys}, core.device(x))
  if core.rank(padding) ~= 2 then
    core.raise(("%s: option key_padding_mask must be (batch, keys), got %d dimensions"):format(self.class_name,
      core.rank(padding)))
  end
  if core.dtype(padding) == "u8" then padding = core.eq(padding, 0) end
  padding = view.view(padding, {core.size(padding, 1), 1, 1, core.size(padding, 2)})
  if options.mask ~= nil then
    mask.check(self.class_name, "mask", options.mask, {batch, self.heads, core.size(x, 2), keys}, core.device(x))
  end
  return mask.both(options.mask, padding)
end

-- Heads `first` on of joined (batch, positions, all heads, features), as (batch, heads, positions, features).
local function heads_of(joined, first, count)
  return view.transpose(view.narrow(joined, 3, first, count), 2, 3)
end

-- Of x (batch, positions, features of all heads), with the keys and values of earlier calls before its own.
local function attend_cached(self, x, cache, rule, options)
  local batch, positions, heads, kv_heads = core.size(x, 1), core.size(x, 2), self.heads, self.kv_heads
  local joined = view.view(x, {batch, positions, heads + 2 * kv_heads, self.features / heads})
  local q, k, v = heads_of(joined, 1, heads), heads_of(joined, heads + 1, kv_heads),
    heads_of(joined, heads + kv_heads + 1, kv_heads)
  if self.rotary then
    local rotary = {base = self.rotary.base, interleaved = self.rotary.interleaved, offset = cache:length(self)}
    q, k = rotary_embedding(q, rotary), rotary_embedding(k, rotary)
  end
  local keys, values = cache:append(self, k, v)
  rule.mask, rule.enable_gqa = mask_of(self, options, x, core.size(keys, 3)), kv_heads < heads
  local y = attention.attention(q, keys, values, rule)
  return view.reshape(view.transpose(y, 2, 3), {batch, positions, self.features})
end

--- x (batch, positions, features) to the same shape.
-- @param options
--   mask   as fp8.attention takes it, for (batch, heads, positions, keys): u8, whose ones take part (where PyTorch's
--          nn.MultiheadAttention, unlike its scaled_dot_product_attention, leaves those out), or float, which is added
--   key_padding_mask (batch, keys): u8, whose ones are keys that nobody sees, as PyTorch's; or float, which is added
--   cache  an fp8.nn.KeyValueCache: the keys are those of earlier calls too, and positions go on from there
function MultiHeadAttention:forward(x, options, ...)
  arguments.check_one(self, "one sequence (batch, positions, features) and options", nil, ...)
  if not core.is_tensor(x) then core.raise("MultiHeadAttention: the input must be a tensor, got " .. type(x)) end
  if core.rank(x) ~= 3 then
    core.raise(("MultiHeadAttention: the input must have 3 dimensions, (batch, positions, features), got %d")
      :format(core.rank(x)))
  end
  if core.is_tensor(options) then
    core.raise(self.class_name .. ": options must be a table, got a tensor; a mask is option mask or key_padding_mask")
  end
  options = check_options(self.class_name, options, call_options)
  local cache = options.cache
  if cache ~= nil and not (type(cache) == "table" and cache.append and cache.length) then
    core.raise("MultiHeadAttention: option cache must be an fp8.nn.KeyValueCache, got " .. type(cache))
  end
  local rule = {causal = self.causal, dropout = self.training and self.dropout or 0, recipe = self.plan}
  if self.plan and self.state.observer then rule.recipe = self.plan:observed(self.state.observer) end
  local projected = self.in_proj(x)
  if cache then return self.out_proj(attend_cached(self, projected, cache, rule, options)) end
  rule.mask, rule.kv_heads = mask_of(self, options, x, core.size(x, 2)), self.kv_heads
  rule.rotary = self.rotary
  return self.out_proj(attention.self_attention(projected, self.heads, rule))
end

function MultiHeadAttention:description()
  local text = ("%d, %d heads"):format(self.features, self.heads)
  if self.kv_heads < self.heads then text = ("%s, %d of keys and values"):format(text, self.kv_heads) end
  if self.rotary then
    text = ("%s, rotary base = %g%s"):format(text, self.rotary.base, self.rotary.interleaved and ", interleaved" or "")
  end
  if self.causal then text = text .. ", causal" end
  if self.dropout > 0 then text = ("%s, dropout = %g"):format(text, self.dropout) end
  if self.recipe then
    text = ("%s, recipe: %s"):format(text, Linear.operands_text(self.recipe, "q", "k", "v", "probabilities"))
  end
  return text
end

return MultiHeadAttention
