--- The block that transformers are stacks of.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local arguments = require "fp8.nn.arguments"
local add = require("fp8.ops.elementwise").add
local fused = require "fp8.nn.fused"
local normalization = require "fp8.nn.normalization"
local Dropout = require "fp8.nn.dropout"
local LayerScale = require "fp8.nn.layer_scale"
local MLP = require "fp8.nn.mlp"
local Module = require "fp8.nn.module"
local MultiHeadAttention = require "fp8.nn.attention.multi_head"
local recompute = require "fp8.recompute"

local norms = {layer = normalization.LayerNorm, rms = normalization.RMSNorm}

local known_options = {
  causal = "boolean", hidden = "number", activation = "string", bias = "boolean", dropout = "number",
  layer_scale = "number", norm = "string", norm_first = "boolean", kv_heads = "number", rotary = true,
  recompute = "boolean", dtype = "dtype", device = "device",
}

local TransformerBlock = Module:extend("TransformerBlock")

--- fp8.nn.TransformerBlock(features, heads [, options]): x + attention(norm1(x)), then x + mlp(norm2(x)), as GPT-2 and
-- vision transformers have it (normalization first); or norm1(x + attention(x)), then norm2(x + mlp(x)), as the
-- original transformer, BERT and, unless it is told otherwise, PyTorch's TransformerEncoderLayer do.
--
-- Parts: norm1, attention, norm2, mlp; with layer_scale also scale1 and scale2, and with dropout also dropout, which
-- end the two branches.
-- @param options
--   causal      whether a position sees only those before it and itself (false)
--   hidden      width of the MLP (4 · features)
--   activation  of the MLP: "gelu" (the default), "gelu_tanh", "silu" or "relu"
--   bias        of all linear layers and of layer normalization (true)
--   dropout     of attention probabilities, of the MLP's hidden features and at the end of both branches (0)
--   layer_scale initial value of LayerScale at the end of both branches; none if left out
--   norm        "layer" (the default) or "rms"
--   norm_first  whether the branches begin with the normalization (true), or their sums end with it
--   kv_heads, rotary   of MultiHeadAttention
--   recompute   whether training keeps the block's input alone for the backward pass, which computes the block again
--               (fp8.recompute): less memory for a third more work (false)
--   dtype, device
--   fp8.nn.TransformerBlock(8, 2, {causal = true})(fp8.randn(3, 5, 8)).shape --> {3, 5, 8}
function TransformerBlock:init(features, heads, options)
  local name = self.class_name
  arguments.check_size(name, "features", features)
  options = check_options(name, options, known_options)
  local norm, bias, dropout = norms[options.norm or "layer"], options.bias ~= false, options.dropout or 0
  if not norm then core.raise(("%s: option norm must be layer or rms, got %s"):format(name, options.norm)) end
  arguments.check_probability(name, "option dropout", dropout)
  local function settings(extra)
    extra.dtype, extra.device = options.dtype, options.device
    return extra
  end
  local norm_bias = nil
  if norm == norms.layer then norm_bias = bias end
  self.norm1 = norm(features, settings {bias = norm_bias})
  self.attention = MultiHeadAttention(features, heads,
    settings {causal = options.causal, bias = bias, dropout = dropout, kv_heads = options.kv_heads,
      rotary = options.rotary})
  if options.layer_scale then self.scale1 = LayerScale(features, settings {initial = options.layer_scale}) end
  self.norm2 = norm(features, settings {bias = norm_bias})
  self.mlp = MLP(features, options.hidden or 4 * features,
    settings {activation = options.activation, bias = bias, dropout = dropout})
  if options.layer_scale then self.scale2 = LayerScale(features, settings {initial = options.layer_scale}) end
  self.recompute, self.norm_first = options.recompute or false, options.norm_first ~= false
  if dropout > 0 then self.dropout = Dropout(dropout) end
end

-- A branch with what ends it.
local function ended(self, branch, scale)
  if scale then branch = scale(branch) end
  return self.dropout and self.dropout(branch) or branch
end

-- x + branch, and the norm of that.
local function sum_and_norm(norm, x, branch)
  local sum, normalized = fused.sum_and_norm(norm, x, branch)
  if sum then return sum, normalized end
  sum = add(x, branch)
  return sum, norm(sum)
end

local function compute(self, x, options)
  local first = self.norm_first
  local branch = ended(self, self.attention(first and self.norm1(x) or x, options), self.scale1)
  local sum, normalized = sum_and_norm(first and self.norm2 or self.norm1, x, branch)
  local hidden = ended(self, self.mlp(normalized), self.scale2)
  if first then return add(sum, hidden) end
  local _, y = sum_and_norm(self.norm2, normalized, hidden)
  return y
end

--- x (batch, positions, features) to the same shape.
-- @param options of MultiHeadAttention's forward: {mask =, key_padding_mask =, cache =}
function TransformerBlock:forward(x, options, ...)
  arguments.check_one(self, "one sequence (batch, positions, features) and options of its attention", nil, ...)
  if self.recompute and self.training then return recompute(compute, self, x, options) end
  return compute(self, x, options)
end

return TransformerBlock
