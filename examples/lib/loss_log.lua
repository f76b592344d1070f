--- The losses of the steps since the last report, on the device: reading each would wait for it.
local fp8 = require "fp8"

-- Most steps between two looks at the loss.
local longest_report = 50

--- A log for a run of so many steps.
return function(steps, device)
  local length = math.max(1, math.min(longest_report, math.floor(steps / 50)))
  local losses, count = fp8.zeros(length, {device = device}), 0
  local log = {}

  --- Adds a loss. Returns whether it is time to read them.
  function log.add(loss)
    count = count + 1
    losses:narrow(1, count, 1):copy_(loss)
    return count == length
  end

  --- The losses as a list, which begins anew. Waits for the device.
  function log.read()
    local values = count > 0 and losses:narrow(1, 1, count):totable() or {}
    count = 0
    return values
  end

  --- The place of the first loss of a list that is not finite, or nil.
  function log.first_bad(values)
    for i, loss in ipairs(values) do
      if not (math.abs(loss) < math.huge) then return i end
    end
  end

  return log
end
