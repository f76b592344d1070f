local autograd = require "fp8.autograd"
local core = require "fp8.core"

local needs_grad, record, where = autograd.needs_grad, autograd.record, core.where

--- min(max(x, low), high) of a derivative that is 0 where below(x, low) or above(x, high); either limit may be nil.
return function(below, above)
  local operation = {
    name = "clamp", shares = true,
    backward = function(node, grad, x)
      if node.low then grad = where(below(x, node.low), 0, grad) end
      if node.high then grad = where(above(x, node.high), 0, grad) end
      return grad
    end,
  }
  return function(x, low, high)
    local y = core.clamp(x, low, high)
    if needs_grad(x) then
      local node = record(y, operation, {x}, {x})
      node.low, node.high = low, high
    end
    return y
  end
end
