--- Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as PyTorch's torch.optim.AdamW computes it.
local Optimizer = require "fp8.optim.optimizer"

local defaults = {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01}

local function moments() return {"first_moment", "second_moment"} end

--- fp8.optim.AdamW(parameters, {lr = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.01,
-- master_weights = false, rounding = "nearest", state = "f32"})
--
--   p *= 1 - lr · weight_decay
--   m = beta1 · m + (1 - beta1) · g;  v = beta2 · v + (1 - beta2) · g²
--   p -= lr · (m / (1 - beta1^t)) / (√(v / (1 - beta2^t)) + epsilon)
--
-- Parameters: a module, a list of tensors, or a list of groups, tables with a module or a list in `parameters` (or,
-- as in PyTorch, `params`) and settings that differ for them:
--
--   fp8.optim.AdamW({{parameters = matrices}, {parameters = biases, weight_decay = 0}}, {lr = 3e-4})
--
-- The settings are fields: change `optimizer.lr`, or `optimizer.groups[2].lr`, between steps; a group without its own
-- follows the optimizer. With master_weights an f32 copy of every 16-bit parameter is what is updated, and then rounded
-- into the parameter; an element that something else has changed is taken from the parameter. Instead of that,
-- rounding = "stochastic" rounds 16-bit parameters up or down at random, so that small updates add up in the mean: away
-- from 0 with the probability that the number has gone from one step of the dtype to the next. The random numbers are
-- those of fp8.manual_seed, the same on all devices, and new ones in every replay of a graph.
--
-- `state`, which is no field, says what moments are kept in: "f32", or 8 bits with a scale for every block of elements
-- ("8-bit optimizers via block-wise quantization", Dettmers et al., 2022):
--
--   fp8.optim.AdamW(model, {state = {format = fp8.create_dynamic_map()}})     -- as bitsandbytes' 8-bit AdamW
--   fp8.optim.AdamW(model, {state = {format = "e4m3", second_format = "e5m2", blocksize = 128}})
--
--   format         of the first moment: a map, or the name of a format in fp8.formats (a code takes a byte whatever
--                  its format)
--   second_format  of the second; the unsigned dynamic map if `format` is a map, else the same format
--   blocksize      elements in row-major order that share a scale, a power of two from 64 to 2048 (256)
--   smallest       elements of a parameter that has 8-bit moments; of smaller ones they are f32 (4096)
--
-- Left out, it is what `optimizer_state` of the recipes says that fp8.convert has given the module whose parameters
-- these are; a module in its place says so for parameters in lists.
--
-- A step decodes moments, goes on in float32, updates the parameter, and rounds the moments to nearest for the next
-- step. A second moment above 0 stays above 0. A NaN or an infinity in a block makes all of its moments NaN, and with
-- the next step its parameters.
--
-- `shard = true`, which is no field either, of several processes that train one model (fp8.nn.DataParallel): what is
-- kept for parameters is shared out among ranks. Each rank gets the mean gradient of its part of a parameter only,
-- updates the part, and gets the other parts from the other ranks: as many bytes travel as for the means of whole
-- gradients, and clipping and updating take a share of their time. Such a gradient is for clip_grad_norm and step only;
-- reading .grad is an error. Parts are equal, and whole multiples of 64 elements, or 2048 where moments are in 8 bits:
-- a parameter that has no such parts is one rank's, and one of less than 4096 elements all ranks'. state_dict, and with
-- it fp8.checkpoint.save, is then called by all ranks and gives the whole, which any number of ranks can load.
--
-- With shard = "codes", a whole parameter is one rank's, gradients are whole on all, and the weights of the model's
-- layers whose recipe scales them as one tensor are sent as codes, half of the bytes of bf16. A layer computes the
-- same from them (of float32 weights in a hardware format, but for a rounding of the scale), while a weight that
-- another rank keeps has the values of its codes until all call optimizer:gather_weights(), as state_dict does.
--
-- Methods: step, zero_grad, gather_weights, state_dict, load_state_dict. Fields: parameters, groups.
--   local x = fp8.ones(1, {requires_grad = true})
--   local optimizer = fp8.optim.AdamW({x}, {lr = 0.5, weight_decay = 0})
--   x:sum():backward()
--   optimizer:step()
--   x --> {0.5}
return Optimizer.class("AdamW", "adamw", defaults, moments)
