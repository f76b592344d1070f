--- A GPT: tokens and learned positions, pre-norm transformer blocks that look back only, and logits of the next token.
-- Radford et al., "Language models are unsupervised multitask learners" (2019).
local fp8 = require "fp8"

local nn = fp8.nn

local LanguageModel = nn.Module:extend "LanguageModel"

--- LanguageModel{vocabulary =, context =, layers =, width =, heads =, tied =, layer_scale =, recompute =, dtype =,
-- device =}
-- `tied`: the last layer's weight is the embedding's; `layer_scale`: the initial value, nil for none; `recompute`: the
-- backward pass computes the blocks again instead of keeping what is in them.
function LanguageModel:init(sizes)
  local on = {dtype = sizes.dtype, device = sizes.device}
  self.tokens = nn.Embedding(sizes.vocabulary, sizes.width, on)
  self.positions = fp8.zeros(sizes.context, sizes.width,
    {dtype = sizes.dtype, device = sizes.device, requires_grad = true})
  local blocks = {}
  for i = 1, sizes.layers do
    blocks[i] = nn.TransformerBlock(sizes.width, sizes.heads, {
      causal = true, activation = "gelu_tanh", layer_scale = sizes.layer_scale,
      recompute = sizes.recompute, dtype = sizes.dtype, device = sizes.device,
    })
  end
  self.blocks = nn.Sequential(blocks)
  self.norm = nn.LayerNorm(sizes.width, on)
  self.head = nn.Linear(sizes.width, sizes.vocabulary, {bias = false, dtype = sizes.dtype, device = sizes.device})
  if sizes.tied then self.head.weight = self.tokens.weight end
end

-- What the last layer gets, (batch · n, width).
local function features(self, tokens)
  local length = tokens:size(2)
  local x = self.tokens(tokens) + self.positions:narrow(1, 1, length)
  local y = self.norm(self.blocks(x))
  return y:view(-1, y:size(3))
end

--- tokens: integers (batch, n), n at most the context; to logits (batch · n, vocabulary).
function LanguageModel:forward(tokens) return self.head(features(self, tokens)) end

--- The mean cross-entropy of the logits, which are never all in memory: worth while for a large vocabulary.
-- @param targets integers (batch, n): the next tokens
-- @param options of the last layer's cross_entropy, or nil
function LanguageModel:loss(tokens, targets, options)
  return self.head:cross_entropy(features(self, tokens), targets:view(-1), options)
end

return LanguageModel
