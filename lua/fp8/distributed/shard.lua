--- Which rank keeps what of an optimizer (the first two stages of ZeRO: Rajbhandari et al., 2020).
--
-- Where each element is updated by itself, a rank keeps moments and masters of its part (parts.lua) of every parameter
-- that can be cut, gets the mean gradient of that part only (reducer.lua) and updates it, and then all parts are
-- gathered. Of those that can't be cut, small ones are everybody's, and large ones are one rank's, which sends them to
-- the others. So are all where an update takes whole matrices, and where weights travel as codes.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local codes = require "fp8.distributed.codes"
local collectives = require "fp8.distributed.collectives"
local group = require "fp8.distributed.group"
local parts = require "fp8.distributed.parts"

local Shard = {}
Shard.__index = Shard

local name = "step"
local large = 2 ^ 14 -- bytes of a parameter that needs no company
local small = 2 ^ 12 -- elements below which all keep one, if any are cut
local most_bytes = 2 ^ 28 -- that travel at once

-- By position, the rank that keeps it, of those in a list: the largest parameters first, each to the rank that has the
-- least.
local function owners_of(parameters, order, size)
  local loads, owners = {}, {}
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

-- Lists of entries that travel together, each of one owner, dtype and device: {owner =, dtype =, device =, count =}. A
-- large one is alone.
local function messages_of(entries)
  local list, open = {}, {}
  for _, entry in ipairs(entries) do
    local owner, dtype, device = entry.owner, entry.dtype, core.device(entry.parameter)
    local key, count = ("%d %s %s"):format(owner, dtype, device), core.numel(entry.parameter)
    local alone = count * core.dtypes[dtype].size >= large
    local message = open[key]
    if not message or alone then
      message = {owner = owner, dtype = dtype, device = device, count = 0}
      if not alone then open[key] = message end
      list[#list + 1] = message
    end
    message[#message + 1], message.count = entry, message.count + count
  end
  return list
end

-- Lists of messages on one device that do not take much memory at once.
local function parcels_of(messages)
  local list, open = {}, {}
  for _, message in ipairs(messages) do
    local bytes, parcel = message.count * core.dtypes[message.dtype].size, open[message.device]
    if not parcel or parcel.bytes + bytes > most_bytes then
      parcel = {bytes = 0}
      open[message.device] = parcel
      list[#list + 1] = parcel
    end
    parcel[#parcel + 1], parcel.bytes = message, parcel.bytes + bytes
  end
  return list
end

--- The shards of a list of parameters.
-- @param optimizer  its name, for errors
-- @param form       "codes" if weights travel as codes where they can (codes.lua), true if they never do
-- @param unit       elements that have to be kept together; nil where those of a whole parameter have to be
function Shard.new(optimizer, parameters, form, unit)
  local members = group.of(optimizer)
  local own, owned = {}, {}
  if form == "codes" then unit = nil end
  for position, parameter in ipairs(parameters) do
    local is_small = unit and core.numel(parameter) < small
    if unit and not is_small and parts.has(parameter, unit) then
      own[position] = parts.own(parameter)
    elseif not is_small then
      owned[#owned + 1] = position
    end
  end
  return setmetatable({
    rank = members.rank, size = members.size, parameters = parameters, own = own, -- by position, if it is cut
    owners = owners_of(parameters, owned, members.size), -- by position, if it is one rank's
    in_codes = form == "codes",
  }, Shard)
end

--- Whether a rank keeps its part of a parameter, by its position.
function Shard:cuts(position) return self.own[position] ~= nil end

--- What this rank updates of a parameter: the whole, a flat part, or nil.
function Shard:kept_of(position)
  local owner = self.owners[position]
  if owner and owner ~= self.rank then return nil end
  return self.own[position] or self.parameters[position]
end

--- What belongs to that of a tensor that belongs to the whole.
function Shard:part_of(position, tensor)
  return self.own[position] and parts.own(core.contiguous(tensor)) or tensor
end

local function flat(tensor) return core.view(tensor, {core.numel(tensor)}) end

-- What travels for a message: its parameter itself, its codes, or several joined; where it arrives, room for them.
local function tensor_of(message, is_owner)
  local first = message[1]
  if #message == 1 and not first.operand then return flat(first.parameter) end
  if not is_owner then return core.empty({message.count}, {dtype = message.dtype, device = message.device}) end
  local list = {}
  for i, entry in ipairs(message) do list[i] = flat(entry.codes or entry.parameter) end
  return #list == 1 and list[1] or core.cat(list, 1)
end

-- Has the parameters of a message become what has arrived.
local function unpack_message(message, joined)
  if #message == 1 and not message[1].operand then return end
  local start = 1
  for _, entry in ipairs(message) do
    local count = core.numel(entry.parameter)
    local part = core.narrow(joined, 1, start, count)
    if entry.operand then
      codes.dequantize(entry, part)
    else
      core.copy_(flat(entry.parameter), part)
    end
    start = start + count
  end
end

-- Every tensor becomes that of the rank it comes from.
local function broadcast(tensors, sources)
  local members, elements = group.of(name), 0
  if core.device(tensors[1]) == "cpu" and not members.reduces then
    for i, tensor in ipairs(tensors) do collectives.broadcast_(tensor, sources[i]) end
    return
  end
  for i = 1, #tensors do elements = elements + core.numel(tensors[i]) end
  group.check(name, core.distributed_agree(("the weights that ranks keep: %d elements in %d messages"):format(
    elements, #tensors)))
  group.check(name, core.distributed_broadcast_each(tensors, sources))
end

local function transfer(self, parcel)
  local tensors, sources = {}, {}
  for i, message in ipairs(parcel) do
    tensors[i], sources[i] = tensor_of(message, message.owner == self.rank), message.owner
  end
  broadcast(tensors, sources)
  for i, message in ipairs(parcel) do
    if message.owner ~= self.rank then unpack_message(message, tensors[i]) end
    core.free(tensors[i])
    for _, entry in ipairs(message) do
      if entry.codes then core.free(entry.codes) end
    end
  end
end

-- Entries of all parameters that are one rank's, and of those that travel as codes.
local function list_entries(self, in_codes)
  local list, coded = {}, {}
  for position, parameter in ipairs(self.parameters) do
    local owner = self.owners[position]
    local operand = owner and in_codes and codes.operand_of(parameter) or nil
    if owner then
      list[#list + 1] = {
        parameter = parameter, owner = owner, operand = operand,
        dtype = operand and codes.dtype_of(operand) or core.dtype(parameter),
      }
    end
    if operand then coded[#coded + 1] = list[#list] end
  end
  return list, coded
end

-- Has the parts of parameters that are cut become those of all.
local function gather_parts(self)
  local lists, by_device = {}, {}
  for position, parameter in ipairs(self.parameters) do
    if self.own[position] then
      local device = core.device(parameter)
      if not by_device[device] then
        by_device[device] = {}
        lists[#lists + 1] = by_device[device]
      end
      table.insert(by_device[device], parameter)
    end
  end
  for _, list in ipairs(lists) do parts.gather(list) end
end

-- All ranks get what is one rank's.
local function exchange_owned(self, in_codes)
  local list, coded = list_entries(self, in_codes)
  if #coded > 0 then codes.quantize(coded, self.rank) end
  for _, parcel in ipairs(parcels_of(messages_of(list))) do transfer(self, parcel) end
end

local function exchange(self, in_codes)
  gather_parts(self)
  exchange_owned(self, in_codes)
end

--- All ranks get the parameters as their owners have them, or as their codes do.
function Shard:exchange()
  if self.size > 1 then autograd.no_grad(exchange, self, self.in_codes) end
end

--- All ranks get the parameters as their owners have them.
function Shard:gather_weights()
  if self.size > 1 and self.in_codes then autograd.no_grad(exchange, self, false) end
end

-- Names of an entry's tensors that are not the same for all parameters, in an order.
local function keys_of(entry)
  local keys = {}
  for key, value in pairs(entry) do
    if core.is_tensor(value) and not key:find "_map$" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

local function receive(entry, owner)
  for _, key in ipairs(keys_of(entry)) do collectives.broadcast_(entry[key], owner) end
  local steps = core.tensor({entry.steps}, {dtype = "i64", device = "cpu"})
  entry.steps = core.item(collectives.broadcast_(steps, owner))
end

-- `whole` becomes what ranks have in parts.
local function join(whole, part)
  for _, key in ipairs(keys_of(part)) do
    whole[key] = core.view(collectives.all_gather(part[key]), core.shape(whole[key]))
  end
  whole.steps = part.steps
end

--- The whole of what is kept: a list of tables of tensors, one a parameter, as owners have them.
-- @param entries of this rank
-- @param fresh   fresh(position) makes such a table of a parameter
function Shard:gather(entries, fresh)
  local whole = {}
  for position, entry in ipairs(entries) do
    local owner, is_cut = self.owners[position], self:cuts(position)
    local is_here = not is_cut and (owner or self.rank) == self.rank
    whole[position] = is_here and entry or fresh(position)
    if is_cut then join(whole[position], entry) end
    if owner then receive(whole[position], owner) end
  end
  return whole
end

--- The shape that a tensor of an entry has in the whole.
function Shard:whole_shape(position, key, tensor)
  local shape = core.shape(tensor)
  if not self:cuts(position) or key:find "_map$" then return shape end
  if key:find "_scale$" then return {shape[1] * self.size} end
  return core.shape(self.parameters[position])
end

return Shard
