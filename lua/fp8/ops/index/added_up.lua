--- The sums of values by position, as derivatives of what picks positions are.
local core = require "fp8.core"

--- A new f32 tensor of `shape` whose elements are the sums of the values for which `positions`, of the values' shape,
-- names them along a dimension; 0 where there are none. On a GPU in no fixed order but after
-- fp8.set_deterministic(true).
return function(shape, dimension, positions, values)
  local zeros = core.zeros(shape, {dtype = "f32", device = core.device(values)})
  return core.scatter_add_(zeros, dimension, positions, values)
end
