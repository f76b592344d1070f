--- When the gradients of a step travel from rank to rank, beside the backward pass: events of CUDA's driver on both
-- streams of a GPU, which a graph records again each time it is replayed.
local ffi = require "ffi"
local core = require "fp8.core"
local beside_core = require "fp8.beside_core"
local buckets = require "fp8.distributed.buckets"
local graph = require "fp8.graph"

ffi.cdef [[
int cuEventCreate(void **event, unsigned flags);
int cuEventRecordWithFlags(void *event, void *stream, unsigned flags);
int cuEventElapsedTime(float *milliseconds, void *start, void *stop);
void *fp8_cuda_stream(int index); // where the work is
void *fp8_cuda_fork(int index);   // the stream beside it, from the point that the work has reached
]]

local external = 1 -- CU_EVENT_RECORD_EXTERNAL: in a graph the event is one of its nodes

local timeline = {}

local driver, cuda, index
local step -- the one that was run or captured last: {begin =, sent = list, backward =, joined =, finish =}, marks all

local function check(code, call)
  if code ~= 0 then error(("%s: error %d of CUDA's driver"):format(call, code), 0) end
end

-- Marks the point that the stream has reached which a function of src/cuda/beside.c says; that is called from inside of
-- one of the core's, as it works for the Lua state that has called one.
local function mark(stream_of)
  local event = ffi.new "void *[1]"
  check(driver.cuEventCreate(event, 0), "cuEventCreate")
  core.with({calling = false}, "calling", true, function()
    check(driver.cuEventRecordWithFlags(event[0], stream_of(index), graph.capturing() and external or 0),
      "cuEventRecordWithFlags")
  end)
  return event[0]
end

local function listen()
  driver, cuda = ffi.load "libcuda.so.1", ffi.load(beside_core "cuda")
  local send, wait = buckets.send, buckets.wait
  function buckets.send(name, number, count, bucket, ...)
    local entry = {bytes = bucket.count * core.dtypes[bucket.dtype].size, parts = #bucket.parts}
    entry.complete, entry.start = mark(cuda.fp8_cuda_stream), mark(cuda.fp8_cuda_fork)
    send(name, number, count, bucket, ...)
    entry.stop = mark(cuda.fp8_cuda_fork)
    if step then table.insert(step.sent, entry) end
  end
  function buckets.wait(...)
    if step then step.backward = step.backward or mark(cuda.fp8_cuda_stream) end
    wait(...)
    if step then step.joined = mark(cuda.fp8_cuda_stream) end
  end
end

--- To be called where a step begins, before the first time that the device's gradients are averaged.
-- @param device a GPU
function timeline.begin(device)
  if not device:find "^cuda" then error("a timeline needs GPUs", 0) end
  index = tonumber(device:match "%d+$") or 0
  if not driver then listen() end
  step = {begin = mark(cuda.fp8_cuda_stream), sent = {}}
end

--- To be called where a step ends.
function timeline.finish() step.finish = mark(cuda.fp8_cuda_stream) end

--- Prints when what the step sent was complete, and travelled.
function timeline.show(device, print)
  core.synchronize(device)
  local function at(event)
    local milliseconds = ffi.new "float[1]"
    check(driver.cuEventElapsedTime(milliseconds, step.begin, event), "cuEventElapsedTime")
    return milliseconds[0]
  end
  print(("%8s %6s %8s %10s %9s %9s %7s"):format("bucket", "parts", "MB", "complete", "begins", "ends", "GB/s"))
  for number, entry in ipairs(step.sent) do
    local start, stop = at(entry.start), at(entry.stop)
    print(("%8d %6d %8.1f %10.3f %9.3f %9.3f %7.0f"):format(number, entry.parts, entry.bytes * 1e-6,
      at(entry.complete), start, stop, entry.bytes * 1e-6 / (stop - start)))
  end
  print(("backward ends at %.3f ms, the last gradients are there at %.3f ms, the step ends at %.3f ms"):format(
    at(step.backward), at(step.joined), at(step.finish)))
end

return timeline
