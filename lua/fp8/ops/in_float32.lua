local to = require("fp8.ops.copy").to
local core = require "fp8.core"

local dtype_of, is_tensor, promoted = core.dtype, core.is_tensor, core.promoted

--- Computes f(…), which gives a tensor, with all tensors as f32, unless all are integers, and rounds the result once to
-- the dtype that they promote to: what is composed of several operations keeps the rule of those that are one. Numbers
-- among the arguments meet f32 tensors.
return function(f, ...)
  local dtype, inputs = nil, {...}
  local count = select("#", ...)
  for i = 1, count do
    if is_tensor(inputs[i]) then
      local own = dtype_of(inputs[i])
      dtype = dtype and promoted(dtype, own) or own
    end
  end
  if dtype == nil or core.dtypes[dtype].kind == "integer" then return f(...) end
  for i = 1, count do
    if is_tensor(inputs[i]) then inputs[i] = to(inputs[i], "f32") end
  end
  return to(f(unpack(inputs, 1, count)), dtype)
end
