--- Lion: Chen et al., "Symbolic discovery of optimization algorithms" (2023), algorithm 2.
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0}

local function moments() return {"first_moment"} end

--- fp8.optim.Lion(parameters, {lr = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0, master_weights = false,
-- rounding = "nearest", state = "f32"})
--
--   p = p · (1 - lr · weight_decay) - lr · sign(beta1 · m + (1 - beta1) · g)
--   m = beta2 · m + (1 - beta2) · g
--
-- Every element moves by lr, so that the paper takes a third to a tenth of AdamW's lr, and as much more weight_decay.
-- Where the mean is 0 an element only decays; where it is NaN the element becomes NaN. Parameters, settings and methods
-- are those of fp8.optim.AdamW; there is one moment, so that option state has no second_format.
--   local x = fp8.ones(1, {requires_grad = true})
--   local optimizer = fp8.optim.Lion({x}, {lr = 0.5})
--   x:sum():backward()
--   optimizer:step()
--   x --> {0.5}
return Optimizer.class("Lion", "lion", defaults, moments)
