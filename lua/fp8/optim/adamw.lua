--- Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as PyTorch's torch.optim.AdamW computes it.
local core = require "fp8.core"
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01}
local step = {}

local function moments() return {"first_moment", "second_moment"} end

local function settings(self, steps)
  step.lr, step.beta1, step.beta2 = self.lr, self.beta1, self.beta2
  step.epsilon, step.weight_decay = self.epsilon, self.weight_decay
  step.step = steps + 1
  return step
end

local function update(parameter, grad, state, with, live)
  core.adamw_step(parameter, grad, state.first_moment, state.second_moment, with, live)
end

--- fp8.optim.AdamW(parameters or module, {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01})
--
--   p *= 1 - lr · weight_decay
--   m = beta1 · m + (1 - beta1) · g;  v = beta2 · v + (1 - beta2) · g²
--   p -= lr · (m / (1 - beta1^t)) / (√(v / (1 - beta2^t)) + epsilon)
--
-- The settings are fields: change `optimizer.lr` between steps. Methods: step, zero_grad, state_dict, load_state_dict.
return Optimizer.class("AdamW", defaults, moments, "adamw", settings, update)
