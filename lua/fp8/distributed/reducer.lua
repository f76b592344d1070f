--- What happens to a model's gradients in a backward pass (autograd/awaited.lua): they become means over all ranks.
--
-- A bucket travels once its gradients are complete and those before it have been sent, while others are still
-- computed. After the first pass buckets follow the order in which gradients came. What travels becomes .grad, unless
-- it has another dtype. Nothing but names and shapes decides what is sent, which is thus the same on all ranks.
--
-- Of a leaf with a field `cut` each rank needs a part of the mean only (shard.lua): its .grad has the mean there, and
-- the rank's own numbers elsewhere (autograd.partial).
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local awaited = require "fp8.autograd.awaited"
local buckets = require "fp8.distributed.buckets"
local collectives = require "fp8.distributed.collectives"
local group = require "fp8.distributed.group"
local parts = require "fp8.distributed.parts"
local random = require "fp8.distributed.random"

local Reducer = {}
Reducer.__index = Reducer

local name = "backward"
local count = 0 -- of reducers

local averaged = setmetatable({}, {__mode = "k"}) -- by a .grad of an earlier pass, the place where it was averaged

--- @param parameters list of leaves
-- @param options    {bucket = bytes, gradient_dtype =}
-- @param after      function that is called when the gradients have been averaged
function Reducer.new(parameters, options, after)
  count = count + 1
  local self = setmetatable({
    parameters = parameters, options = options, after = after, number = count, syncing = true, position = {},
    leaves = {}, ordered = false, came = {}, alone = group.of(name).size == 1,
  }, Reducer)
  local order = {}
  for i, parameter in ipairs(parameters) do
    local leaf = autograd.edge(parameter)
    self.leaves[i], self.position[leaf], order[i] = leaf, i, #parameters + 1 - i
  end
  self.order = order
  awaited.register(self.leaves, self)
  return self
end

-- Makes the buckets, if they are not there yet or others are needed.
local function arrange(self)
  local cut, same = {}, self.buckets ~= nil
  for position, leaf in ipairs(self.leaves) do
    cut[position] = leaf.cut == true
    same = same and cut[position] == self.cut[position]
  end
  if same then return end
  self.buckets, self.places = buckets.make(self.parameters, self.order, self.options.bucket,
    self.options.gradient_dtype, cut)
  self.cut = cut
end

-- Whether .grad is what earlier passes have averaged in this place, and nobody else's.
local function holds(place, leaf) return leaf.grad and averaged[leaf.grad] == place end

function Reducer:begin()
  if self.alone then return end
  self.came, self.next, self.is_here, self.missing = {}, 1, {}, {}
  for _, bucket in ipairs(self.buckets or {}) do
    if bucket.sent then buckets.wait(name, bucket) end -- of a pass that an error has ended
  end
  arrange(self)
  for i, bucket in ipairs(self.buckets) do
    self.missing[i], bucket.number = #bucket.parts, i
    bucket.at_once = bucket.buffer ~= nil and self.syncing
  end
  for position, leaf in ipairs(self.leaves) do
    local place = self.places[position]
    place.pending = nil
    if leaf.dtype ~= place.bucket.dtype or leaf.unsynced or holds(place, leaf) then place.bucket.at_once = false end
  end
end

-- Sends the buckets that are complete, in their order.
local function send_complete(self)
  while self.next <= #self.buckets and self.missing[self.next] == 0 do
    buckets.send(name, self.next, #self.buckets, self.buckets[self.next], self.places, group.of(name))
    self.next = self.next + 1
  end
end

local function arrive(self, position)
  local number = self.places[position].bucket.number
  self.missing[number] = self.missing[number] - 1
  send_complete(self)
end

-- The place of a gradient that travels alone gets it, or a copy where others have its memory; nil for zeros.
local function put(place, leaf, grad)
  if not grad then
    place.view = core.zeros(leaf.shape, {dtype = leaf.dtype, device = place.bucket.device})
  elseif core.is_shared(grad) or not core.is_contiguous(grad) then
    place.view = core.clone(grad)
  else
    place.view = grad
  end
  if leaf.grad and (leaf.unsynced or not place.cut and holds(place, leaf)) then core.add_(place.view, leaf.grad) end
end

function Reducer:ready(leaf, grad)
  if self.alone then return end
  local position = self.position[leaf]
  self.came[#self.came + 1], self.is_here[position] = position, true
  if not self.syncing then return end
  local place = self.places[position]
  if place.alone then
    put(place, leaf, grad)
  elseif place.bucket.at_once then
    place.pending = (core.is_shared(grad) or not core.is_contiguous(grad)) and core.clone(grad) or grad
  elseif holds(place, leaf) then
    core.add_(place.view, grad)
  else
    core.copy_(place.view, grad)
    if leaf.unsynced and leaf.grad then core.add_(place.view, leaf.grad) end
  end
  arrive(self, position)
end

-- Those that have got nothing here may have got something elsewhere.
local function send_rest(self)
  for position, leaf in ipairs(self.leaves) do
    if not self.is_here[position] then
      local place = self.places[position]
      if place.alone then
        put(place, leaf)
      elseif not (place.bucket.at_once or holds(place, leaf)) then
        if leaf.unsynced and leaf.grad then core.copy_(place.view, leaf.grad) else core.fill_(place.view, 0) end
      end
      arrive(self, position)
    end
  end
end

-- By position, whether a parameter has a gradient on any rank.
local function used_anywhere(self)
  local used, hash = {}, {}
  for position, leaf in ipairs(self.leaves) do
    local place = self.places[position]
    local kept = leaf.grad and (leaf.unsynced or not place.cut and holds(place, leaf))
    used[position] = (self.is_here[position] or kept) and 1 or 0
    if used[position] == 0 then hash[#hash + 1] = position end
  end
  local unused = #hash == 0 and "none" or table.concat(hash, " ", 1, math.min(#hash, 20)) .. " of " .. #hash
  if core.distributed_agree("the parameters without a gradient: " .. unused) and #hash <= 20 then return used end
  local flags = collectives.all_reduce_(core.tensor(used, {dtype = "i32", device = "cpu"}), "max")
  return core.totable(flags)
end

-- The next buckets follow the order in which gradients came on rank 0.
local function follow_order(self)
  if self.ordered then return end
  local order, seen = {}, {}
  for _, position in ipairs(self.came) do
    order[#order + 1], seen[position] = position, true
  end
  for position = #self.parameters, 1, -1 do
    if not seen[position] then order[#order + 1] = position end
  end
  local shared = collectives.broadcast_(core.tensor(order, {dtype = "i32", device = "cpu"}), 0)
  self.order, self.buckets, self.ordered = core.totable(shared), nil, true
  arrange(self) -- here, since the next pass may be in a graph, whose memory is not for others
end

-- The mean gradient of a parameter: what has travelled, or a tensor of its own where that has another dtype.
local function mean_of(place, leaf)
  if place.bucket.dtype ~= leaf.dtype then return core.to(place.view, {dtype = leaf.dtype}) end
  local mean = place.view
  if place.alone then place.view = nil else mean = core.share(mean) end
  averaged[mean] = place
  if place.cut then
    autograd.partial[mean] = true
    if leaf.grad and not leaf.unsynced then -- which is the same on all ranks, in what each needs of it
      core.add_(parts.own(mean), parts.own(leaf.grad))
    end
  end
  return mean
end

-- Puts means into the place of the gradients that have arrived, and adds those of leaves where none did.
local function take(self, arrived, used)
  local replaces, taken = {}, {}
  local function replace(leaf, position)
    local place = self.places[position]
    replaces[leaf] = leaf.unsynced or place.cut or holds(place, leaf) or nil
    local mean = mean_of(place, leaf)
    leaf.unsynced = false
    return mean
  end
  for i = 1, #arrived, 2 do
    local position = self.position[arrived[i]]
    if position then
      if not rawequal(arrived[i + 1], self.places[position].view) then core.free(arrived[i + 1]) end
      arrived[i + 1], taken[position] = replace(arrived[i], position), true
    end
  end
  for position, leaf in ipairs(self.leaves) do
    local place = self.places[position]
    if used[position] ~= 0 and not taken[position] then
      arrived[#arrived + 1] = leaf
      arrived[#arrived + 1] = replace(leaf, position)
    elseif place.alone then
      place.view = nil
    end
  end
  return replaces
end

-- Fails where a gradient of this rank alone would be added to what it has of a mean.
local function check_whole(leaf)
  if leaf.grad and autograd.partial[leaf.grad] then
    core.raise(name .. ": with an optimizer that shares its states out (shard = true), gradients that ranks have " ..
      "averaged can't be added to in no_sync: drop them first, by zero_grad")
  end
end

function Reducer:finish(arrived)
  random.finish()
  if self.alone then return arrived end
  if not self.syncing then
    for position in pairs(self.is_here) do check_whole(self.leaves[position]) end
    for position in pairs(self.is_here) do self.leaves[position].unsynced = true end
    return arrived
  end
  send_rest(self)
  local used = used_anywhere(self)
  for _, bucket in ipairs(self.buckets) do buckets.wait(name, bucket) end
  local replaces = take(self, arrived, used)
  follow_order(self)
  self.after()
  return arrived, replaces
end

return Reducer
