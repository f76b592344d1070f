--- The time that a function takes, for :time.
local core = require "fp8.core"
local event = require "fp8.event"

-- The device that new tensors are on is waited for: a GPU's work is only begun when a call returns.
local function device_now() return core.device(core.empty(1)) end

local function duration(f, device)
  local start, stop = event(device):record(), event(device)
  f()
  return start:elapsed(stop:record())
end

local function text_of(milliseconds)
  if milliseconds >= 1000 then return ("%.3f s"):format(milliseconds / 1000) end
  if milliseconds >= 1 then return ("%.3f ms"):format(milliseconds) end
  return ("%.1f µs"):format(milliseconds * 1000)
end

--- A line that says how long f() takes, called `count` times.
return function(f, count)
  local device, times = device_now(), {}
  for i = 1, count do times[i] = duration(f, device) end
  if count == 1 then return text_of(times[1]) end
  table.sort(times)
  local middle = (times[math.floor((count + 1) / 2)] + times[math.ceil((count + 1) / 2)]) / 2
  return ("median of %d: %s, from %s to %s"):format(count, text_of(middle), text_of(times[1]), text_of(times[count]))
end
