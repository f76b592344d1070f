--- Adam (Kingma and Ba, 2015), as PyTorch's torch.optim.Adam computes it: weight decay is part of the gradient.
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0}

local function moments() return {"first_moment", "second_moment"} end

--- fp8.optim.Adam(parameters, {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0,
-- master_weights = false, rounding = "nearest", state = "f32"})
--
--   g += weight_decay · p
--   m = beta1 · m + (1 - beta1) · g;  v = beta2 · v + (1 - beta2) · g²
--   p -= lr · (m / (1 - beta1^t)) / (√(v / (1 - beta2^t)) + epsilon)
--
-- Parameters, settings and methods are those of fp8.optim.AdamW, whose decay is not part of the gradient.
--   local x = fp8.ones(1, {requires_grad = true})
--   local optimizer = fp8.optim.Adam({x}, {lr = 0.5})
--   x:sum():backward()
--   optimizer:step()
--   x --> {0.5}
return Optimizer.class("Adam", "adam", defaults, moments)
