--- backward in random programs: every gradient on the way is compared with what the reference's derivatives of its
-- consumers make of theirs.
local bound = require "spec.support.reference.bound"
local tensor = require "spec.support.reference.tensor"

-- The tensors that lead to `root`: their nodes, latest first, and the leaves.
local function reach(root)
  local nodes, leaves, seen = {}, {}, {}
  local function visit(x)
    if seen[x] or not x.requires_grad then return end
    seen[x] = true
    if not x.node then
      table.insert(leaves, x)
      return
    end
    table.insert(nodes, x.node)
    for i = 1, table.maxn(x.node.arguments) do
      local argument = x.node.arguments[i]
      if type(argument) == "table" and argument.storage then visit(argument) end
    end
  end
  visit(root)
  table.sort(nodes, function(a, b) return a.sequence > b.sequence end)
  return nodes, leaves
end

-- A contribution brought from `shape` to that of x.
local function summed_to(contribution, shape, x, dtype, sums_in)
  if table.concat(shape, ",") == table.concat(x.shape, ",") then return contribution end
  local numbers, arrived = {}, {}
  for i = 1, tensor.count(x.shape) do numbers[i], arrived[i] = i, {} end
  local origins = tensor.list(tensor.expand(tensor.new("f32", x.shape, numbers), shape))
  for i, origin in ipairs(origins) do table.insert(arrived[origin], contribution[i]) end
  return sums_in(dtype)(arrived)
end

local function add_to(totals, x, contribution)
  local earlier = totals[x]
  local total = {}
  for i, value in ipairs(contribution) do
    value = bound.to(x.dtype, value)
    total[i] = earlier and bound.to(x.dtype, bound.add(earlier[i], value)) or value
  end
  totals[x] = total
end

local function exact_list(list)
  local result = {}
  for i, value in ipairs(list) do result[i] = bound.exact(value) end
  return result
end

-- The gradient of a variable, or nil.
local function gradient_of(state, x)
  local grad = state.environment["v" .. x.number].grad
  return grad and tensor.read(grad)
end

local function check_leaf(engine, leaf, before, total, after)
  if not total then
    if (before == nil) ~= (after == nil) then engine.fail("backward", "v%d has a gradient too many", leaf.number) end
    return
  end
  if not after then engine.fail("backward", "v%d has no gradient", leaf.number) end
  local expected = {}
  for i, value in ipairs(total) do
    expected[i] = before and bound.add(bound.exact(before[i]), value) or value
    if before and (before[i] ~= before[i] or math.abs(before[i]) == math.huge) then expected[i] = {0, math.huge} end
  end
  engine.check_elements("gradient of leaf v" .. leaf.number, leaf, expected, after)
end

--- Twice over one graph, the second time with the gradients on the way.
return function(state, statement, engine)
  local root = state.variables[statement.backward]
  local grad = statement.grad and state.variables[statement.grad]
  if not root or not root.node or root.dead or (statement.grad and not grad) then return false end
  if not grad and tensor.count(root.shape) ~= 1 then return false end
  local nodes, leaves = reach(root)
  local before, between = {}, {}
  for i, leaf in ipairs(leaves) do before[i] = gradient_of(state, leaf) end
  local argument = grad and "v" .. statement.grad or "nil"
  engine.run_text(state, "backward", ("v%d:backward(%s, {retain_graph = true})"):format(root.number, argument))
  for i, leaf in ipairs(leaves) do between[i] = gradient_of(state, leaf) end
  for _, node in ipairs(nodes) do
    engine.run_text(state, "retain_grad", ("v%d:retain_grad()"):format(node.result.number))
  end
  engine.run_text(state, "backward", ("v%d:backward(%s)"):format(root.number, argument))
  state.used.backward = (state.used.backward or 0) + 1

  local totals = {}
  local first = grad and tensor.list(grad) or {1}
  for i, value in ipairs(first) do first[i] = tensor.cast(value, root.dtype) end
  totals[root] = exact_list(first)
  for _, node in ipairs(nodes) do
    local x = node.result
    local found, expected = gradient_of(state, x), totals[x]
    local name = ("gradient of v%d, by %s"):format(x.number, node.operation.name)
    if (found == nil) ~= (expected == nil) then engine.fail(name, "is %s", found and "there" or "missing") end
    if expected then
      engine.check_elements(name, {dtype = x.dtype, shape = x.shape, any_zero = true}, expected, found)
      local contributions = node.operation.gradient(node, exact_list(found))
      for i = 1, table.maxn(node.arguments) do
        local input = node.arguments[i]
        if type(input) == "table" and input.requires_grad and contributions[i] then
          local shape = contributions[i].shape or x.shape
          add_to(totals, input, summed_to(contributions[i], shape, input, x.dtype, engine.sums_in))
        end
      end
    end
  end
  for i, leaf in ipairs(leaves) do
    check_leaf(engine, leaf, before[i], totals[leaf], between[i])
    check_leaf(engine, leaf, between[i], totals[leaf], gradient_of(state, leaf))
    state.gradients = (state.gradients or 0) + 1
  end
  for _, node in ipairs(nodes) do node.released = true end
  -- What leads to a released graph can't be walked any more.
  for _, x in pairs(state.variables) do
    for _, node in ipairs((reach(x))) do x.dead = x.dead or node.released end
  end
  return true
end
