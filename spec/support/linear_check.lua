--- Runs a linear layer and compares it with the design's table in plain Lua.
--
-- A recipe in the reference's terms: input, weight and grad_output are {format, scale, scale_rounding, more}, where
-- `more` is a table of the other fields of a recipe's operand or nil, with signs as a list; or {quantize = f} of
-- numbers; nil or "full" is what stays as it is. input_grad and weight_grad are {operands of that product alone} or
-- "full", the latter also "quantized"; forward is nil or "full".
local assert = require "luassert"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"

-- @param down whether the product sums over rows
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
  return reference.fake_quantize(x, rule[1], scale, {rows, columns}, dtype, rule[3], nil, more)
end

--- y, dx, dweight, dbias of x (n, in), weight (out, in), bias (out) or nil and dy (n, out), all lists.
local function expected(rules, x, weight, bias, dy, n, inputs, outputs, dtype)
  local of_forward = rules.forward or rules
  local qx = quantized(x, of_forward == "full" and "full" or rules.input, n, inputs, dtype)
  local qw = quantized(weight, of_forward == "full" and "full" or rules.weight, outputs, inputs, dtype)
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
  local dx = reference.matmul(quantized(dy, of_input.grad_output or rules.grad_output, n, outputs, dtype),
    quantized(weight, of_input.weight or rules.weight, outputs, inputs, dtype, true), n, outputs, inputs)
  local left, right = dy, x
  if of_weight and of_weight ~= "full" then
    if of_weight == "quantized" then of_weight = {} end
    left = quantized(dy, of_weight.grad_output or rules.grad_output, n, outputs, dtype, true)
    right = quantized(x, of_weight.input or rules.input, n, inputs, dtype, true)
  end
  local dweight = reference.matmul(left, right, outputs, n, inputs, true)
  return y, dx, dweight, bias and dbias
end

local function compare(actual, values, shape, dtype)
  assert.same(shape, actual.shape)
  if #values == 0 then return end
  support.close(actual, fp8.tensor(values):view(shape), support.tolerance[dtype])
end

--- Runs a linear layer forward and backward on random data and compares everything with the reference.
-- @param setup {device =, dtype = of x, shape = of x without the features, inputs =, outputs =, kind = of x}
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
