local core = require "fp8.core"
local autograd = require "fp8.autograd"

local needs_grad, record = autograd.needs_grad, autograd.record

--- An operation of one tensor, core[name], with its derivative.
-- @param saves    whether the derivative needs the "input", the "output" or "nothing"
-- @param backward (node, grad, saved) -> grad of the input; core.NAME_backward(grad, saved) if left out
return function(name, saves, backward)
  local compute, fused = core[name], core[name .. "_backward"]
  backward = backward or function(_, grad, saved) return fused(grad, saved) end
  local operation = {name = name, backward = backward, shares = saves == "nothing"}
  return function(x)
    local y = compute(x)
    if needs_grad(x) then
      record(y, operation, {x}, saves == "input" and {x} or saves == "output" and {y} or nil)
    end
    return y
  end
end
