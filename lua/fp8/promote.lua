--- What a scope keeps (scope.lua).
local core = require "fp8.core"

local promote = core.promote

-- Takes the tensors among `roots` and in the tables they lead to, keys, values, gradients and graphs, out of the scope.
-- No recursion, since a graph may be millions of operations deep.
local function promote_reachable(roots)
  local pending, seen = {roots}, {[roots] = true}
  local function visit(value)
    local kind = type(value)
    if (kind ~= "table" and kind ~= "userdata") or seen[value] then return end
    seen[value] = true
    if kind == "table" then
      pending[#pending + 1] = value
    elseif core.is_tensor(value) then
      promote(value)
      visit(core.autograd(value))
    end
  end
  while #pending > 0 do
    for key, value in next, table.remove(pending) do
      visit(key)
      visit(value)
    end
  end
end

jit.off(promote_reachable) -- nn/module.lua says why

return promote_reachable
