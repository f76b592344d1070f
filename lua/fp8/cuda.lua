--- fp8.cuda: the CUDA devices, whose part of fp8 is loaded when a script first asks for one.
local core = require "fp8.core"
local beside_core = require "fp8.beside_core"
local event = require "fp8.event"
local graph = require "fp8.graph"

local devices = {}

local failure -- why the CUDA part could not be loaded, once that has been tried

-- Loads cuda.so. Returns true, or false and the reason.
local function open()
  if failure then return false, failure end
  local path = beside_core "cuda"
  if not path then return false, "no CUDA: fp8's core.so can't be looked up now" end
  local file = io.open(path)
  if not file then
    failure = "no CUDA: fp8 was built without it (there is no " .. path .. ")"
    return false, failure
  end
  file:close()
  local opened, reason = core.backend_open("cuda", path)
  if not opened then failure = reason end
  return opened, reason
end

core.set_backend_loader("cuda", open)

local function device_name(index)
  if index == nil then return "cuda" end
  if type(index) == "number" then return ("cuda:%d"):format(index) end
  return index
end

--- Whether there is a CUDA device that works; if not, the second value says why.
--   type(fp8.cuda.is_available()) --> "boolean"
function devices.is_available()
  local opened, reason = open()
  if not opened then return false, reason end
  if core.device_count "cuda" == 0 then return false, "there is no CUDA device" end
  return true
end

--- The number of CUDA devices, 0 where CUDA can't be used.
--   fp8.cuda.device_count() >= 0 --> true
function devices.device_count()
  return open() and core.device_count "cuda" or 0
end

--- Waits for all work on a device, and raises an error if something in it failed.
-- @param index from 0; or a name such as "cuda:1"; the first device if left out
--   fp8.cuda.synchronize() --> nil
function devices.synchronize(index) core.synchronize(device_name(index)) end

--- Memory of tensors on a device in bytes: {in_use =, peak =, cached =}; cached is held from the driver but not in use.
--   fp8.cuda.memory().in_use >= 0 --> true
function devices.memory(index) return core.memory(device_name(index)) end

--- Lets the peak of `memory` start anew.
--   fp8.cuda.reset_peak_memory(0) --> nil
function devices.reset_peak_memory(index) core.reset_peak_memory(device_name(index)) end

--- An event on a CUDA device, as fp8.event makes them for any device (event.lua).
--   local start, stop = fp8.cuda.event():record(), fp8.cuda.event():record()
--   start:elapsed(stop) >= 0 --> true
function devices.event(index) return event(device_name(index)) end

--- Captures the work of a function, to be replayed by one call (graph.lua).
--   local x = fp8.ones(2, {device = "cuda"})
--   local step = fp8.cuda.graph(function() x:mul_(2) end) -- which runs once
--   step()
--   x --> {4, 4}
function devices.graph(f, index) return graph.capture(f, device_name(index)) end

return require("fp8.library")("fp8.cuda", devices)
