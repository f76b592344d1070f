--- fp8.scope: frees at once what was created inside and is not needed outside.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

-- The tensors among `roots` and in the tables they lead to: keys, values, gradients and graphs. No recursion, since a
-- graph may be millions of operations deep.
local function reachable_tensors(roots)
  local tensors, pending, seen = {}, {roots}, {[roots] = true}
  local function visit(value)
    local kind = type(value)
    if (kind ~= "table" and kind ~= "userdata") or seen[value] then return end
    seen[value] = true
    if kind == "table" then
      pending[#pending + 1] = value
    elseif core.is_tensor(value) then
      tensors[#tensors + 1] = value
      visit(core.autograd(value))
    end
  end
  while #pending > 0 do
    for key, value in next, table.remove(pending) do
      visit(key)
      visit(value)
    end
  end
  return tensors
end

jit.off(reachable_tensors) -- nn/module.lua says why

local function close(outer_leaves, leaves, ok, ...)
  autograd.collect_written_leaves(outer_leaves)
  if outer_leaves then
    for leaf in pairs(leaves) do outer_leaves[leaf] = true end
  end
  core.scope_end(reachable_tensors {leaves, ...})
  if not ok then error((...), 0) end
  return ...
end

--- Calls f(...) and frees the tensors that were created inside, without waiting for the garbage collector.
--
-- Kept are: the tensors that f returns, those in tables that it returns, what their graphs need for a later backward,
-- and gradients that were written to `.grad`. Any other tensor created inside raises an error when it is used
-- afterwards, so a module made or moved to another device inside a scope has to be returned. Scopes may be nested.
-- Errors of f pass through. A coroutine that yields inside is an error: what others make until it resumes would belong
-- to this scope.
-- @return what f returns
return function(f, ...)
  if type(f) ~= "function" then core.raise("scope: a function is needed, got " .. type(f)) end
  local leaves = {}
  core.scope_begin()
  local outer_leaves = autograd.collect_written_leaves(leaves)
  return close(outer_leaves, leaves, pcall(core.call, f, ...))
end
