--- What the benchmarks share: timing, options, the names of devices. Required as "measure" by the scripts beside it.
local ffi = require "ffi"
local fp8 = require "fp8"
local core = require "fp8.core"

ffi.cdef "int clock_gettime(int clock, void *time); int usleep(unsigned microseconds);"

local measure = {}

--- Seconds of the system's monotonic clock, which all processes share.
function measure.now()
  local monotonic, time = 1, ffi.new("struct { long seconds, nanoseconds; }")
  ffi.C.clock_gettime(monotonic, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) * 1e-9
end

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

local function stop(message, ...)
  io.stderr:write(("%s: %s\n"):format(arg[0], message:format(...)))
  os.exit(1, true)
end

--- Reads the command line: --name VALUE, --name=VALUE, or --name for those whose default is false. --help prints
-- `usage`.
-- @param readers by name: what turns the text into a value, nil if it is wrong; none is needed for a flag
-- @param options defaults, changed and returned
function measure.options(usage, readers, options)
  local position = 1
  while arg[position] do
    local argument = arg[position]
    local name, value = argument:match("^%-%-([%a-]+)=(.*)$")
    name = (name or argument:match("^%-%-([%a-]+)$") or "?"):gsub("%-", "_")
    if name == "help" then
      io.write(usage)
      os.exit(0, true)
    elseif options[name] == false and not readers[name] and not value then
      options[name] = true
    elseif readers[name] then
      if not value then
        position = position + 1
        value = arg[position] or stop("%s needs a value; --help lists the options", argument)
      end
      options[name] = readers[name](value)
      if options[name] == nil then stop("%s can't be '%s'; --help lists the options", argument, value) end
    else
      stop("unknown option '%s'; --help lists the options", argument)
    end
    position = position + 1
  end
  return options
end

--- Readers for `options`: a whole number of at least 1; a list of names that are keys of `allowed`.
function measure.whole(text)
  local number = tonumber(text)
  return number and number >= 1 and number == math.floor(number) and number < 2^31 and number or nil
end

function measure.names(allowed)
  return function(text)
    local names = {}
    for name in text:gmatch("[^,%s]+") do
      if not allowed[name] then return nil end
      names[#names + 1] = name
    end
    return #names > 0 and names or nil
  end
end

--- Calls main(), with errors as one line.
function measure.main(main)
  io.stdout:setvbuf("line")
  local ok, message = pcall(main)
  if not ok then stop("%s", (tostring(message):gsub("^[^:]+:%d+: ", ""))) end
end

return measure
