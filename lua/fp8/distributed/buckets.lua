--- Gradients of many parameters in a few buckets, each of one dtype and device, which travel at once: small ones in
-- a buffer, large ones from where they are.
local core = require "fp8.core"
local group = require "fp8.distributed.group"

local buckets = {}

local bytes_of = core.dtypes

-- Elements at whose multiples parameters begin, so that kernels find them aligned.
local alignment = 64

-- Of a bucket's bytes, what a gradient has at least that is not copied into a buffer: many that travel by themselves
-- travel slowly.
local large = 1 / 8

local function padded(count) return math.ceil(count / alignment) * alignment end

-- A bucket: {parts = list of positions, dtype =, device =, count = elements, buffered = those in the buffer, buffer =}
local function begin_bucket(dtype, device)
  return {parts = {}, dtype = dtype, device = device, count = 0, buffered = 0}
end

-- Where the CPU computes nothing, what is there is moved to a GPU, in a buffer.
local function travels_alone(parameter, dtype, least)
  local own, count = core.dtype(parameter), core.numel(parameter)
  return own == dtype and count * bytes_of[own].size >= least and
    (core.device(parameter) ~= "cpu" or group.of("DataParallel").reduces)
end

--- Buckets of up to `bytes` each, in this order of the parameters.
-- @param parameters list
-- @param order      list of positions in it
-- @param dtype      of the buffers, or nil for that of the parameters
-- @return the list of buckets, and by position of a parameter {bucket =, alone = whether it is not in the buffer,
--   view = its part of the buffer, in its shape, or what travels alone in a backward pass}
function buckets.make(parameters, order, bytes, dtype)
  local list, places, open = {}, {}, {}
  for _, position in ipairs(order) do
    local parameter = parameters[position]
    local own, device = dtype or core.dtype(parameter), core.device(parameter)
    local key, count = own .. " " .. device, padded(core.numel(parameter))
    local bucket = open[key]
    if not bucket or bucket.count > 0 and (bucket.count + count) * bytes_of[own].size > bytes then
      bucket = begin_bucket(own, device)
      open[key] = bucket
      list[#list + 1] = bucket
    end
    bucket.parts[#bucket.parts + 1] = position
    places[position] = {bucket = bucket, alone = travels_alone(parameter, own, bytes * large)}
    if not places[position].alone then
      places[position].start = bucket.buffered + 1
      bucket.buffered = bucket.buffered + count
    end
    bucket.count = bucket.count + count
  end
  for _, bucket in ipairs(list) do
    if bucket.buffered > 0 then
      bucket.buffer = core.zeros({bucket.buffered}, {dtype = bucket.dtype, device = bucket.device})
    end
    for _, position in ipairs(bucket.parts) do
      local place, parameter = places[position], parameters[position]
      if not place.alone then
        local part = core.narrow(bucket.buffer, 1, place.start, core.numel(parameter))
        place.view = core.view(part, core.shape(parameter))
      end
    end
  end
  return list, places
end

-- Copies the gradients that a bucket has got into its buffer, all at once; those that it has not got are 0.
local function fill(bucket, places)
  local copies = {}
  for _, position in ipairs(bucket.parts) do
    local place = places[position]
    if place.pending then
      copies[#copies + 1], copies[#copies + 2] = place.view, place.pending
      place.pending = nil
    elseif not place.alone then
      core.fill_(place.view, 0)
    end
  end
  core.commit({}, 0, copies)
end

-- What travels for a bucket.
local function tensors_of(bucket, places)
  local list = {bucket.buffer}
  for _, position in ipairs(bucket.parts) do
    if places[position].alone then list[#list + 1] = places[position].view end
  end
  return list
end

--- Has the tensors of a bucket become means over all ranks, beside what is computed meanwhile.
function buckets.send(name, number, count, bucket, places, members)
  local call = ("the gradients of a backward pass, part %d of %d: %d elements in %s"):format(number, count,
    bucket.count, bucket.dtype)
  local same, reason = core.distributed_agree(call)
  if not same then group.fail(name, reason) end
  if bucket.at_once then fill(bucket, places) end
  local list = tensors_of(bucket, places)
  if not members.reduces and bucket.device == "cpu" then
    bucket.moved = core.to(bucket.buffer, {device = group.device()})
    list = {bucket.moved}
  end
  bucket.sent = list -- whose memory nothing else must get before it has travelled, also after an error
  local done, failure = core.distributed_average(list)
  if not done then group.fail(name, failure) end
end

--- Waits for it.
function buckets.wait(name, bucket)
  local done, failure = core.distributed_join(bucket.sent[1])
  bucket.sent = nil
  if not done then group.fail(name, failure) end
  if bucket.moved then
    core.copy_(bucket.buffer, bucket.moved)
    core.free(bucket.moved)
    bucket.moved = nil
  end
end

return buckets
