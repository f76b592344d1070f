--- Leaves whose gradients somebody waits for, to add them up over processes while the walk back still goes on.
--
-- A leaf node may have a field `reducer`, an object with these methods:
--
--   begin(self)              a walk begins that leads to leaves of it
--   ready(self, leaf, grad)  the gradient of a leaf is complete; still the walk's own
--   finish(self, arrived)    the walk is over; returns a list as `arrived`, node, gradient, …, with its leaves' own,
--                            and a set of nodes whose gradient this one replaces, or nil
--   number                   reducers finish in ascending order
local awaited = {}
awaited.__index = awaited

local any = {reducer = false}

--- Has the gradients of these leaves go to a reducer.
function awaited.register(leaves, reducer)
  for _, leaf in ipairs(leaves) do leaf.reducer = reducer end
  any.reducer = true
end

--- For one walk; nil where nobody ever waited.
function awaited.new() return any.reducer and setmetatable({counts = {}, reducers = {}}, awaited) or nil end

--- The walk has these nodes to go through.
function awaited:expect(nodes)
  local counts, known = self.counts, {}
  for i = 1, #nodes do
    local inputs = nodes[i].inputs
    for j = 1, inputs and #inputs or 0 do
      local reducer = inputs[j] and inputs[j].reducer
      if reducer then
        counts[inputs[j]] = (counts[inputs[j]] or 0) + 1
        if not known[reducer] then
          known[reducer] = true
          self.reducers[#self.reducers + 1] = reducer
        end
      end
    end
  end
  table.sort(self.reducers, function(a, b) return a.number < b.number end)
  for _, reducer in ipairs(self.reducers) do reducer:begin() end
end

--- The node with these inputs has handed them all that it had for them; `grads` by node.
function awaited:passed(inputs, grads)
  local counts = self.counts
  for i = 1, #inputs do
    local input = inputs[i]
    local count = input and counts[input]
    if count then
      counts[input] = count - 1
      if count == 1 and grads[input] then input.reducer:ready(input, grads[input]) end
    end
  end
end

--- What has arrived, with what it becomes over all processes, and the set of nodes whose gradient that replaces.
function awaited:finish(arrived)
  local replaces = {}
  for _, reducer in ipairs(self.reducers) do
    local set
    arrived, set = reducer:finish(arrived)
    for node in pairs(set or {}) do replaces[node] = true end
  end
  return arrived, replaces
end

return awaited
