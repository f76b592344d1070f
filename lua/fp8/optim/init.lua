--- fp8.optim: optimizers, and what goes with them.
local schedules = require "fp8.optim.schedule"

return require("fp8.library")("fp8.optim", {
  SGD = require "fp8.optim.sgd",
  Adam = require "fp8.optim.adam",
  AdamW = require "fp8.optim.adamw",
  StableAdamW = require "fp8.optim.stable_adamw",
  Lion = require "fp8.optim.lion",
  Muon = require "fp8.optim.muon",
  clip_grad_norm = require "fp8.optim.clip",
  cosine_schedule = schedules.cosine,
  linear_schedule = schedules.linear,
  constant_schedule = schedules.constant,
  warmup_stable_decay_schedule = schedules.warmup_stable_decay,
  step_schedule = schedules.step,
})
