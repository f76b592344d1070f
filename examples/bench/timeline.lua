--- Where the time of a step goes, and when its gradients travel from rank to rank: events of CUDA's driver on both
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

local driver, cuda, device, index
local step -- the one that was run or captured last: {begin =, sent = list, backward =, joined =, finish =}, marks all
local around = {} -- the last one: {before =, ready =, after =}, marks that are no part of a graph
local sums, steps, calls = {}, 0, 0 -- of milliseconds, in the order of times_of, over so many of so many steps

local function check(code, call)
  if code ~= 0 then error(("%s: error %d of CUDA's driver"):format(call, code), 0) end
end

-- Marks the point that the stream has reached which a function of src/cuda/beside.c says; that is called from inside of
-- one of the core's, as it works for the Lua state that has called one.
-- @param event to be marked once more, or nil for a new one
local function mark(stream_of, event)
  if not event then
    local created = ffi.new "void *[1]"
    check(driver.cuEventCreate(created, 0), "cuEventCreate")
    event = created[0]
  end
  core.with({calling = false}, "calling", true, function()
    check(driver.cuEventRecordWithFlags(event, stream_of(index), graph.capturing() and external or 0),
      "cuEventRecordWithFlags")
  end)
  return event
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
  end
end

local function elapsed(from, to)
  local milliseconds = ffi.new "float[1]"
  check(driver.cuEventElapsedTime(milliseconds, from, to), "cuEventElapsedTime")
  return milliseconds[0]
end

-- What the last step's marks say, all but the first two since it began.
local function times_of()
  local list = {elapsed(around.before, around.ready), elapsed(around.ready, step.begin)}
  local function add(event) list[#list + 1] = elapsed(step.begin, event) end
  add(step.backward)
  add(step.joined)
  add(step.finish)
  add(around.after)
  for _, entry in ipairs(step.sent) do
    add(entry.complete)
    add(entry.start)
    add(entry.stop)
  end
  return list
end

--- To be called before a step: what it gets is written from here on.
-- @param name of a GPU
function timeline.before(name)
  if not name:find "^cuda" then error("a timeline needs a GPU", 0) end
  device, index = name, tonumber(name:match "%d+$") or 0
  if not driver then listen() end
  around.before = mark(cuda.fp8_cuda_stream, around.before)
end

--- To be called once that is written.
function timeline.ready() around.ready = mark(cuda.fp8_cuda_stream, around.ready) end

--- To be called where the forward pass begins, after the backward pass, and where the step ends.
function timeline.begin() step = {begin = mark(cuda.fp8_cuda_stream), sent = {}} end
function timeline.computed()
  step.joined = mark(cuda.fp8_cuda_stream)
  step.backward = step.backward or step.joined
end
function timeline.finish() step.finish = mark(cuda.fp8_cuda_stream) end

--- To be called after a step: waits for it. The first one has captured a graph, which has not run yet.
function timeline.after()
  around.after = mark(cuda.fp8_cuda_stream, around.after)
  calls = calls + 1
  if calls == 1 then return end
  core.synchronize(device)
  for i, time in ipairs(times_of()) do sums[i] = (sums[i] or 0) + time end
  steps = steps + 1
end

--- Prints where the time of a step goes, and when what it sends is complete and travels: means of all steps since the
-- last call.
function timeline.show(print)
  local mean = {}
  for i, sum in ipairs(sums) do mean[i] = sum / steps end
  if #step.sent > 0 then
    print(("%8s %6s %8s %10s %9s %9s %7s"):format("bucket", "parts", "MB", "complete", "begins", "ends", "GB/s"))
  end
  for number, entry in ipairs(step.sent) do
    local complete, start, stop = unpack(mean, 3 * number + 4, 3 * number + 6)
    print(("%8d %6d %8.1f %10.3f %9.3f %9.3f %7.0f"):format(number, entry.parts, entry.bytes * 1e-6, complete, start,
      stop, entry.bytes * 1e-6 / (stop - start)))
  end
  print(("inputs take %.3f ms, and %.3f ms more pass until the step begins"):format(mean[1], mean[2]))
  print(("backward ends at %.3f ms, the last gradients are there at %.3f ms, the step ends at %.3f ms and its graph " ..
    "at %.3f ms; means of %d"):format(mean[3], mean[4], mean[5], mean[6], steps))
  sums, steps, calls = {}, 0, 0
end

return timeline
