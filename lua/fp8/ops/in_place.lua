--- Operations that change a tensor and return it. They are not recorded: a tensor that requires a gradient can be
-- changed only inside fp8.no_grad.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local check_in_place = autograd.check_in_place

local in_place = {}

local function changing(name)
  local compute = core[name]
  return function(x, argument)
    check_in_place(name, x, argument)
    compute(x, argument)
    return x
  end
end

--- x:add_(b), x:sub_(b), x:mul_(b), x:div_(b): b is a number or a tensor that broadcasts to x; x keeps its dtype.
in_place.add_ = changing "add_"
in_place.sub_ = changing "sub_"
in_place.mul_ = changing "mul_"
in_place.div_ = changing "div_"

--- x:copy_(source): the elements of a tensor of any dtype and device that broadcasts to x.
in_place.copy_ = changing "copy_"

--- x:fill_(number)
in_place.fill_ = changing "fill_"

--- x:zero_()
in_place.zero_ = changing "zero_"

return in_place
