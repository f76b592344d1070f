--- fp8.memory_report: what is kept between a forward and its backward pass, by operation.
local autograd = require "fp8.autograd"
local core = require "fp8.core"
local nodes_of = require "fp8.autograd.nodes"

local Report = {}
Report.__index = Report

-- The memory of leaves, which is there anyway, as a set.
local function memory_of_leaves(nodes)
  local known = {}
  for _, node in ipairs(nodes) do
    local tensor = node.leaf and autograd.tensor_of(node)
    local memory = tensor and core.memory_of(tensor)
    if memory then known[memory] = true end
  end
  return known
end

-- Calls visit(tensor) for the tensors in a table and in the plain tables there, so many deep.
local function each_tensor(container, depth, visit)
  for _, value in next, container do
    if core.is_tensor(value) then
      visit(value)
    elseif depth > 0 and type(value) == "table" and getmetatable(value) == nil then
      each_tensor(value, depth - 1, visit)
    end
  end
end

jit.off(each_tensor) -- nn/module.lua says why

local function count(root)
  local nodes = nodes_of(root)
  table.sort(nodes, function(a, b) return a.sequence < b.sequence end)
  local known, by_name, rows, total = memory_of_leaves(nodes), {}, {}, 0
  for _, node in ipairs(nodes) do
    local name = not node.leaf and node.operation.name
    local row = by_name[name]
    if name and not row then
      row = {operation = name, count = 0, bytes = 0}
      by_name[name], rows[#rows + 1] = row, row
    end
    local function add(tensor)
      local memory, bytes = core.memory_of(tensor)
      if not memory or known[memory] then return end
      known[memory] = true
      row.bytes, total = row.bytes + bytes, total + bytes
    end
    if row then
      row.count = row.count + 1
      each_tensor(node.saved or {}, 0, add)
      each_tensor(node.owned or {}, 0, add)
      if type(node.context) == "table" then each_tensor(node.context, 1, add) end
      if core.is_tensor(node.context) then add(node.context) end
    end
  end
  table.sort(rows, function(a, b)
    if a.bytes ~= b.bytes then return a.bytes > b.bytes end
    return a.operation < b.operation
  end)
  rows.total = total
  return setmetatable(rows, Report)
end

function Report:__tostring()
  local lines = {("%-24s %8s %12s %7s"):format("operation", "count", "MiB", "share")}
  for _, row in ipairs(self) do
    if row.bytes > 0 then
      lines[#lines + 1] = ("%-24s %8d %12.2f %6.1f%%"):format(row.operation, row.count, row.bytes / 2^20,
        100 * row.bytes / self.total)
    end
  end
  lines[#lines + 1] = ("%-24s %8s %12.2f"):format("total", "", self.total / 2^20)
  return table.concat(lines, "\n")
end

--- What the graph of f's result keeps for the backward pass.
--
--   print(fp8.memory_report(function() return fp8.cross_entropy(model(x), target) end))
--
-- Memory that several operations keep counts for the first of them. That of parameters, and of other leaves that
-- require a gradient, does not count: it is there anyway.
-- @param f a function that returns a tensor with a graph; or such a tensor
-- @return a list of {operation = name, count = how often, bytes =}, most bytes first, with the field `total`, in bytes;
--   tostring gives a table
--   local x = fp8.ones(100, {requires_grad = true})
--   fp8.memory_report(function() return (x * 2):exp():sum() end)[1].operation --> "exp"
return function(f)
  local result = f
  if type(f) == "function" then result = f() end
  if not core.is_tensor(result) then
    local what = type(f) == "function" and "the function must return a tensor" or "a function or a tensor is needed"
    core.raise(("memory_report: %s, got %s"):format(what, type(result)))
  end
  local root = autograd.edge(result)
  if not root or root.leaf then core.raise "memory_report: the tensor is the result of no recorded operation" end
  return count(root)
end
