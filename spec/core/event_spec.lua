-- Events: time between two points in a device's work.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  describe("An event", function()
    it("measures the time of the work between two of them", function()
      local x = fp8.zeros(512, 512, {device = device})
      local start, stop = fp8.event(device), fp8.event(device)
      local clock = fp8.event("cpu"):record()
      assert.equal(start, start:record())
      for _ = 1, 10 do x = x:matmul(x) end
      local elapsed = start:elapsed(stop:record())
      local waited = clock:elapsed(fp8.event("cpu"):record())
      assert.is_true(elapsed > 0 and elapsed <= waited, ("%g of %g ms"):format(elapsed, waited))
      assert.is_true(stop:elapsed(start) < 0)
      assert.equal(0, start:elapsed(start))
    end)

    it("can be recorded again", function()
      local start, stop = fp8.event(device):record(), fp8.event(device):record()
      local first = start:elapsed(stop)
      fp8.zeros(100, {device = device})
      assert.is_true(start:elapsed(stop:record()) > first)
    end)

    it("has to be recorded first, and is compared with events only", function()
      local event = fp8.event(device)
      fails("event_elapsed: both events must have been recorded", event.elapsed, event, event)
      fails("event_elapsed: argument 2: event expected, got table", event.elapsed, event, {})
      fails("event_record: argument 1: event expected, got userdata", event.record, fp8.zeros(1))
    end)
  end)
end)

describe("Events", function()
  it("of different devices can't be compared", function()
    if #support.devices < 2 then return end
    local a, b = fp8.event "cpu":record(), fp8.cuda.event():record()
    fails("the events are on different devices", a.elapsed, a, b)
  end)
end)
