--- Sums of products by Einstein's convention, as diagonals, sums, permutations and products of matrices.
local arrange = require "fp8.ops.arrange"
local check = require "fp8.ops.check"
local computable = require "fp8.computable"
local copy = require "fp8.ops.copy"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local equation = require "fp8.ops.matmul.equation"
local index = require "fp8.ops.index"
local matmul = require("fp8.ops.matmul.matmul").matmul
local reduce = require "fp8.ops.reduce"
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local raise = core.raise

local place_of = equation.place

-- An operand is {x = tensor, labels = a list of the names of its dimensions}.

local most_dimensions = 8

-- An operand without dimension `place`, which something has taken from the tensor.
local function without(x, labels, place)
  local rest = {unpack(labels)}
  table.remove(rest, place)
  return {x = x, labels = rest}
end

-- Repeated labels become one: the diagonal of their dimensions.
local function take_diagonals(operand, term)
  local i = 1
  while i <= #operand.labels do
    local other = place_of(operand.labels, operand.labels[i], i + 1)
    if other then
      local x, size = operand.x, core.size(operand.x, i)
      if core.size(x, other) ~= size then
        raise(("einsum: '%s' repeats a letter of sizes %d and %d"):format(term, size, core.size(x, other)))
      end
      local pair = arrange.movedim(x, {i, other}, {-2, -1})
      local shape = core.shape(pair)
      shape[#shape], shape[#shape - 1] = nil, size * size
      local positions = core.arange(size, {dtype = "i64", device = core.device(x)})
      local diagonal = index.index_select(view.reshape(pair, shape), -1, core.mul(positions, size + 1))
      operand = without(arrange.movedim(diagonal, -1, i), operand.labels, other)
    else
      i = i + 1
    end
  end
  return operand
end

local function read_operand(position, x, term)
  check.tensor("einsum", position + 1, x)
  local letters, place = equation.letters(term)
  local rank = core.rank(x)
  if rank < #letters or rank > #letters and not place then
    raise(("einsum: '%s' does not fit a tensor of shape %s"):format(term, shape_text(core.shape(x))))
  end
  return take_diagonals({x = x, labels = equation.labels(letters, place, rank - #letters)}, term)
end

-- The size of each label: dimensions of size 1 broadcast.
local function sizes_of(operands)
  local sizes = {}
  for _, operand in ipairs(operands) do
    for i, label in ipairs(operand.labels) do
      local size, known = core.size(operand.x, i), sizes[label]
      if known and known ~= 1 and size ~= 1 and size ~= known then
        raise(("einsum: dimension %s has sizes %d and %d"):format(label, known, size))
      end
      if known == nil or known == 1 then sizes[label] = size end
    end
  end
  return sizes
end

-- Without the dimensions of size 1 that broadcast to more.
local function drop_ones(operand, sizes)
  for i = #operand.labels, 1, -1 do
    if core.size(operand.x, i) == 1 and sizes[operand.labels[i]] ~= 1 then
      operand = without(view.select(operand.x, i, 1), operand.labels, i)
    end
  end
  return operand
end

local function sum_over(operand, labels)
  if #labels == 0 then return operand end
  local dimensions, rest = {}, {}
  for i, label in ipairs(operand.labels) do
    if place_of(labels, label) then dimensions[#dimensions + 1] = i else rest[#rest + 1] = label end
  end
  return {x = reduce.sum(operand.x, dimensions), labels = rest}
end

-- Sums over the labels that are not in the list `kept`.
local function sum_rest(operand, kept)
  local gone = {}
  for _, label in ipairs(operand.labels) do
    if not place_of(kept, label) then gone[#gone + 1] = label end
  end
  return sum_over(operand, gone)
end

-- The tensor with its dimensions in the order of `labels`.
local function in_order(operand, labels)
  local order, moves = {}, false
  for i, label in ipairs(labels) do
    order[i] = place_of(operand.labels, label)
    moves = moves or order[i] ~= i
  end
  return moves and view.permute(operand.x, order) or operand.x
end

local function joined(...)
  local list = {}
  for _, part in ipairs {...} do
    for _, label in ipairs(part) do list[#list + 1] = label end
  end
  return list
end

local function sizes_in(labels, sizes)
  local list = {}
  for i, label in ipairs(labels) do list[i] = sizes[label] end
  return list
end

local function product_of(labels, sizes)
  local product = 1
  for _, label in ipairs(labels) do product = product * sizes[label] end
  return product
end

-- Element by element: the shapes are made to broadcast. `a` has the dimensions shared and left, `b` shared and right.
local function outer(a, b, shared, left, right, sizes)
  local ones = {}
  for i = 1, #right do ones[i] = 1 end
  local wide = view.reshape(in_order(a, joined(shared, left)),
    joined(sizes_in(shared, sizes), sizes_in(left, sizes), ones))
  ones = {}
  for i = 1, #left do ones[i] = 1 end
  local other = view.reshape(in_order(b, joined(shared, right)),
    joined(sizes_in(shared, sizes), ones, sizes_in(right, sizes)))
  return elementwise.mul(wide, other)
end

-- Two operands as one, without the labels that are not in the list `kept`.
local function contract(a, b, kept, sizes)
  a, b = sum_rest(a, joined(b.labels, kept)), sum_rest(b, joined(a.labels, kept))
  local batch, left, right, summed = {}, {}, {}, {}
  for _, label in ipairs(a.labels) do
    local list = not place_of(b.labels, label) and left or place_of(kept, label) and batch or summed
    list[#list + 1] = label
  end
  for _, label in ipairs(b.labels) do
    if not place_of(a.labels, label) then right[#right + 1] = label end
  end
  local labels = joined(batch, left, right)
  local dimensions = #labels + (computable[core.dtype(a.x)] and 0 or #summed)
  if dimensions > most_dimensions then
    raise(("einsum: %d dimensions on the way are too many: at most %d"):format(dimensions, most_dimensions))
  end
  if #summed == 0 then return {x = outer(a, b, batch, left, right, sizes), labels = labels} end
  if not computable[core.dtype(a.x)] then
    local shared = joined(batch, summed)
    return sum_over({x = outer(a, b, shared, left, right, sizes), labels = joined(shared, left, right)}, summed)
  end
  local rows, columns, inner = product_of(left, sizes), product_of(right, sizes), product_of(summed, sizes)
  local matrices = #batch > 0 and {product_of(batch, sizes)} or {}
  local y = matmul(view.reshape(in_order(a, joined(batch, left, summed)), joined(matrices, {rows, inner})),
    view.reshape(in_order(b, joined(batch, summed, right)), joined(matrices, {inner, columns})))
  return {x = view.reshape(y, sizes_in(labels, sizes)), labels = labels}
end

-- The two operands whose product has the fewest terms, the first of those that are equal.
local function cheapest_pair(operands, sizes)
  local best, first, second
  for i = 1, #operands do
    for j = i + 1, #operands do
      local cost = product_of(operands[i].labels, sizes)
      for _, label in ipairs(operands[j].labels) do
        if not place_of(operands[i].labels, label) then cost = cost * sizes[label] end
      end
      if not best or cost < best then best, first, second = cost, i, j end
    end
  end
  return first, second
end

-- The labels of the result and of all operands but two.
local function needed(output, operands, first, second)
  local list = output
  for i, operand in ipairs(operands) do
    if i ~= first and i ~= second then list = joined(list, operand.labels) end
  end
  return list
end

-- All of one dtype; integers as i64.
local function check_operands(text, terms, list)
  if #terms ~= #list then
    raise(("einsum: '%s' is of %d operands, got %d"):format(text, #terms, #list))
  end
  local operands, ellipsis = {}, 0
  for i, x in ipairs(list) do
    check.tensor("einsum", i + 1, x)
    if core.dtypes[core.dtype(x)].kind == "integer" then x = copy.to(x, "i64") end
    operands[i] = read_operand(i, x, terms[i])
    if core.dtype(x) ~= core.dtype(operands[1].x) then
      raise(("einsum: one dtype is needed, got %s and %s"):format(core.dtype(list[1]), core.dtype(list[i])))
    end
    local letters, place = equation.letters(terms[i])
    if place then ellipsis = math.max(ellipsis, core.rank(x) - #letters) end
  end
  return operands, ellipsis
end

local einsum = {}

--- fp8.einsum(equation, tensors…) or fp8.einsum(equation, {tensors…}): sums of products. The equation has a term of
-- letters for each tensor, a letter a dimension, and after -> those of the result: elements with equal letters are
-- multiplied, and the products summed over the letters that the result lacks. A letter that a term repeats takes its
-- diagonal; "..." stands for any further dimensions, which broadcast, as do dimensions of size 1. Without -> the result
-- has the ellipsis and, in the order of the alphabet, the letters that occur once. Tensors of one dtype; integers give
-- i64. Of more than two the cheapest pair is multiplied first.
--   fp8.einsum("ij,jk->ik", fp8.ones(2, 3), fp8.ones(3, 1)) --> {{3}, {3}}
--   fp8.einsum("ii", fp8.tensor {{1, 2}, {3, 4}}) --> 5
--   fp8.einsum("...i,...i->...", fp8.tensor {{1, 2}, {3, 4}}, fp8.tensor {1, 10}) --> {21, 43}
function einsum.einsum(text, first, ...)
  if type(text) ~= "string" then raise("einsum: argument 1: string expected, got " .. type(text)) end
  local list = check.list("einsum", "the tensors", first, ...)
  local terms, output = equation.terms(text)
  local operands, ellipsis = check_operands(text, terms, list)
  local sizes = sizes_of(operands)
  local labels = equation.output(output, terms, ellipsis, sizes)
  for i, operand in ipairs(operands) do operands[i] = drop_ones(operand, sizes) end
  while #operands > 1 do
    local i, j = cheapest_pair(operands, sizes)
    operands[i] = contract(operands[i], operands[j], needed(labels, operands, i, j), sizes)
    table.remove(operands, j)
  end
  local result = in_order(sum_rest(operands[1], labels), labels)
  return result == list[1] and copy.clone(result) or result
end

return einsum
