--- Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as PyTorch's torch.optim.AdamW computes it.
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01}

local function moments() return {"first_moment", "second_moment"} end

--- fp8.optim.AdamW(parameters, {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01,
-- master_weights = false})
--
--   p *= 1 - lr · weight_decay
--   m = beta1 · m + (1 - beta1) · g;  v = beta2 · v + (1 - beta2) · g²
--   p -= lr · (m / (1 - beta1^t)) / (√(v / (1 - beta2^t)) + epsilon)
--
-- Parameters: a module, a list of tensors, or a list of groups, tables with a module or a list in `parameters` and
-- settings that differ for them:
--
--   fp8.optim.AdamW({{parameters = matrices}, {parameters = biases, weight_decay = 0}}, {lr = 3e-4})
--
-- The settings are fields: change `optimizer.lr`, or `optimizer.groups[2].lr`, between steps; a group without its own
-- follows the optimizer. With master_weights an f32 copy of every 16-bit parameter is what is updated, and then rounded
-- into the parameter; an element that something else has changed is taken from the parameter. Moments are f32.
--
-- Methods: step, zero_grad, state_dict, load_state_dict. Fields: parameters, groups.
return Optimizer.class("AdamW", "adamw", defaults, moments)
