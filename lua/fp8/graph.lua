--- fp8.cuda.graph: a piece of work, a training step for example, captured once and replayed with one call.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local Graph = {}
Graph.__index = Graph

local now = {open = false} -- the graph that is being captured

local graph = {}

--- The device of the graph that is being captured, or nil.
function graph.capturing() return now.open and now.open.device or nil end

--- Has the graph that is being captured call functions before every replay, for what a replay has to do in Lua.
-- @param hook {prepare = function() that may raise an error and changes nothing that others see, commit =
--   function(fields, count) that writes to the device what was prepared, adds the fields of tables that change with the
--   replay, as core.commit takes them, and returns the new count}; nothing is committed before all hooks of the graph
--   are prepared
function graph.on_replay(hook)
  local hooks = now.open.hooks
  hooks[#hooks + 1] = hook
end

--- Replays the work. Returns what f returned when it was captured, the same tensors each time.
function Graph:__call()
  local hooks, leaves, grads = self.hooks, self.leaves, self.grads
  for i = 1, #hooks do hooks[i].prepare() end
  local fields, count = {}, 0
  for i = 1, #hooks do count = hooks[i].commit(fields, count) end
  for i = 1, #leaves do
    fields[3 * count + 1], fields[3 * count + 2], fields[3 * count + 3] = leaves[i], "grad", grads[i]
    count = count + 1
  end
  core.graph_replay(self.work, fields, count)
  return unpack(self.outputs, 1, self.count)
end

function Graph:__tostring() return "fp8.cuda.graph on " .. self.device end

local function rehearse(self, f)
  core.finally(function() core.graph_prepare(self.device, false) end, function()
    core.graph_prepare(self.device, true)
    f()
  end)
end

local function keep_outputs(self, ...) self.outputs, self.count = {...}, select("#", ...) end

local function take_down(self, written, f)
  self.work = core.graph_begin(self.device)
  keep_outputs(self, core.with(now, "open", self, autograd.collect_written_leaves, written, f))
  core.graph_end(self.work)
  for leaf in pairs(written) do
    self.leaves[#self.leaves + 1] = leaf
    self.grads[#self.grads + 1] = leaf.grad or false
  end
  self.complete = true
end

local function give_up_unless_complete(self, written)
  if self.complete then return end
  for leaf in pairs(written) do leaf.grad = false end -- nothing has computed it
  if self.work then core.graph_release(self.work) end
end

--- Runs f twice: once as usual, and once to take its work on a CUDA device down as a graph, which does nothing yet.
-- Calling the graph then does that work again, without running f: a dozen operations cost the host one launch.
--
--   local x, target = fp8.zeros(64, 784, on), fp8.zeros(64, {dtype = "i64", device = "cuda"})
--   local step = fp8.cuda.graph(function()
--     optimizer:zero_grad()
--     local loss = fp8.cross_entropy(model(x), target)
--     loss:backward()
--     optimizer:step()
--     return loss
--   end)
--   for images, labels in batches do
--     x:copy_(images)
--     target:copy_(labels)
--     local loss = step()
--   end
--
-- The graph reads and writes the very memory that f used. Its inputs are tensors that exist already: write new values
-- into them with copy_. Its results are the tensors that f returned and the gradients that it left in `.grad`; every
-- replay overwrites them, so clone what has to stay. What f does in Lua is not repeated: the graph goes the way that f
-- went when it was captured. Optimizers follow: a replay counts as a step, takes the learning rate and the other
-- settings of the moment, and draws random numbers of its own where it rounds parameters stochastically, as do layers
-- where they quantize stochastically, in small blocks, or transform with new signs; f has to drop the gradients first,
-- as above. The first, usual run of f counts too: it is a training step like any other.
--
-- Can't be captured, and are errors at their line in f: whatever waits for the device (item, totable, printing, copies
-- to or from the CPU, synchronize) and other random numbers. After an error all is as before, except that gradients
-- which f set are dropped.
--
-- The tensors that a graph made take memory of their own, as long as the graph or one of them lives.
-- @param f      a function without arguments
-- @param device "cuda" if left out
-- @return graph, callable; graph.outputs is the list of what f returned
function graph.capture(f, device)
  if type(f) ~= "function" then core.raise("graph: a function is needed, got " .. type(f)) end
  if now.open then core.raise "graph: a graph is being captured already" end
  local self = setmetatable({device = core.device_name(device), hooks = {}, leaves = {}, grads = {}}, Graph)
  rehearse(self, f)
  collectgarbage() -- what the first run left behind is room for the graph
  local written = {}
  core.finally(function() give_up_unless_complete(self, written) end, take_down, self, written, f)
  return self
end

return graph
