--- Stochastic gradient descent with momentum, as PyTorch's torch.optim.SGD computes it.
local core = require "fp8.core"
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false}
local step = {}

local function moments(self) return self.momentum ~= 0 and {"momentum_buffer"} or {} end

local function settings(self, steps)
  step.lr, step.momentum, step.dampening = self.lr, self.momentum, self.dampening
  step.weight_decay, step.nesterov = self.weight_decay, self.nesterov
  step.first = steps == 0
  return step
end

local function update(parameter, grad, state, with, live)
  core.sgd_step(parameter, grad, state.momentum_buffer, with, live)
end

--- fp8.optim.SGD(parameters or module, {lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false})
--
--   g += weight_decay · p;  buffer = momentum · buffer + (1 - dampening) · g  (g at the first step)
--   p -= lr · (nesterov and g + momentum · buffer or buffer)
--
-- The settings are fields: change `optimizer.lr` between steps. Momentum is fixed to none or some when the optimizer is
-- made. Methods: step, zero_grad, state_dict, load_state_dict.
return Optimizer.class("SGD", defaults, moments, "sgd", settings, update)
