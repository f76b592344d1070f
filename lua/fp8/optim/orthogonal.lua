--- Matrices with the singular vectors of others and singular values around 1: what Muon makes of momentum.
local core = require "fp8.core"
local eye = require("fp8.ops.create").eye

-- a · y + b · (y·yᵀ)·y + c · (y·yᵀ)²·y takes singular values above 0 to around 1 in a few rounds. The coefficients are
-- Keller Jordan's, whose slope at 0 is steep: "Muon: an optimizer for hidden layers in neural networks" (2024),
-- https://kellerjordan.github.io/posts/muon/. PyTorch has the same ones.
local a, b, c = 3.4445, -4.7750, 2.0315
local least_norm = 1e-7

-- Matrices of one shape are multiplied together, as many as have so many elements: a launch for each product of each
-- matrix would cost the host more than small ones cost a GPU.
local most_elements = 2 ^ 26

-- a · 1 + b · g + c · g², of bf16 matrices (…, n, n), rounded once; `diagonal` is a · 1 in f32.
local function polynomial(g, diagonal)
  local sum = core.matmul(g, g, nil, "f32")
  core.mul_(sum, c)
  local wide = core.to(g, {dtype = "f32"})
  core.mul_(wide, b)
  core.add_(sum, wide)
  core.free(wide)
  core.add_(sum, diagonal)
  local rounded = core.to(sum, {dtype = "bf16"})
  core.free(sum)
  return rounded
end

-- The rounds for y, (…, n, m) with n ≤ m, in bf16.
local function iterate(y, steps)
  local n = core.size(y, -2)
  local diagonal = core.mul(eye(n, n, {dtype = "f32", device = core.device(y)}), a)
  for _ = 1, steps do
    local gram = core.matmul(y, core.transpose(y, -1, -2))
    local factor = polynomial(gram, diagonal)
    core.free(gram)
    y = core.matmul(factor, y)
    core.free(factor)
  end
  return y
end

-- A matrix x of f32, which becomes something else, over its norm, with its longer dimension last, in bf16.
local function prepared(x)
  core.div_(x, core.clamp(core.clip_grad_norm({x}, math.huge), least_norm, nil)) -- which only measures
  local y = core.to(x, {dtype = "bf16"})
  return core.size(x, 1) > core.size(x, 2) and core.transpose(y, 1, 2) or y
end

-- Numbers of matrices in `list` that go together: lists of those of one shape.
local function grouped(list)
  local groups, open = {}, {} -- by shape, the group that is not full
  for i, y in ipairs(list) do
    local key = core.size(y, 1) .. " " .. core.size(y, 2)
    local group = open[key]
    if not group or (#group + 1) * core.numel(y) > most_elements then
      group = {}
      open[key], groups[#groups + 1] = group, group
    end
    group[#group + 1] = i
  end
  return groups
end

--- Something near U·Vᵀ of each matrix x = U·S·Vᵀ, in bf16.
-- @param matrices a list of f32 matrices with elements, which become something else
-- @param steps    rounds of the iteration
-- @return a list of bf16 matrices, of any strides
return function(matrices, steps)
  local list, results = {}, {}
  for i, x in ipairs(matrices) do list[i] = prepared(x) end
  for _, group in ipairs(grouped(list)) do
    local members = {}
    for k, i in ipairs(group) do members[k] = list[i] end
    local y = iterate(#members > 1 and core.stack(members, 1) or members[1], steps)
    for k, i in ipairs(group) do
      local one = #members > 1 and core.select(y, 1, k) or y
      results[i] = core.size(matrices[i], 1) > core.size(matrices[i], 2) and core.transpose(one, 1, 2) or one
    end
  end
  return results
end
