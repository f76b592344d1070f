--- fp8.optim: optimizers.
return {
  SGD = require "fp8.optim.sgd",
  AdamW = require "fp8.optim.adamw",
}
