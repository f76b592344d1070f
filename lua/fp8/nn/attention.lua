--- Multi-head attention of a sequence to itself.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local arguments = require "fp8.nn.arguments"
local self_attention = require("fp8.ops.attention").self_attention
local Linear = require("fp8.nn.linear").Linear
local Module = require "fp8.nn.module"

local known_options = {causal = "boolean", bias = "boolean", dropout = "number", dtype = "dtype", device = "device"}

local MultiHeadAttention = Module:extend("MultiHeadAttention")

-- Uniform in ±√(6 / (fan_in + fan_out)): Glorot and Bengio (2010), which PyTorch takes here.
local function glorot(weight)
  local fan_out, fan_in = core.size(weight, 1), core.size(weight, 2)
  core.mul_(weight, math.sqrt(6 / (fan_in + fan_out)) * math.sqrt(fan_in)) -- a Linear starts in ±1 / √fan_in
end

--- fp8.nn.MultiHeadAttention(features, heads [, options]): out_proj(attention of in_proj(x)).
--
-- The parts are Linear layers, so that fp8.convert finds them: `in_proj` (features to 3 · features: queries, keys and
-- values) and `out_proj`. PyTorch's nn.MultiheadAttention holds the same numbers as in_proj_weight and in_proj_bias,
-- here in_proj.weight and in_proj.bias, and starts as this does.
-- @param options {causal = false, bias = true, dropout = 0, dtype =, device =}; dropout is that of the attention
--   probabilities, in training
--   fp8.nn.MultiHeadAttention(8, 2, {causal = true})(fp8.randn(3, 5, 8)).shape --> {3, 5, 8}
function MultiHeadAttention:init(features, heads, options)
  local name = self.class_name
  arguments.check_size(name, "features", features)
  arguments.check_size(name, "heads", heads)
  if features % heads ~= 0 then core.raise(("%s: %d heads can't share %d features"):format(name, heads, features)) end
  options = check_options(name, options, known_options)
  self.features, self.heads = features, heads
  self.causal, self.dropout = options.causal or false, options.dropout or 0
  arguments.check_probability(name, "option dropout", self.dropout)
  local bias = options.bias ~= false
  local settings = {bias = bias, dtype = options.dtype, device = options.device}
  self.in_proj = Linear(features, 3 * features, settings)
  self.out_proj = Linear(features, features, settings)
  glorot(self.in_proj.weight)
  if bias then
    core.zero_(self.in_proj.bias)
    core.zero_(self.out_proj.bias)
  end
end

--- x (batch, positions, features) to the same shape.
function MultiHeadAttention:forward(x, ...)
  arguments.check_one(self, "one sequence (batch, positions, features), whose mask is option causal,", ...)
  if not core.is_tensor(x) then core.raise("MultiHeadAttention: the input must be a tensor, got " .. type(x)) end
  if core.rank(x) ~= 3 then
    core.raise(("MultiHeadAttention: the input must have 3 dimensions, (batch, positions, features), got %d")
      :format(core.rank(x)))
  end
  local dropout = self.training and self.dropout or 0
  return self.out_proj(self_attention(self.in_proj(x), self.heads, {causal = self.causal, dropout = dropout}))
end

function MultiHeadAttention:description()
  local text = ("%d, %d heads"):format(self.features, self.heads)
  if self.causal then text = text .. ", causal" end
  if self.dropout > 0 then text = ("%s, dropout = %g"):format(text, self.dropout) end
  return text
end

return MultiHeadAttention
