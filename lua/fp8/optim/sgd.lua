--- Stochastic gradient descent with momentum, as PyTorch's torch.optim.SGD computes it.
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false}

local function moments(settings) return settings.momentum ~= 0 and {"momentum_buffer"} or {} end

--- fp8.optim.SGD(parameters, {lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false,
-- master_weights = false, rounding = "nearest", state = "f32"})
--
--   g += weight_decay · p;  buffer = momentum · buffer + (1 - dampening) · g  (g at the first step)
--   p -= lr · (nesterov and g + momentum · buffer or buffer)
--
-- Parameters, settings and methods are those of fp8.optim.AdamW. Momentum is fixed to none or some when the optimizer
-- is made.
--   local x = fp8.ones(1, {requires_grad = true})
--   local optimizer = fp8.optim.SGD({x}, {lr = 0.5})
--   x:sum():backward()
--   optimizer:step()
--   x --> {0.5}
return Optimizer.class("SGD", "sgd", defaults, moments)
