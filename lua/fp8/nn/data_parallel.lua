--- A model that several processes train together, each with its share of every batch.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local graph = require "fp8.graph"
local is_whole = require "fp8.is_whole"
local later = require "fp8.later"
local Module = require "fp8.nn.module"
local parts = require "fp8.nn.parts"
local replaced = require "fp8.replaced"

local raise = core.raise

local DataParallel = Module:extend("DataParallel")
DataParallel.unsearched = {shared = true}

local known_options = {bucket = "number", gradient_dtype = "dtype"}

-- The tensors of a module, each once: parameters, histories of delayed scaling, and others.
local function tensors_of(module)
  local seen, found = {}, {all = {}, parameters = {}, histories = {}, buffers = {}}
  for _, entry in ipairs(parts.list_tensors(module)) do
    local tensor = entry.owner[entry.field]
    if not seen[tensor] then
      seen[tensor] = true
      local kind = core.requires_grad(tensor) and "parameters" or
        tostring(entry.field):find "_history$" and "histories" or "buffers"
      table.insert(found[kind], tensor)
      table.insert(found.all, tensor)
    end
  end
  return found
end

local function same_everywhere(tensors)
  local distributed = later "fp8.distributed"
  if later "fp8.distributed.hash"(tensors) then return end
  autograd.no_grad(function()
    for _, tensor in ipairs(tensors) do distributed.broadcast_(tensor, 0) end
  end)
  if not later "fp8.distributed.hash"(tensors) then
    raise "DataParallel: the weights differ between ranks after they were sent"
  end
end

-- The largest magnitudes on any rank.
local function join_histories(histories)
  if #histories == 0 then return end
  local flat, start = {}, 1
  for i, history in ipairs(histories) do flat[i] = core.view(history, {core.numel(history)}) end
  local all = later "fp8.distributed".all_reduce_(core.cat(flat, 1), "max")
  local copies = {}
  for i, history in ipairs(histories) do
    local part = core.narrow(all, 1, start, core.numel(history))
    copies[2 * i - 1], copies[2 * i] = flat[i], part
    start = start + core.numel(history)
  end
  core.commit({}, 0, copies)
end

-- What forward passes change without gradients, such as the running means of BatchNorm, is rank 0's.
local function join_buffers(self)
  for i, buffer in ipairs(self.shared.tensors.buffers) do
    local version = core.version(buffer)
    if version ~= self.shared.versions[i] then
      later "fp8.distributed".broadcast_(buffer, 0)
      self.shared.versions[i] = core.version(buffer)
    end
  end
end

local function after_backward(self)
  autograd.no_grad(function()
    join_histories(self.shared.tensors.histories)
    join_buffers(self)
  end)
end

--- fp8.nn.DataParallel(model, {bucket = 200 · 2^20, gradient_dtype = nil}): the model, on each rank with its share of a
-- batch, whose gradients after backward are the means over all ranks (fp8.distributed).
--
--     fp8.distributed.init()
--     local model = fp8.nn.DataParallel(Net())
--     local optimizer = fp8.optim.AdamW(model)
--
-- All ranks begin with the weights of rank 0, and make the same steps. What ranks do must be alike: as many backward
-- passes, each from a loss of this model that is a mean over as many rows. A parameter that gets no gradient on
-- a rank counts as 0 there; one that gets none anywhere has none. Histories of delayed scaling become the maxima over
-- ranks, and other tensors that forward changes (BatchNorm's running means) those of rank 0. From forward to the end of
-- backward, in training, random numbers are each rank's own, and the same everywhere else.
-- A gradient may be in memory that the next backward pass writes into: clone what has to stay. An optimizer made with
-- shard = true has each rank get its part of the means only (fp8.optim.AdamW), which is faster.
-- @param model   a module, where it stays: DataParallel after model:to
-- @param options {bucket = bytes of gradients that travel at once: fewer, such as 25 · 2^20, where the way between GPUs
--   is slow, so that more of it goes on beside the backward pass, gradient_dtype = what they are averaged in, if not
--   in the parameters' dtype}
--   fp8.distributed.init()
--   fp8.nn.DataParallel(fp8.Linear(2, 3)).module.weight.shape --> {3, 2}
function DataParallel:init(model, options)
  options = check_options("DataParallel", options, known_options)
  if not Module.is_module(model) then raise("DataParallel: the model must be a module, got " .. type(model)) end
  local bucket = options.bucket or 200 * 2^20
  if not is_whole(bucket, 1) then
    raise("DataParallel: option bucket must be a whole number of bytes of at least 1, got " .. tostring(bucket))
  end
  local alone = later "fp8.distributed.group".of("DataParallel").size == 1
  if not alone then later "fp8.distributed.codes".know(model) end
  self.module = model
  local tensors = tensors_of(model)
  self.shared = {tensors = tensors, versions = {}}
  if not alone then same_everywhere(tensors.all) end
  for i, buffer in ipairs(tensors.buffers) do self.shared.versions[i] = core.version(buffer) end
  self.shared.reducer = later "fp8.distributed.reducer".new(tensors.parameters,
    {bucket = bucket, gradient_dtype = options.gradient_dtype}, function() after_backward(self) end)
end

--- What the model returns.
function DataParallel:forward(...)
  for _, parameter in ipairs(self.shared.tensors.parameters) do
    if replaced[parameter] then raise "DataParallel: the model was converted or moved: make it anew after model:to" end
  end
  if self.training and autograd.is_recording() and not graph.capturing() then
    later "fp8.distributed.random".begin()
  end
  return self.module(...)
end

--- Calls f(…), in which backward adds gradients up on each rank without averaging them; the first backward pass after
-- it averages the sums. Returns what f returns.
--   fp8.distributed.init()
--   fp8.nn.DataParallel(fp8.Linear(2, 3)):no_sync(function() return 1 end) --> 1
function DataParallel:no_sync(f, ...)
  return core.with(self.shared.reducer, "syncing", false, f, ...)
end

--- The model's own, so that a file does not tell how many processes there were.
function DataParallel:state_dict() return self.module:state_dict() end
function DataParallel:load_state_dict(state)
  self.module:load_state_dict(state)
  return self
end

return DataParallel
