--- Operations that change a tensor and return it. They are not recorded: a tensor that requires a gradient can be
-- changed only inside fp8.no_grad.
local core = require "fp8.core"
local check_in_place = require("fp8.autograd").check_in_place

--- The operation of this name, core[name], with that check.
return function(name)
  local compute = core[name]
  return function(x, argument)
    check_in_place(name, x, argument)
    compute(x, argument)
    return x
  end
end
