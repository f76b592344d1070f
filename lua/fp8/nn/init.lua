--- fp8.nn: modules.
local activations = require "fp8.nn.activations"
local containers = require "fp8.nn.containers"
local linear = require "fp8.nn.linear"
local normalization = require "fp8.nn.normalization"
local shapes = require "fp8.nn.shapes"

return require("fp8.library")("fp8.nn", {
  Module = require "fp8.nn.module",
  init = require "fp8.nn.initializers",
  Sequential = require "fp8.nn.sequential",
  ModuleList = containers.ModuleList,
  ModuleDict = containers.ModuleDict,
  Identity = shapes.Identity,
  Flatten = shapes.Flatten,
  Linear = linear.Linear,
  LinearMixed = linear.LinearMixed,
  LinearGlobal = linear.LinearGlobal,
  LayerNorm = normalization.LayerNorm,
  RMSNorm = normalization.RMSNorm,
  Embedding = require "fp8.nn.embedding",
  ReLU = activations.ReLU,
  GELU = activations.GELU,
  SiLU = activations.SiLU,
  Tanh = activations.Tanh,
  Sigmoid = activations.Sigmoid,
  Softmax = activations.Softmax,
  LogSoftmax = activations.LogSoftmax,
  Dropout = require "fp8.nn.dropout",
  LayerScale = require "fp8.nn.layer_scale",
  MultiHeadAttention = require "fp8.nn.attention",
  MLP = require "fp8.nn.mlp",
  GatedMLP = require "fp8.nn.gated_mlp",
  TransformerBlock = require "fp8.nn.transformer",
})
