--- Products of matrices, in full and in the precision of a recipe.
local binary = require "spec.support.programs.binary"
local bound = require "spec.support.reference.bound"
local matrices = require "spec.support.programs.matrices"
local operation = require "spec.support.programs.operation"
local reference = require "spec.support.reference"
local tensor = require "spec.support.reference.tensor"

local new, map, var = operation.new, operation.map, operation.var
local exact, is_computable = bound.exact, operation.is_computable

local operations = {}

-- Operands of one batch: vectors as a row on the left and a column on the right, leading dimensions broadcast.
local function operands(a, b)
  local left = #a.shape == 1 and tensor.view(a, {1, a.shape[1]}, {0, a.stride[1]}) or a
  local right = #b.shape == 1 and tensor.view(b, {b.shape[1], 1}, {b.stride[1], 0}) or b
  local batch =
    operation.broadcast({unpack(left.shape, 1, #left.shape - 2)}, {unpack(right.shape, 1, #right.shape - 2)})
  local function expanded(x)
    local shape = {unpack(batch)}
    table.insert(shape, x.shape[#x.shape - 1])
    table.insert(shape, x.shape[#x.shape])
    return tensor.expand(x, shape)
  end
  return expanded(left), expanded(right), batch
end

-- The bounds of the product's elements, and its shape.
local function product(a, b)
  local left, right, shape = operands(a, b)
  local first, second, list = matrices.of_tensor(left), matrices.of_tensor(right), {}
  for i = 1, #first do list[i] = matrices.product(first[i], second[i]) end
  if #a.shape > 1 then table.insert(shape, left.shape[#left.shape - 1]) end
  if #b.shape > 1 then table.insert(shape, right.shape[#right.shape]) end
  return matrices.joined(list), shape
end

operations.matmul = {
  takes = function(x) return is_computable(x) and #x.shape > 0 and #x.shape <= 4 end,
  make = function(g, x)
    local own = g.tensor(x)
    local inner = own.shape[#own.shape]
    local function suits(y)
      return y.dtype == own.dtype and #y.shape > 0 and y.shape[math.max(#y.shape - 1, 1)] == inner and
        operation.broadcast({unpack(own.shape, 1, #own.shape - 2)}, {unpack(y.shape, 1, #y.shape - 2)})
    end
    local other = g.random(3) > 1 and g.any(suits)
    if not other then
      local shape = {inner, g.random(5) - 1}
      if g.random(5) == 1 then shape = {inner} end
      if #own.shape > 2 and #shape == 2 and g.random(2) == 1 then
        table.insert(shape, 1, g.random(3) == 1 and 1 or own.shape[#own.shape - 2])
      end
      other = g.leaf(own.dtype, shape, {grad = true})
    end
    return {var(x), var(other)}
  end,
  compute = function(a, b)
    local list, shape = product(a, b)
    return new(a.dtype, shape, matrices.any_if_unbounded(list), true)
  end,
  gradient = function(node, dy)
    local a, b = unpack(node.arguments)
    local left, right = operands(a, b)
    local rows, columns = left.shape[#left.shape - 1], right.shape[#right.shape]
    local first, second, da, db = matrices.of_tensor(left), matrices.of_tensor(right), {}, {}
    local grads = matrices.of_list(dy, rows, columns)
    for i = 1, #first do
      local g = grads[i] or matrices.new({}, rows, columns)
      da[i] = matrices.converted(matrices.product(g, matrices.transposed(second[i])), a.dtype)
      db[i] = matrices.converted(matrices.product(matrices.transposed(first[i]), g), a.dtype)
    end
    -- A vector's, without the dimension that made it a matrix.
    local function result(list, expanded, x, added)
      list = matrices.joined(list)
      list.shape = #x.shape == 1 and operation.without(expanded.shape, #expanded.shape - added) or expanded.shape
      return list
    end
    return {result(da, left, a, 1), result(db, right, b, 0)}
  end,
}

--- --- by name ---

--- matmul of an x of `rank` dimensions and the shape that `other` makes of x's.
local function named(rank, other)
  return {
    takes = function(x) return is_computable(x) and #x.shape == rank end,
    make = function(g, x)
      local shape = other(g.tensor(x).shape, g.random(5) - 1)
      local wanted = table.concat(shape, ",")
      local found = g.random(2) == 1 and g.any(function(y)
        return y.dtype == g.tensor(x).dtype and table.concat(y.shape, ",") == wanted
      end)
      return {var(x), var(found or g.leaf(g.tensor(x).dtype, shape, {grad = true}))}
    end,
    compute = operations.matmul.compute, gradient = operations.matmul.gradient,
  }
end

operations.mv = named(2, function(shape) return {shape[2]} end)
operations.dot = named(1, function(shape) return {shape[1]} end)
operations.bmm = named(3, function(shape, columns) return {shape[1], shape[3], columns} end)

operations.outer = {
  takes = function(x) return #x.shape == 1 end,
  make = function(g, x)
    local other = g.random(2) == 1 and g.any(function(y) return #y.shape == 1 end)
    other = other or g.leaf(g.pick(operation.dtypes), {g.random(4)}, {grad = true})
    return g.tensor(x).shape[1] * g.tensor(other).shape[1] <= 600 and {var(x), var(other)} or nil
  end,
  compute = function(a, b) return binary.mul.compute(tensor.view(a, {a.shape[1], 1}, {a.stride[1], 0}), b) end,
  gradient = function(node, dy)
    local a, b = unpack(node.arguments)
    local column = tensor.view(a, {a.shape[1], 1}, {a.stride[1], 0})
    local first, second = unpack(binary.mul.gradient({arguments = {column, b}, result = node.result}, dy))
    local rows, columns, arrived = a.shape[1], b.shape[1], {}
    for i = 1, rows do arrived[i] = {unpack(first, (i - 1) * columns + 1, i * columns)} end
    first = node.sums(arrived)
    first.shape = a.shape
    return {first, second}
  end,
}

-- A number beside f32 tensors.
local function number(value) return exact(reference.f32(value)) end

-- beta · x + alpha · a·b, rounded once, of the arguments a, b and x; `base` is the product.
local function added(name, base)
  local function factors(options) return options and options.beta or 1, options and options.alpha or 1 end
  return {
    takes = base.takes,
    make = function(g, a)
      local arguments = base.make(g, a)
      local shape = base.compute(g.tensor(a), g.tensor(arguments[2].variable)).shape
      local x = g.random(2) == 1 and g.any(function(y)
        return is_computable(y) and operation.broadcasts_to(y.shape, shape)
      end)
      x = x or g.leaf(g.tensor(a).dtype, {unpack(shape, g.random(#shape + 1))}, {grad = true})
      local options = g.random(2) == 1 and {beta = g.pick {0, 0.5, 2, 0.1, 1}, alpha = g.pick {1, -2, 0.3}} or nil
      return {var(a), arguments[2], var(x), options}
    end,
    text = function(a, b, x, options)
      return ("%s:%s(%s, %s%s)"):format(x, name, a, b, options and ", " .. options or "")
    end,
    compute = function(a, b, x, options)
      local list, shape = product(a, b)
      local beta, alpha = factors(options)
      local sums = map(function(sum) return alpha == 1 and sum or bound.mul(sum, number(alpha)) end, list)
      if beta ~= 0 then
        sums = map(function(sum, addend)
          addend = exact(addend)
          return bound.add(sum, beta == 1 and addend or bound.mul(addend, number(beta)))
        end, sums, tensor.list(tensor.expand(x, shape)))
      end
      return new(a.dtype, shape, matrices.any_if_unbounded(sums), true)
    end,
    gradient = function(node, dy)
      local a, b, _, options = unpack(node.arguments, 1, 4)
      local beta, alpha = factors(options)
      local function scaled(factor)
        if factor == 1 then return dy end
        local value = exact(reference.round[a.dtype](factor))
        return map(function(g) return bound.to(a.dtype, bound.mul(g, value)) end, dy)
      end
      local first, second = unpack(base.gradient({arguments = {a, b}}, scaled(alpha)))
      return {first, second, scaled(beta)}
    end,
  }
end

operations.addmm = added("addmm", named(2, function(shape, columns) return {shape[2], columns} end))
operations.baddbmm = added("baddbmm", operations.bmm)

--- --- recipes ---

local formats = {reference.map(true, 4, 3), reference.map(true, 5, 2)}

local function quantized(list, format, scale, rows, columns, dtype)
  local values = reference.fake_quantize(list, formats[format], scale, {rows, columns}, dtype)
  return matrices.new(map(exact, values), rows, columns)
end

-- LinearMixed's and LinearGlobal's products, of a (…, K) and b (K, N).
local function recipe_product(name)
  local function parts(a, b)
    local inner, columns = unpack(b.shape)
    local rows = tensor.count {unpack(a.shape, 1, #a.shape - 1)}
    local scale = name == "mixed" and reference.block_length(inner) or "tensor"
    -- b is quantized as the weight that it is the transpose of; as a whole, so that the order makes no difference.
    return rows, inner, columns, quantized(tensor.list(a), 1, scale, rows, inner, a.dtype),
      quantized(tensor.list(b), 1, "tensor", inner, columns, a.dtype)
  end
  return {
    text = "function",
    takes = function(x) return is_computable(x) and #x.shape > 0 and #x.shape <= 4 end,
    make = function(g, x)
      local own = g.tensor(x)
      return {var(x), var(g.leaf(own.dtype, {own.shape[#own.shape], g.random(4)}, {grad = true}))}
    end,
    compute = function(a, b)
      local _, _, columns, left, right = parts(a, b)
      local shape = operation.with(a.shape, #a.shape, columns)
      return new(a.dtype, shape, matrices.any_if_unbounded(matrices.product(left, right).list), true)
    end,
    gradient = function(node, dy)
      local a, b = unpack(node.arguments)
      local rows, inner, columns, left, right = parts(a, b)
      local values = map(function(g) return g[1] end, dy)
      local scale = name == "mixed" and reference.block_length(columns) or "tensor"
      local g = quantized(values, 2, scale, rows, columns, a.dtype)
      local da = matrices.converted(matrices.product(g, matrices.transposed(right)), a.dtype)
      if name == "mixed" then
        left, g = matrices.new(map(exact, tensor.list(a)), rows, inner), matrices.new(dy, rows, columns)
      end
      local db = matrices.converted(matrices.product(matrices.transposed(left), g), a.dtype)
      da.list.shape, db.list.shape = a.shape, b.shape
      return {da.list, db.list}
    end,
  }
end

operations.matmul_mixed, operations.matmul_global = recipe_product "mixed", recipe_product "global"

return operations
