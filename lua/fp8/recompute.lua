--- fp8.recompute: a function whose intermediate results are not kept for the backward pass, but computed again there.
local autograd = require "fp8.autograd"
local calls = require "fp8.nn.calls"
local core = require "fp8.core"
local nodes_of = require "fp8.autograd.nodes"
local promote_reachable = require "fp8.promote"
local repeated = require "fp8.linear.repeated"
local shape_text = require("fp8.shapes").text
local walk = require "fp8.autograd.walk"

local promote, raise, version_of = core.promote, core.raise, core.version

local function finish(leaves, ...)
  promote_reachable(leaves)
  return ...
end

local function run_inside(leaves, run, ...) return finish(leaves, run(...)) end

-- Calls run(…) in a scope, which frees what is made inside; run promotes what is to stay.
local function in_scope(run, ...)
  local leaves = {}
  return autograd.collect_written_leaves(leaves, core.scope, promote_reachable, leaves, run_inside, run, ...)
end

-- The nodes that were there before a result was computed, of those that it was made from, and all leaves: a list.
local function sources(root, started)
  local found = {}
  local function is_source(node) return node.leaf or node.sequence <= started end
  for _, node in ipairs(nodes_of(root, is_source)) do
    if is_source(node) then found[#found + 1] = node end
  end
  return found
end

local function check_result(y, count)
  if count ~= 1 or not core.is_tensor(y) then
    raise("recompute: the function must return one tensor, got " .. (count == 1 and type(y) or count .. " values"))
  end
end

-- A result and its node, false where it requires no gradient.
local function with_node(...)
  local y = ...
  check_result(y, select("#", ...))
  return y, autograd.edge(y)
end

local function result_of(f, ...) return with_node(f(...)) end

jit.off(result_of) -- compiled code would keep f alive, and all that it refers to

-- f(…) for the first time: its result, requiring no gradient, and what it was made from, nil for nothing.
local function first_run(job, f, ...)
  local started = autograd.last_sequence()
  local y, root = repeated.first(job.scales, result_of, f, ...)
  local output = core.share(y)
  promote(output)
  repeated.each(job.scales, promote)
  return output, root and sources(root, started)
end

-- The result of f once more, with the random numbers of the first time, and its node.
local function run_again(job)
  local function run() return repeated.second(job.scales, result_of, job.f, unpack(job.arguments, 1, job.count)) end
  if not job.seed then return autograd.recorded(run) end
  local seed, position = core.random_state()
  return core.finally(function() core.manual_seed(seed, position) end, function()
    core.manual_seed(job.seed, job.position)
    return autograd.recorded(run)
  end)
end

local function differs(what) raise("recompute: the function " .. what .. " in the backward pass than before") end

-- The gradients of job.inputs by their positions.
local function second_run(job, node, grad)
  local started, positions = autograd.last_sequence(), job.positions
  local y, root = run_again(job)
  if not (root and core.fits(y, node.shape, node.dtype)) then
    differs(("returned %s of shape %s"):format(core.dtype(y), shape_text(core.shape(y))))
  end
  local arrived = walk(root, grad, grad, false, function(other)
    if not (other.leaf or other.sequence <= started) then return false end
    if not positions[other] then differs "computed with other tensors that require a gradient" end
    return true
  end)
  local gradients = {}
  for i = 1, #arrived, 2 do
    local place = positions[arrived[i]]
    if place then
      gradients[place] = arrived[i + 1]
      promote(arrived[i + 1])
    end
  end
  return gradients
end

local function check_leaves(job)
  for i, leaf in ipairs(job.inputs) do
    local tensor = job.versions[i] and autograd.tensor_of(leaf)
    if tensor and version_of(tensor) ~= job.versions[i] then
      raise(("backward: a tensor of shape %s that recompute needs was changed in place after it"):format(
        shape_text(core.shape(tensor))))
    end
  end
end

local operation = {
  name = "recompute",
  shares = true,
  backward = function(node, grad)
    local job = node.context
    check_leaves(job)
    return in_scope(second_run, job, node, grad)
  end,
}

local function record(output, job, inputs)
  local positions, versions, saved = {}, {}, {}
  for i, node in ipairs(inputs) do
    local tensor = node.leaf and autograd.tensor_of(node)
    positions[node], versions[i] = i, tensor and version_of(tensor) or false
  end
  for i = 1, job.count do
    if core.is_tensor(job.arguments[i]) then saved[#saved + 1] = job.arguments[i] end
  end
  job.inputs, job.positions, job.versions = inputs, positions, versions
  autograd.attach(output, operation, inputs, saved, job)
end

--- Calls f(…) and returns its result, one tensor, without keeping what the derivatives of the operations inside need:
-- the backward pass calls f(…) again for that (Chen et al., "Training deep nets with sublinear memory cost", 2016).
-- PyTorch calls it activation checkpointing.
--
--   for i = 1, #blocks do x = fp8.recompute(blocks[i], x) end
--
-- keeps the inputs of the blocks, and within the backward pass what one of them needs, for one more forward pass of
-- time. Gradients go to the arguments and to whatever else f computes with: the parameters of modules, tensors around
-- it. The second run has the random numbers of the first (dropout, stochastic rounding), and delayed scaling enters its
-- histories once. Calls may be nested, and captured in a graph.
--
-- f has to compute the same in both runs. It runs in a scope (fp8.scope): tensors that it makes and puts elsewhere,
-- rather than returning them, are freed at its end. Where nothing is recorded it is simply called, and while
-- fp8.watch.find looks at what modules compute.
-- @param f a function, or a module
-- @return what f returns
--   local x = fp8.tensor({2}, {requires_grad = true})
--   fp8.recompute(function(y) return y:square() end, x):backward()
--   x.grad --> {4}
return function(f, ...)
  if type(f) ~= "function" and not (getmetatable(f) and getmetatable(f).__call) then
    raise("recompute: a function or a module is needed, got " .. type(f))
  end
  if not autograd.is_recording() or calls.observer then return f(...) end
  local job = {f = f, count = select("#", ...), arguments = {...}, scales = repeated.new()}
  local seed, position = core.random_state()
  local output, inputs = in_scope(first_run, job, f, ...)
  if not inputs then return output end
  local _, after = core.random_state()
  if after ~= position then job.seed, job.position = seed, position end
  record(output, job, inputs)
  return output
end
