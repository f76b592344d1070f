--- Activation functions with a parameter.
local bound = require "spec.support.reference.bound"
local operands = require "spec.support.programs.operands"
local operation = require "spec.support.programs.operation"
local reference = require "spec.support.reference"

local new, map, var, stored = operation.new, operation.map, operation.var, operation.stored
local exact, mul, f32 = bound.exact, bound.mul, reference.f32

-- Of x and the parameter: the default, the value, and the derivative times g, with `to` rounding to the result's dtype.
local functions = {
  leaky_relu = {
    default = 0.01,
    value = function(x, slope) return x > 0 and x or f32(x * slope) end,
    gradient = function(g, x, slope, to) return x > 0 and g or to(mul(g, exact(slope))) end,
  },
  elu = {
    default = 1,
    value = function(x, alpha)
      if not (x <= 0) then return x end
      if x == -math.huge then return -alpha end
      return mul(exact(alpha), bound.expm1(x))
    end,
    gradient = function(g, x, alpha, to)
      return x > 0 and g or to(mul(to(mul(g, exact(alpha))), to(bound.exp(exact(x)))))
    end,
  },
  softplus = {
    default = 1,
    value = function(x, beta)
      if x ~= x then return x end
      local scaled = mul(exact(x), exact(beta))
      local rest = bound.log1p(bound.exp {-math.abs(scaled[1]), scaled[2]})
      local positive = scaled[1] > 0 and scaled or exact(0)
      return bound.div(bound.add(positive, rest), exact(beta))
    end,
    gradient = function(g, x, beta, to) return to(mul(g, to(bound.sigmoid(to(mul(exact(x), exact(beta))))))) end,
  },
}

local operations = {}

for name, rules in pairs(functions) do
  operations[name] = {
    make = function(g, x) return {var(x), g.random(2) == 1 and g.pick {0.25, 0.1, 2, 1, 0.5} or nil} end,
    compute = function(x, parameter)
      local dtype = operation.is_float(x) and x.dtype or "f32"
      parameter = operands.beside(parameter or rules.default, dtype)
      return new(dtype, x.shape, stored(map(function(value)
        return rules.value(value, parameter)
      end, operation.float_list(x)), dtype), true)
    end,
    gradient = function(node, dy)
      local x, parameter = unpack(node.arguments, 1, 2)
      local to = operation.rounds_to(node.result.dtype)
      parameter = operands.beside(parameter or rules.default, x.dtype)
      return {map(function(g, value)
        return operation.is_finite(value) and rules.gradient(g, value, parameter, to) or {0, math.huge}
      end, dy, operation.float_list(x))}
    end,
  }
end

return operations
