--- fp8.event: points in a device's work, to measure the time between two of them.
local core = require "fp8.core"

-- Methods of events. Those of one device only can be compared.
local methods

--- fp8.event(device): an event on "cpu", "cuda" or "cuda:1", "cpu" if left out.
--
--   local start, stop = fp8.event "cuda":record(), fp8.event "cuda"
--   … work …
--   print(start:elapsed(stop:record()), "ms")
--
-- event:record() marks the point that the device's work has reached, and returns the event; it can be recorded again.
-- start:elapsed(stop) waits for both and gives the milliseconds from the one to the other.
--   local start = fp8.event("cpu"):record()
--   start:elapsed(fp8.event("cpu"):record()) >= 0 --> true
return function(device)
  local event = core.event(device or "cpu")
  if not methods then
    methods = debug.getmetatable(event)
    methods.record, methods.elapsed = core.event_record, core.event_elapsed
  end
  return event
end
