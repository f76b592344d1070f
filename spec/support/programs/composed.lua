--- Elementwise operations of three operands that are composed of others: each step is float32, the result is rounded
-- once to the dtype that the tensors promote to.
local bound = require "spec.support.reference.bound"
local elementwise = require "spec.support.reference.elementwise"
local operands = require "spec.support.programs.operands"
local operation = require "spec.support.programs.operation"
local reference = require "spec.support.reference"
local tensor = require "spec.support.reference.tensor"

local map, var, expanded, is_number = operation.map, operation.var, operands.expanded, operands.is_number
local exact, neg, mul, div, f32 = bound.exact, bound.neg, bound.mul, bound.div, reference.f32

-- Of three elements and the factor: the value, and the derivatives by each times g, all of float32 steps.
local functions = {
  addcmul = {
    value = function(x, a, b, factor) return f32(x + f32(f32(a * factor) * b)) end,
    gradient = function(g, _, a, b, factor)
      return g, mul(mul(g, exact(b)), exact(factor)), mul(g, exact(f32(a * factor)))
    end,
  },
  addcdiv = {
    value = function(x, a, b, factor) return f32(x + f32(f32(a * factor) / b)) end,
    gradient = function(g, _, a, b, factor)
      local by_quotient = div(g, exact(b))
      return g, mul(by_quotient, exact(factor)), neg(mul(by_quotient, div(exact(f32(a * factor)), exact(b))))
    end,
  },
  -- From the nearer end.
  lerp = {
    value = function(x, y, weight)
      local way = f32(y - x)
      if weight < 0.5 then return f32(x + f32(way * weight)) end
      return f32(y - f32(way * f32(1 - weight)))
    end,
    gradient = function(g, x, y, weight)
      local near = mul(g, exact(weight < 0.5 and weight or f32(1 - weight)))
      local by_way = mul(g, exact(f32(y - x)))
      -- Where x and y are one tensor, both parts may meet g before they meet each other.
      local far = bound.sub(bound.add(g, near), bound.add(near, near))
      if weight < 0.5 then return far, near, by_way end
      return near, far, by_way
    end,
  },
}

local function shape_of(...)
  local shape = {}
  for _, operand in ipairs {...} do
    shape = shape and (is_number(operand) and shape or operation.broadcast(shape, operand.shape))
  end
  return shape
end

local function dtype_of(...)
  local dtype
  for _, operand in ipairs {...} do
    if not is_number(operand) then dtype = dtype and elementwise.promoted(dtype, operand.dtype) or operand.dtype end
  end
  return dtype
end

-- The elements of an operand as float32 values; a number is one beside f32 tensors.
local function floats(operand, shape)
  return map(function(value) return is_number(operand) and f32(value) or tensor.float(value) end,
    expanded(operand, shape))
end

-- A partner whose shape goes with the others', or a new tensor.
local function partner(g, shape)
  local other = g.random(2) == 1 and g.any(function(y)
    local merged = operation.is_float(y) and operation.broadcast(y.shape, shape)
    return merged and tensor.count(merged) <= 300
  end)
  if other then return other end
  local own = {unpack(shape, g.random(#shape + 1))}
  if #own > 0 and g.random(3) == 1 then own[g.random(#own)] = 1 end
  return g.leaf(g.pick {"f32", "bf16", "f16", "e4m3"}, own, {grad = true})
end

local operations = {}

for name, rules in pairs(functions) do
  local is_lerp = name == "lerp"

  -- The factor follows two tensors, in a table or as the step of lerp's three.
  local function split(node_arguments)
    local x, a, b, options = unpack(node_arguments, 1, 4)
    return x, a, b, not is_lerp and f32(options and options.value or 1) or nil
  end

  operations[name] = {
    takes = operation.is_float,
    make = function(g, x)
      local a = partner(g, g.tensor(x).shape)
      local shape = shape_of(g.tensor(x), g.tensor(a))
      local b = is_lerp and g.random(2) == 1 and g.pick {0.25, 0.5, 0.1, 1, 0, 2} or var(partner(g, shape))
      local result = shape_of(g.tensor(x), g.tensor(a), is_number(b) and b or g.tensor(b.variable))
      -- Gradients are added up before they are multiplied: none of them give 0, times what may be NaN.
      if not result or tensor.count(result) == 0 then return nil end
      return {var(x), var(a), b, not is_lerp and g.random(2) == 1 and {value = g.pick {0.5, -2, 0.1}} or nil}
    end,
    compute = function(...)
      local x, a, b, factor = split {...}
      local shape, dtype, list = shape_of(x, a, b), dtype_of(x, a, b), {}
      local first, second, third = floats(x, shape), floats(a, shape), floats(b, shape)
      for i = 1, #first do list[i] = tensor.cast(rules.value(first[i], second[i], third[i], factor), dtype) end
      return operation.new(dtype, shape, list, true)
    end,
    gradient = function(node, dy)
      local x, a, b, factor = split(node.arguments)
      local shape, grads = node.result.shape, {{}, {}, {}}
      local first, second, third = floats(x, shape), floats(a, shape), floats(b, shape)
      for i, g in ipairs(dy) do
        grads[1][i], grads[2][i], grads[3][i] = rules.gradient(g, first[i], second[i], third[i], factor)
      end
      return grads
    end,
  }
end

return operations
