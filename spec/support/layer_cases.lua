--- Layers, losses and functions against PyTorch: cases whose tensors have names (spec/fixtures/nn.py and its like).
local assert = require "luassert"
local support = require "spec.support"

local layer_cases = {}

--- The tensors of a case under one of its prefixes, by what follows.
-- @param tensors what fp8.load gives of a file of fixtures
function layer_cases.part_of(tensors, case, part)
  local found, prefix = {}, case .. "." .. part .. "."
  for name, tensor in support.sorted_pairs(tensors) do
    if name:sub(1, #prefix) == prefix then found[name:sub(#prefix + 1)] = tensor end
  end
  return found
end

local function is_float(tensor) return tensor.dtype == "f32" end

local function check(actual, expected, limit, name)
  local found = support.error(actual:detach():to{device = "cpu", dtype = "f32"}, expected)
  assert.is_true(found <= limit, ("%s: relative error %g is above %g"):format(name, found, limit))
end

--- Runs f on the inputs of a case and compares the result and all gradients.
-- @param setup {device =, dtype = of the inputs, result_dtype =, depth = how many tolerances results may be off}
function layer_cases.compare(tensors, case, f, setup)
  local device, dtype = setup.device, setup.dtype
  local inputs = layer_cases.part_of(tensors, case, "in")
  for key, tensor in support.sorted_pairs(inputs) do
    local moved = tensor:to{device = device, dtype = is_float(tensor) and dtype or nil}:clone()
    inputs[key] = is_float(tensor) and moved:requires_grad_() or moved
  end
  local limit = support.tolerance[dtype] * setup.depth
  local y = f(inputs)
  assert.equal(setup.result_dtype, y.dtype)
  check(y, tensors[case .. ".y"], limit, "y")
  y:backward(tensors[case .. ".dy"]:to{device = device, dtype = y.dtype})
  for key, grad in support.sorted_pairs(layer_cases.part_of(tensors, case, "grad")) do
    assert.equal(inputs[key].dtype, inputs[key].grad.dtype)
    check(inputs[key].grad, grad, limit, "gradient of " .. key)
  end
end

return layer_cases
