--- Muon: momentum whose matrices are made orthogonal before they are the step.
local core = require "fp8.core"
local orthogonal = require "fp8.optim.orthogonal"
local shape_text = require("fp8.shapes").text
local Optimizer = require "fp8.optim.optimizer"

local raise = core.raise

local defaults = {
  lr = 1e-3, momentum = 0.95, nesterov = true, weight_decay = 0.1, ns_steps = 5, adjust_lr_fn = "original",
  use_muon = true, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8,
}

local function rule(settings) return settings.use_muon and "muon" or "adamw" end

local function moments(settings)
  return settings.use_muon and {"momentum_buffer"} or {"first_moment", "second_moment"}
end

-- By rule, the settings that are the other's.
local foreign = {muon = {"beta1", "beta2", "epsilon"}, adamw = {"momentum", "nesterov", "ns_steps", "adjust_lr_fn"}}

local function check_group(label, group, state)
  for _, key in ipairs(foreign[group.rule]) do
    if group[key] ~= nil then
      raise(("%s: option %s is for groups with use_muon = %s"):format(label, key, tostring(group.rule == "adamw")))
    end
  end
  if group.rule == "adamw" then return end
  if state ~= nil and state ~= "f32" then
    raise(label .. ": option state is for groups with use_muon = false: the momentum of matrices is f32")
  end
  for i, parameter in ipairs(group.parameters) do
    if core.rank(parameter) ~= 2 then
      raise(("%s: parameter %d has shape %s and is no matrix: put it into a group with use_muon = false, which " ..
        "AdamW updates"):format(label, i, shape_text(core.shape(parameter))))
    end
  end
end

-- What makes the step of a matrix as large as that of others.
local adjustments = {
  original = function(rows, columns) return math.sqrt(math.max(1, rows / columns)) end,
  match_rms_adamw = function(rows, columns) return 0.2 * math.sqrt(math.max(rows, columns)) end,
  spectral_unclamped = function(rows, columns) return math.sqrt(rows / columns) end,
}

-- The mean that a buffer of momentum is going to be, or what Nesterov's looks ahead to; the buffer stays as it is.
local function mean_of(grad, buffer, settings)
  local wide, fraction = core.to(grad, {dtype = "f32"}), 1 - settings.momentum
  local after = core.sub(buffer, core.mul(core.sub(buffer, wide), fraction))
  if not settings.nesterov then return after end
  return core.add(after, core.mul(core.sub(wide, after), fraction))
end

-- The steps of the matrices in a list as core.update takes it, by their numbers: of the dtypes of their gradients.
local function directions(list, settings)
  local steps, numbers, means = {}, {}, {}
  for number = 1, #list / 7 do
    local grad, buffer = list[7 * number - 5], list[7 * number - 4]
    if core.numel(grad) == 0 then
      steps[number] = grad
    else
      numbers[#numbers + 1], means[#means + 1] = number, mean_of(grad, buffer, settings)
    end
  end
  for i, step in ipairs(orthogonal(means, settings.ns_steps)) do
    local grad = list[7 * numbers[i] - 5]
    local factor = adjustments[settings.adjust_lr_fn](core.size(grad, 1), core.size(grad, 2))
    step = core.to(step, {dtype = core.dtype(grad)})
    steps[numbers[i]] = factor == 1 and step or core.mul(step, factor)
  end
  return steps
end

local lasting = {"momentum", "nesterov", "ns_steps", "adjust_lr_fn"} -- in a graph

-- A batch of SGD for the same parameters, with these settings.
local function batch_of(source, derive)
  local made = source.settings
  local batch = {
    rule = "sgd", group = source.group, steps = source.steps, device = source.device, states = source.states,
    parameters = source.parameters, list = {},
  }
  function batch.derive(settings)
    for _, name in ipairs(lasting) do
      if settings[name] ~= made[name] then
        raise(("graph: Muon's option %s was changed since it was captured; capture it again"):format(name))
      end
    end
    local own = derive(settings)
    own.step = settings.step
    return own
  end
  batch.settings = batch.derive(made)
  return batch
end

local function append(batch, parameter, grad, master)
  local list, count = batch.list, #batch.list
  list[count + 1], list[count + 2], list[count + 5] = parameter, grad, master
  list[count + 3], list[count + 4], list[count + 6], list[count + 7] = false, false, false, false
end

-- What SGD makes of Muon's directions is its step: p -= lr · (direction + weight_decay · p). And its step of the
-- momentum, whose rate and decay are negative, is the mean: buffer += (1 - momentum) · (g - buffer).
local function expand_one(source)
  local updates = batch_of(source, function(settings)
    return {lr = settings.lr, weight_decay = settings.weight_decay, rounding = settings.rounding}
  end)
  local means = batch_of(source, function(settings) return {lr = settings.momentum - 1, weight_decay = -1} end)
  local list = source.list
  for number, step in ipairs(directions(list, source.settings)) do
    local first = 7 * number - 6
    append(updates, list[first], step, list[first + 4])
    append(means, list[first + 2], core.to(list[first + 1], {dtype = "f32"}), false)
  end
  return updates, means
end

local function expand(batches)
  local expanded = {}
  for _, batch in ipairs(batches) do
    if batch.rule == "muon" then
      expanded[#expanded + 1], expanded[#expanded + 2] = expand_one(batch)
    else
      expanded[#expanded + 1] = batch
    end
  end
  return expanded
end

--- fp8.optim.Muon(parameters, {lr = 1e-3, momentum = 0.95, nesterov = true, weight_decay = 0.1, ns_steps = 5,
-- adjust_lr_fn = "original", master_weights = false, rounding = "nearest"}), as PyTorch's torch.optim.Muon computes it:
--
--   m = momentum · m + (1 - momentum) · g
--   u = nesterov and momentum · m + (1 - momentum) · g or m
--   p = p · (1 - lr · weight_decay) - lr · adjusted · orthogonal(u)
--
-- orthogonal(u) is near U·Vᵀ of u = U·S·Vᵀ, by ns_steps rounds of a Newton-Schulz iteration in bf16. `adjusted` is for
-- a matrix (out, in)
--
--   adjust_lr_fn = "original"            √max(1, out / in), as Keller Jordan has it
--   adjust_lr_fn = "match_rms_adamw"     0.2 · √max(out, in), for which AdamW's lr and weight_decay are right:
--                                        "Muon is scalable for LLM training", Liu et al. (2025)
--   adjust_lr_fn = "spectral_unclamped"  √(out / in)
--
-- Parameters are matrices. All others (biases, norms; embeddings and the last layer do better so too) go into groups
-- with use_muon = false, which AdamW updates by the settings lr, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 and
-- weight_decay, and whose moments may be in 8 bits by option state:
--
--   fp8.optim.Muon({{params = matrices, lr = 0.02}, {params = others, use_muon = false, lr = 3e-4}})
--
-- Groups and methods are those of fp8.optim.AdamW. A captured graph follows lr and weight_decay; where one of the other
-- settings has been changed it is to be captured again, and says so. `use_muon` can't change after the optimizer was
-- made.
--   local layer = fp8.Linear(4, 3)
--   local optimizer = fp8.optim.Muon {{params = {layer.weight}}, {params = {layer.bias}, use_muon = false}}
--   layer(fp8.ones(1, 4)):sum():backward()
--   optimizer:step()
--   optimizer.state[1].momentum_buffer.shape --> {3, 4}
return Optimizer.class("Muon", rule, defaults, moments, {
  check_group = check_group, expand = expand, takes_whole = true,
})
