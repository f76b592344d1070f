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
-- @param cut        by position, whether each rank needs its part of the mean only
-- @return the list of buckets, and by position of a parameter {bucket =, alone = whether it is not in the buffer,
--   cut = whether it travels so, alone, view = its part of the buffer, in its shape, or what travels alone in a
--   backward pass}
function buckets.make(parameters, order, bytes, dtype, cut)
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
    local is_cut = cut[position] and travels_alone(parameter, own, 0)
    places[position] = {
      bucket = bucket, cut = is_cut, alone = is_cut or travels_alone(parameter, own, bytes * large),
    }
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

-- What travels for a bucket, and how much of it as a whole: what each rank needs a part of comes last.
local function tensors_of(bucket, places)
  local list, cut = {bucket.buffer}, {}
  for _, position in ipairs(bucket.parts) do
    local place = places[position]
    if place.cut then
      cut[#cut + 1] = place.view
    elseif place.alone then
      list[#list + 1] = place.view
    end
  end
  local whole = #list
  for i, view in ipairs(cut) do list[whole + i] = view end
  return list, whole
end

--- Has the tensors of a bucket become means over all ranks, beside what is computed meanwhile.
function buckets.send(name, number, count, bucket, places, members)
  if bucket.at_once then fill(bucket, places) end
  local list, whole = tensors_of(bucket, places)
  local call = ("the gradients of a backward pass, part %d of %d: %d elements in %s, %d of %d tensors shared out")
    :format(number, count, bucket.count, bucket.dtype, #list - whole, #list)
  group.check(name, core.distributed_agree(call))
  if not members.reduces and bucket.device == "cpu" then
    bucket.moved = core.to(bucket.buffer, {device = group.device()})
    list, whole = {bucket.moved}, 1
  end
  bucket.sent = list -- whose memory nothing else must get before it has travelled, also after an error
  group.check(name, core.distributed_average(list, whole))
end

--- Waits for it.
function buckets.wait(name, bucket)
  local done, failure = core.distributed_join(bucket.sent[1])
  bucket.sent = nil
  group.check(name, done, failure)
  if bucket.moved then
    core.copy_(bucket.buffer, bucket.moved)
    core.free(bucket.moved)
    bucket.moved = nil
  end
end

return buckets
