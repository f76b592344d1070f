--- fp8.optim: optimizers, and what goes with them.
local schedules = require "fp8.optim.schedule"

return {
  SGD = require "fp8.optim.sgd",
  AdamW = require "fp8.optim.adamw",
  StableAdamW = require "fp8.optim.stable_adamw",
  clip_grad_norm = require "fp8.optim.clip",
  cosine_schedule = schedules.cosine,
  linear_schedule = schedules.linear,
}
