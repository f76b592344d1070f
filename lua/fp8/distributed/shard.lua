--- Which rank keeps what of an optimizer: each parameter's moments and master are on one rank, which updates it and
-- sends it to the others (the first stage of ZeRO: Rajbhandari et al., 2020, here by whole parameters).
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local codes = require "fp8.distributed.codes"
local collectives = require "fp8.distributed.collectives"
local group = require "fp8.distributed.group"

local Shard = {}
Shard.__index = Shard

local name = "step"
local large = 2 ^ 14 -- bytes of a parameter that needs no company
local most_bytes = 2 ^ 28 -- that travel at once

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
-- @param optimizer its name, for errors
-- @param form "codes" if weights travel as codes where they can (codes.lua), true if they never do
function Shard.new(optimizer, parameters, form)
  local members = group.of(optimizer)
  return setmetatable({
    rank = members.rank, size = members.size, owners = owners_of(parameters, members.size), parameters = parameters,
    in_codes = form == "codes",
  }, Shard)
end

--- Whether this rank keeps what belongs to a parameter, by its position.
function Shard:has(position) return self.owners[position] == self.rank end

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
  local same, reason = core.distributed_agree(("the weights that ranks keep: %d elements in %d messages"):format(
    elements, #tensors))
  if not same then group.fail(name, reason) end
  local done, failure = core.distributed_broadcast_each(tensors, sources)
  if not done then group.fail(name, failure) end
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

-- Entries of all parameters, and of those that travel as codes.
local function list_entries(self, in_codes)
  local list, coded = {}, {}
  for position, parameter in ipairs(self.parameters) do
    local operand = in_codes and codes.operand_of(parameter) or nil
    local entry = {
      parameter = parameter, owner = self.owners[position], operand = operand,
      dtype = operand and codes.dtype_of(operand) or core.dtype(parameter),
    }
    list[position] = entry
    if operand then coded[#coded + 1] = entry end
  end
  return list, coded
end

local function exchange(self, in_codes)
  local list, coded = list_entries(self, in_codes)
  if #coded > 0 then codes.quantize(coded, self.rank) end
  for _, parcel in ipairs(parcels_of(messages_of(list))) do transfer(self, parcel) end
end

--- All ranks get the parameters as their owners have them, or as their codes do.
function Shard:exchange()
  if self.size > 1 then autograd.no_grad(exchange, self, self.in_codes) end
end

--- All ranks get the parameters as their owners have them.
function Shard:gather_weights()
  if self.size > 1 and self.in_codes then autograd.no_grad(exchange, self, false) end
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
