--- What the benchmarks share: timing, options, the names of devices. Required as "measure" by the scripts beside it.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path

local ffi = require "ffi"
local fp8 = require "fp8"
local core = require "fp8.core"
local command_line = require "options"
local terminal = require "terminal"

ffi.cdef "int usleep(unsigned microseconds);"

local measure = {}

--- Seconds of a clock that only goes forward, which all processes share.
measure.now = terminal.now

function measure.median(values)
  local sorted = {unpack(values)}
  table.sort(sorted)
  local middle = math.floor(#sorted / 2)
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end

-- What a sample of one measurement should last at least, so that what starts and ends it does not count, and how many
-- steps at most it takes: steps that take the host longer than the device come in batches.
local sample_seconds, largest_batch = 0.01, 100

-- A GPU under a long load meets its power limit within tenths of a second and lowers its clock, by how much depends on
-- the chip and on what ran before. So it rests before every sample, long enough that its clock is the same for all.
-- Steps that take the host most of the time leave the GPU at rest anyway.
local rest_seconds, shortest_for_rest = 0.02, 200e-6

--- Microseconds of one call of step(turn), turn = 1, 2, …: the median over samples of one or more calls each.
--
-- Within a sample nothing waits for the device, as in training: where a step is more work for the device than for
-- the host, the host runs ahead, and events measure the device's time alone. The garbage collector runs as it does in
-- any script, and its time counts.
-- @param options {device =, samples = (50), seconds = that a measurement may take, unless that left less than 20,
--   sustained = true where a GPU does not rest before every sample}
function measure.time(step, options)
  local device, wanted = options.device, options.samples or 50
  local turn = 0
  local function run(calls)
    for _ = 1, calls do
      turn = turn + 1
      step(turn)
    end
  end

  jit.flush() -- compiled code would keep what earlier measurements used, and the collector busy with it
  collectgarbage()
  run(3)
  core.synchronize(device)
  local start = measure.now()
  run(5)
  core.synchronize(device)
  local estimate = (measure.now() - start) / 5
  local batch = math.max(1, math.min(largest_batch, math.floor(sample_seconds / estimate)))
  local affordable = math.floor((options.seconds or 3) / (batch * estimate))
  local samples = math.min(wanted, math.max(20, affordable))
  run(batch)

  local starts, stops, times = {}, {}, {}
  for i = 1, samples do -- recorded once, since that is when the driver makes them
    starts[i], stops[i] = fp8.event(device):record(), fp8.event(device):record()
  end
  local rests = device ~= "cpu" and not options.sustained and estimate >= shortest_for_rest
  for i = 1, samples do
    if rests then
      core.synchronize(device)
      ffi.C.usleep(rest_seconds * 1e6)
    end
    starts[i]:record()
    run(batch)
    stops[i]:record()
  end
  core.synchronize(device)
  for i = 1, samples do times[i] = starts[i]:elapsed(stops[i]) * 1000 / batch end
  return measure.median(times)
end

--- Frees tensors, and those in tables of tensors, at once: what is timed are kernels, not scripts that leave their
-- results to the collector.
function measure.free(...)
  for i = 1, select("#", ...) do
    local result = select(i, ...)
    if type(result) == "table" then
      for _, tensor in pairs(result) do core.free(tensor) end
    elseif core.is_tensor(result) then
      core.free(result)
    end
  end
end

-- The output of a command, or nil where it fails or prints nothing.
local function output_of(command)
  local pipe = io.popen(command .. " 2>/dev/null")
  local text = pipe and pipe:read("*a"):gsub("%s+$", "") or ""
  if pipe then pipe:close() end
  return text ~= "" and text or nil
end

--- What a device is called by its maker: by nvidia-smi, or of the CPU with the number of processors.
function measure.device_name(device)
  local index = device:match("^cuda:?(%d*)$")
  if index then
    local query = "nvidia-smi --query-gpu=name --format=csv,noheader -i " .. (index == "" and "0" or index)
    return output_of(query) or device
  end
  local model = output_of("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1") or "cpu"
  return ("%s, %s processors"):format(model, output_of("nproc") or "?")
end

--- Where benchmarks run unless told otherwise.
function measure.default_device() return fp8.cuda.is_available() and "cuda" or "cpu" end

--- Reads the command line (../lib/options.lua). --help prints `usage`.
-- @param readers by name: what turns the text into a value, nil if it is wrong; none is needed for a flag
-- @param values  defaults, changed and returned
function measure.options(usage, readers, values) return command_line.read(arg[0], usage, readers, values) end

--- Readers for `options`: a whole number of at least 1; a list of names that are keys of `allowed`.
measure.whole, measure.names = command_line.whole, command_line.names

--- Calls main(), with errors as one line.
function measure.main(main) command_line.main(arg[0], main) end

return measure
