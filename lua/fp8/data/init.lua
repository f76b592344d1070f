--- fp8.data: data sets and batches.
return require("fp8.library")("fp8.data", {
  read_idx = require "fp8.data.idx",
  fashion_mnist = require "fp8.data.fashion_mnist",
  batches = require "fp8.data.batches",
  permutation = require "fp8.data.permutation",
})
