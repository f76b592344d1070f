--- Gradients of many parameters in a few buffers, each of one dtype and device, which travel at once.
local core = require "fp8.core"
local group = require "fp8.distributed.group"

local buckets = {}

local bytes_of = core.dtypes

-- Elements at whose multiples parameters begin, so that kernels find them aligned.
local alignment = 64

local function padded(count) return math.ceil(count / alignment) * alignment end

-- A bucket: {first =, parts = list of positions, dtype =, device =, count = elements, buffer =}
local function begin_bucket(dtype, device) return {parts = {}, dtype = dtype, device = device, count = 0} end

--- Buckets of up to `bytes` each, in this order of the parameters.
-- @param parameters list
-- @param order      list of positions in it
-- @param dtype      of the buffers, or nil for that of the parameters
-- @return the list of buckets, and by position of a parameter {bucket =, view = its part of the buffer, in its shape}
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
    places[position] = {bucket = bucket, start = bucket.count + 1}
    bucket.count = bucket.count + count
  end
  for _, bucket in ipairs(list) do
    bucket.buffer = core.zeros({bucket.count}, {dtype = bucket.dtype, device = bucket.device})
    for _, position in ipairs(bucket.parts) do
      local place, parameter = places[position], parameters[position]
      local part = core.narrow(bucket.buffer, 1, place.start, core.numel(parameter))
      place.view = core.view(part, core.shape(parameter))
    end
  end
  return list, places
end

--- Has a bucket's buffer become the mean over all ranks, beside what is computed meanwhile.
function buckets.send(name, number, count, bucket, members)
  local call = ("the gradients of a backward pass, part %d of %d: %d elements in %s"):format(number, count,
    bucket.count, bucket.dtype)
  local same, reason = core.distributed_agree(call)
  if not same then group.fail(name, reason) end
  local buffer = bucket.buffer
  if not members.reduces and bucket.device == "cpu" then
    bucket.moved = core.to(buffer, {device = group.device()})
    buffer = bucket.moved
  end
  local done, failure = core.distributed_all_reduce(buffer, "mean", true)
  if not done then group.fail(name, failure) end
end

--- Waits for it.
function buckets.wait(name, bucket)
  local done, failure = core.distributed_join(bucket.moved or bucket.buffer)
  if not done then group.fail(name, failure) end
  if bucket.moved then
    core.copy_(bucket.buffer, bucket.moved)
    core.free(bucket.moved)
    bucket.moved = nil
  end
end

return buckets
