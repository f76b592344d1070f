--- From the start of a process to the end of its first LinearMixed step (1024 x 1024, 64 rows), each part in
-- milliseconds: medians over fresh processes. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local ffi = require "ffi"

local usage = [[
usage: luajit examples/bench/start.lua [options]
  --device NAME    cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype NAME     f32, f16 or bf16 (default bf16 on a GPU, f32 on the CPU)
  --processes N    how many are started, one after the other (default 5)
  --help           this text
]]

local parts = {"interpreter", "require", "context", "layer", "first step", "second step"}

-- A process of its own runs this: it prints the time of the clock at the end of each part. Nothing that fp8 does not
-- need itself is loaded before, so it has a clock of its own.
local function child(device, dtype)
  ffi.cdef "int clock_gettime(int clock, void *time);"
  local monotonic, time, marks = 1, ffi.new("struct { long seconds, nanoseconds; }"), {}
  local function mark()
    ffi.C.clock_gettime(monotonic, time)
    marks[#marks + 1] = ("%d.%09d"):format(tonumber(time.seconds), tonumber(time.nanoseconds))
  end

  mark()
  local fp8 = require "fp8"
  mark()
  local options = {device = device, dtype = dtype}
  local core = require "fp8.core"
  fp8.zeros(1, options)
  core.synchronize(device)
  mark()
  local layer = fp8.LinearMixed(1024, 1024, options)
  local x, dy = fp8.randn(64, 1024, options):requires_grad_(), fp8.randn(64, 1024, options)
  core.synchronize(device)
  mark()
  for _ = 1, 2 do
    layer(x):backward(dy)
    core.synchronize(device)
    mark()
  end
  print(table.concat(marks, " "))
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function main()
  local measure = require "measure"
  local element_types = require "fp8.computable"
  local options = measure.options(usage, {
    device = tostring,
    dtype = function(text) return element_types[text] and text or nil end,
    processes = measure.whole,
  }, {processes = 5})
  options.device = options.device or measure.default_device()
  options.dtype = options.dtype or (options.device == "cpu" and "f32" or "bf16")

  local command = ("exec %s %s --child %s %s"):format(arg[-1], quoted(arg[0]), quoted(options.device), options.dtype)
  local times, totals = {}, {}
  for i = 1, #parts do times[i] = {} end
  for turn = 1, options.processes do
    local last = measure.now()
    local start = last
    local pipe = io.popen(command)
    local line = pipe:read("*l")
    pipe:close()
    if not line then error("the process printed nothing", 0) end
    local part = 0
    for mark in line:gmatch("%S+") do
      part = part + 1
      times[part][turn] = (tonumber(mark) - last) * 1000
      last = tonumber(mark)
      if parts[part] == "first step" then totals[turn] = (last - start) * 1000 end
    end
  end

  print(("%s, %s; milliseconds, medians of %d processes"):format(measure.device_name(options.device), options.dtype,
    options.processes))
  for i, name in ipairs(parts) do
    print(("%-28s %8.1f"):format(name, measure.median(times[i])))
    if name == "first step" then
      print(("%-28s %8.1f"):format("start to end of first step", measure.median(totals)))
    end
  end
end

if arg[1] == "--child" then
  child(arg[2], arg[3])
else
  require("measure").main(main)
end
