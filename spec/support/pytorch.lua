--- Operations against PyTorch: cases that a script in spec/fixtures has written (spec/fixtures/cases.py).
local assert = require "luassert"
local fp8 = require "fp8"
local support = require "spec.support"

--- The tensors of a case: in, y, dy or grad.
local function part_of(tensors, case, part)
  local list = {}
  for name, tensor in pairs(tensors) do
    local position = name:sub(1, #case + #part + 2) == ("%s.%s."):format(case, part) and name:match "%.(%d+)$"
    if position then list[tonumber(position)] = tensor end
  end
  return list
end

--- Views of every other element, so that the strides are not those of a new tensor.
local function strided(x)
  if x:dim() == 0 then return x:clone() end
  return fp8.stack({x, x}, -1):select(-1, 2)
end

local function compare(tensors, case, call, device, arrange)
  local inputs = {}
  for i, tensor in ipairs(part_of(tensors, case, "in")) do
    inputs[i] = arrange(tensor:to(device))
    if tensor.dtype == "f32" then inputs[i]:requires_grad_() end
  end
  local y = #inputs > 0 and call(unpack(inputs)) or call(nil, device)
  local results, expected = fp8.is_tensor(y) and {y} or y, part_of(tensors, case, "y")
  assert.equal(#expected, #results)
  local dy, total = part_of(tensors, case, "dy"), nil
  for i, result in ipairs(results) do
    assert.equal(expected[i].dtype, result.dtype)
    assert.equal(device, result.device:match "^%a+")
    if result.dtype == "f32" and expected[i]:isfinite():all():item() == 1 then
      support.close(result:detach():cpu(), expected[i])
    else
      support.equal(result:cpu(), expected[i])
    end
    if dy[i] then
      local part = (result * dy[i]:to(device)):sum()
      total = total and total + part or part
    end
  end
  if not total then return end
  total:backward()
  for i, grad in pairs(part_of(tensors, case, "grad")) do
    assert.same(inputs[i].shape, inputs[i].grad.shape)
    support.close(inputs[i].grad:cpu(), grad)
  end
end

local pytorch = {}

--- Tells which cases are missing in a file of fixtures, or in `calls`: a list of names, empty if all is well.
function pytorch.missing(file, calls)
  local seen, missing = {}, {}
  for name in pairs(fp8.load(support.fixture(file))) do
    local case = name:match "^(.*)%.y%.%d+$"
    if case then
      seen[case] = true
      if not calls[case] then table.insert(missing, case) end
    end
  end
  for case in pairs(calls) do
    if not seen[case] then table.insert(missing, case) end
  end
  return missing
end

--- Asserts that `call`, of a case's inputs and of views of the same values, gives what PyTorch gave, and its gradients.
-- It gets nil and the device where there are no inputs.
-- @param tensors what fp8.load gives of a file of fixtures
function pytorch.compare(tensors, case, call, device)
  compare(tensors, case, call, device, function(x) return x:clone() end)
  compare(tensors, case, call, device, strided)
end

return pytorch
