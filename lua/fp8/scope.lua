--- fp8.scope: frees at once what was created inside and is not needed outside.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

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

local function finish(leaves, ...)
  promote_reachable {leaves, ...}
  return ...
end

local function run(leaves, f, ...) return finish(leaves, f(...)) end

jit.off(run) -- compiled code would keep f alive, and all that it refers to

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
  return autograd.collect_written_leaves(leaves, core.scope, promote_reachable, leaves, run, f, ...)
end
