--- AdamW with update clipping: algorithm 2 of "Stable and low-precision training for large-scale vision-language
-- models" (Wortsman et al., 2023).
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-3, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8, weight_decay = 0.01}

local function moments() return {"first_moment", "second_moment"} end

--- fp8.optim.StableAdamW(parameters, {lr = 1e-3, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8, weight_decay = 0.01,
-- master_weights = false, rounding = "nearest", state = "f32"})
--
-- A second moment that is out of date, too small for the gradients of the moment, makes AdamW's steps too large. So the
-- learning rate of each tensor is divided by the root mean square of g / √v where that is above 1, as in AdaFactor:
--
--   b1 = beta1 (1 - beta1^(t-1)) / (1 - beta1^t);  b2 = beta2 (1 - beta2^(t-1)) / (1 - beta2^t)
--   m = b1 · m + (1 - b1) · g;  v = b2 · v + (1 - b2) · g²
--   rate = lr / max(1, √mean(g² / max(v, epsilon²)))
--   p = p - rate · weight_decay · p - rate · m / (√v + epsilon)
--
-- Parameters, settings and methods are those of fp8.optim.AdamW. A NaN gradient makes its whole parameter NaN.
--   local x = fp8.ones(1, {requires_grad = true})
--   local optimizer = fp8.optim.StableAdamW({x}, {lr = 0.5, weight_decay = 0})
--   x:sum():backward()
--   optimizer:step()
--   x --> {0.5}
return Optimizer.class("StableAdamW", "stable_adamw", defaults, moments, {takes_whole = true})
