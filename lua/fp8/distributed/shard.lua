--- Which rank keeps what of an optimizer: each parameter's moments and master are on one rank, which updates it and
-- sends it to the others (the first stage of ZeRO: Rajbhandari et al., 2020, here by whole parameters).
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local collectives = require "fp8.distributed.collectives"
local group = require "fp8.distributed.group"

local Shard = {}
Shard.__index = Shard

local most_bytes = 2 ^ 25 -- of small parameters that travel as one tensor

-- By position, the rank that keeps it: the largest parameters first, each to the rank that has the least.
local function owners_of(parameters, size)
  local order, loads, owners = {}, {}, {}
  for i = 1, #parameters do order[i] = i end
  table.sort(order, function(a, b)
    local first, second = core.numel(parameters[a]), core.numel(parameters[b])
    if first ~= second then return first > second end
    return a < b
  end)
  for rank = 0, size - 1 do loads[rank] = 0 end
  for _, position in ipairs(order) do
    local least = 0
    for rank = 1, size - 1 do
      if loads[rank] < loads[least] then least = rank end
    end
    owners[position] = least
    loads[least] = loads[least] + core.numel(parameters[position])
  end
  return owners
end

-- Lists of parameters of one owner, dtype and device that travel together: {owner =, dtype =, device =, count =}.
local function messages_of(parameters, owners)
  local list, open = {}, {}
  for position, parameter in ipairs(parameters) do
    local owner, dtype, device = owners[position], core.dtype(parameter), core.device(parameter)
    local key, count = ("%d %s %s"):format(owner, dtype, device), core.numel(parameter)
    local message = open[key]
    if not message or (message.count + count) * core.dtypes[dtype].size > most_bytes then
      message = {owner = owner, dtype = dtype, device = device, count = 0}
      open[key] = message
      list[#list + 1] = message
    end
    message[#message + 1], message.count = parameter, message.count + count
  end
  return list
end

--- The shards of a list of parameters.
-- @param name of the optimizer, for errors
function Shard.new(name, parameters)
  local members = group.of(name)
  local owners = owners_of(parameters, members.size)
  return setmetatable({
    rank = members.rank, size = members.size, owners = owners, messages = messages_of(parameters, owners),
  }, Shard)
end

--- Whether this rank keeps what belongs to a parameter, by its position.
function Shard:has(position) return self.owners[position] == self.rank end

local function send(message, rank)
  if #message == 1 then return collectives.broadcast_(message[1], message.owner) end
  local flat = {}
  for i, parameter in ipairs(message) do flat[i] = core.view(parameter, {core.numel(parameter)}) end
  if rank == message.owner then
    local joined = core.cat(flat, 1)
    collectives.broadcast_(joined, message.owner)
    return core.free(joined)
  end
  local joined = core.empty({message.count}, {dtype = message.dtype, device = message.device})
  collectives.broadcast_(joined, message.owner)
  local start = 1
  for _, part in ipairs(flat) do
    core.copy_(part, core.narrow(joined, 1, start, core.numel(part)))
    start = start + core.numel(part)
  end
  core.free(joined)
end

--- All ranks get the parameters as their owners have them.
function Shard:exchange()
  if self.size == 1 then return end
  autograd.no_grad(function()
    for _, message in ipairs(self.messages) do send(message, self.rank) end
  end)
end

--- The whole of what is kept: a list of tables of tensors, one a parameter, as owners have them.
-- @param entries of this rank
-- @param fresh   fresh(position) makes such a table of a parameter
function Shard:gather(entries, fresh)
  local whole = {}
  for position, entry in ipairs(entries) do
    local owner = self.owners[position]
    whole[position] = owner == self.rank and entry or fresh(position)
    local keys = {}
    for key, value in pairs(whole[position]) do
      if core.is_tensor(value) and not key:find "_map$" then keys[#keys + 1] = key end
    end
    table.sort(keys)
    for _, key in ipairs(keys) do collectives.broadcast_(whole[position][key], owner) end
    local steps = core.tensor({whole[position].steps}, {dtype = "i64", device = "cpu"})
    whole[position].steps = core.item(collectives.broadcast_(steps, owner))
  end
  return whole
end

return Shard
