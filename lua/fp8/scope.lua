--- fp8.scope: frees at once what was created inside and is not needed outside.
local core = require "fp8.core"
local as_function = require "fp8.autograd.as_function"
local autograd = require "fp8.autograd"
local promote_reachable = require "fp8.promote"

local function finish(leaves, ...)
  promote_reachable {leaves, ...}
  return ...
end

local function run(leaves, f, ...) return finish(leaves, f(...)) end

jit.off(run) -- compiled code would keep f alive, and all that it refers to

--- Calls f(...), f being a function or a module, and frees the tensors that were created inside, without waiting for
-- the garbage collector.
--
-- Kept are: the tensors that f returns, those in tables that it returns, what their graphs need for a later backward,
-- and gradients that were written to `.grad`. Any other tensor created inside raises an error when it is used
-- afterwards, so a module made or moved to another device inside a scope has to be returned. Scopes may be nested.
-- Errors of f pass through. A coroutine that yields inside is an error: what others make until it resumes would belong
-- to this scope.
-- @return what f returns
--   fp8.scope(function() return (fp8.ones(3) + 1):sum() end):item() --> 6
return function(f, ...)
  local leaves = {}
  f = as_function("scope", f)
  return autograd.collect_written_leaves(leaves, core.scope, promote_reachable, leaves, run, f, ...)
end
