local core = require "fp8.core"
local view = require "fp8.ops.view"

local function row_of(x)
  if core.is_tensor(x) and core.rank(x) == 0 then return view.view(x, {1}) end
  return x
end

--- f(x, dimension, third, fourth, …) of a tensor x without dimensions, for which 1 and -1 stand, as in PyTorch: it and
-- others without any are vectors of one element meanwhile.
return function(f, x, dimension, third, fourth, ...)
  return view.view(f(row_of(x), dimension, row_of(third), row_of(fourth), ...), {})
end
