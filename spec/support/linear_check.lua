--- Runs a linear layer and compares it with the design's table in plain Lua.
--
-- A recipe in the reference's terms: input, weight and grad_output are {format, scale, scale_rounding, more}, where
-- `more` is a table of the other fields of a recipe's operand or nil, with signs as a list; or {quantize = f} of
-- numbers; nil or "full" is what stays as it is. input_grad and weight_grad are {operands of that product alone} or
-- "full", the latter also "quantized"; forward is nil or "full", keep nil or {format, …}.
local assert = require "luassert"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"

-- Each element times the factor of its row or column.
local function times_factors(x, factors, side, columns, power, round_to)
  local out = {}
  for i, value in ipairs(x) do
    local line = side == "row" and math.floor((i - 1) / columns) + 1 or (i - 1) % columns + 1
    out[i] = round_to(value * factors[line] ^ power)
  end
  return out
end

-- @param down whether the product sums over rows
-- @return the values, and a mask if the operand has one
local function quantized(x, rule, rows, columns, dtype, down)
  if not rule or rule == "full" then return x end
  if rule.quantize then
    local values = {}
    for i, value in ipairs(x) do values[i] = rule.quantize(value) end
    return values
  end
  local scale = rule[2] == "block" and reference.block_length(columns) or rule[2]
  local more = rule[4]
  if more and more.hadamard then
    x = reference.hadamard(x, more.hadamard, down, more.signs, {rows, columns}, reference.round[dtype])
  end
  if more and more.across then
    x = reference.hadamard(x, more.across, not down, nil, {rows, columns}, reference.round[dtype])
  end
  local factors = more and more.smooth and reference.smoothing(x, more.smooth, rows, columns)
  if factors then x = times_factors(x, factors, more.smooth, columns, -1, reference.round[dtype]) end
  local values, scales, groups =
    reference.fake_quantize(x, rule[1], scale, {rows, columns}, dtype, rule[3], nil, more)
  local mask = more and more.mask and reference.mask(x, rule[1], scales, groups)
  if factors then values = times_factors(values, factors, more.smooth, columns, 1, reference.round[dtype]) end
  return values, mask
end

-- What the gradient of x or W is, from a product.
-- @param left, right the rules of the product's operands, nil for none
-- @param forward     the rule of x or W in y
local function straight(grad, left, right, forward, mask, rows, columns, dtype)
  local round_to, shape = reference.round[dtype], {rows, columns}
  local function field(rule, name) return type(rule) == "table" and rule[4] and rule[4][name] end
  local function transform(length, down, signs)
    grad = reference.hadamard(grad, length, down, signs, shape, round_to)
  end
  for _, rule in ipairs {left or {}, right or {}} do
    local across = field(rule, "across")
    if across then transform(across, rule == left) end
  end
  local length, signs = field(forward, "hadamard"), field(forward, "signs")
  local turned = length and field(right, "from")
  if mask and length and not turned then
    transform(length, false, signs)
    turned = true
  end
  for i in ipairs(mask or {}) do grad[i] = grad[i] * mask[i] end
  if not turned then return grad end
  transform(length, false)
  for i, value in ipairs(signs and grad or {}) do
    local column = (i - 1) % columns
    if column < math.floor(columns / length) * length then grad[i] = value * signs[column % length + 1] end
  end
  return grad
end

--- y, dx, dweight, dbias of x (n, in), weight (out, in), bias (out) or nil and dy (n, out), all lists.
local function expected(rules, x, weight, bias, dy, n, inputs, outputs, dtype)
  local of_forward = rules.forward or rules
  local qx, mask = quantized(x, of_forward == "full" and "full" or rules.input, n, inputs, dtype)
  local qw, weight_mask = quantized(weight, of_forward == "full" and "full" or rules.weight, outputs, inputs, dtype)
  local function source(rule, of_forward_pass, own)
    return type(rule) == "table" and rule[4] and rule[4].from and of_forward_pass or own
  end
  local y = reference.matmul(qx, qw, n, inputs, outputs, false, true)
  local dbias = {}
  for j = 1, outputs do
    dbias[j] = 0
    for i = 0, n - 1 do
      if bias then y[i * outputs + j] = y[i * outputs + j] + bias[j] end
      dbias[j] = dbias[j] + dy[i * outputs + j]
    end
  end
  local of_input, of_weight = rules.input_grad or {}, rules.weight_grad
  if of_input == "full" then of_input = {grad_output = "full", weight = "full"} end
  local dy_rule, weight_rule = of_input.grad_output or rules.grad_output, of_input.weight or rules.weight
  local qdy = quantized(dy, dy_rule, n, outputs, dtype)
  local qw_again = quantized(source(weight_rule, qw, weight), weight_rule, outputs, inputs, dtype, true)
  local dx = reference.matmul(qdy, qw_again, n, outputs, inputs)
  dx = straight(dx, dy_rule, weight_rule, rules.input, mask, n, inputs, dtype)
  if rules.keep then x = quantized(x, rules.keep, n, inputs, dtype) end
  local left, right, x_rule = dy, x, nil
  if of_weight and of_weight ~= "full" then
    if of_weight == "quantized" then of_weight = {} end
    dy_rule, x_rule = of_weight.grad_output or rules.grad_output, of_weight.input or rules.input
    left = quantized(dy, dy_rule, n, outputs, dtype, true)
    right = quantized(source(x_rule, qx, x), x_rule, n, inputs, dtype, true)
  end
  local dweight = reference.matmul(left, right, outputs, n, inputs, true)
  dweight = straight(dweight, x_rule and dy_rule, x_rule, rules.weight, weight_mask, outputs, inputs, dtype)
  return y, dx, dweight, bias and dbias
end

local function compare(actual, values, shape, dtype)
  assert.same(shape, actual.shape)
  if #values == 0 then return end
  support.close(actual, fp8.tensor(values):view(shape), support.tolerance[dtype])
end

--- Runs a linear layer forward and backward on random data and compares everything with the reference.
-- @param setup {device =, dtype = of x, shape = of x without the features, inputs =, outputs =, step = nil or what x
-- and dy are multiples of}
return function(layer, rules, setup)
  local n = 1
  for _, size in ipairs(setup.shape) do n = n * size end
  local function shape(features)
    local all = {unpack(setup.shape)}
    table.insert(all, features)
    return all
  end
  local function random(features)
    local x = fp8.randn(shape(features)) * fp8.randn(shape(1)):exp() -- rows of different sizes
    if setup.step then x = (x / setup.step):round() * setup.step end
    return x:to {dtype = setup.dtype}
  end
  local x, dy = random(setup.inputs), random(setup.outputs)
  local leaf = x:to(setup.device):requires_grad_()
  local y = layer(leaf)
  y:backward(dy:to(setup.device))
  local weight, bias = layer.weight, layer.bias
  local want_y, want_dx, want_dweight, want_dbias = expected(rules, support.flat(x), support.flat(weight:detach()),
    bias and support.flat(bias:detach()), support.flat(dy), n, setup.inputs, setup.outputs, setup.dtype)
  assert.equal(setup.dtype, y.dtype)
  compare(y:detach(), want_y, shape(setup.outputs), setup.dtype)
  assert.equal(setup.dtype, leaf.grad.dtype)
  compare(leaf.grad, want_dx, shape(setup.inputs), setup.dtype)
  assert.equal(weight.dtype, weight.grad.dtype)
  compare(weight.grad, want_dweight, {setup.outputs, setup.inputs}, setup.dtype)
  if not bias then return end
  assert.equal(bias.dtype, bias.grad.dtype)
  compare(bias.grad, want_dbias, {setup.outputs}, setup.dtype)
end
