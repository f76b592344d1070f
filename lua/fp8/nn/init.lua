--- fp8.nn: modules.
local activations = require "fp8.nn.activations"
local linear = require "fp8.nn.linear"
local normalization = require "fp8.nn.normalization"

return {
  Module = require "fp8.nn.module",
  Sequential = require "fp8.nn.sequential",
  Linear = linear.Linear,
  LinearMixed = linear.LinearMixed,
  LinearGlobal = linear.LinearGlobal,
  LayerNorm = normalization.LayerNorm,
  RMSNorm = normalization.RMSNorm,
  Embedding = require "fp8.nn.embedding",
  ReLU = activations.ReLU,
  GELU = activations.GELU,
  SiLU = activations.SiLU,
  Dropout = require "fp8.nn.dropout",
  LayerScale = require "fp8.nn.layer_scale",
  MultiHeadAttention = require "fp8.nn.attention",
  MLP = require "fp8.nn.mlp",
  TransformerBlock = require "fp8.nn.transformer",
}
