--- The tape's record of a sum, for those that compute one: record(y, a, b), of y = a + b.
local autograd = require "fp8.autograd"

local needs_grad, record = autograd.needs_grad, autograd.record

local addition = {name = "add", shares = true, backward = function(_, grad) return grad, grad end}

return function(y, a, b)
  if needs_grad(a, b) then record(y, addition, {a, b}) end
  return y
end
