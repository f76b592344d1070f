--- Whether steps that follow one another may be computed as one: not with FP8_FUSE=0 in the environment. What is
-- quantized is then quantized as it is made, without being in memory itself (pair.lua, cross_entropy.lua).
local repeated = require "fp8.linear.repeated"

local is_on = os.getenv "FP8_FUSE" ~= "0"

--- Whether they may in layers with these plans (nil for plain ones). One with histories enters them as it quantizes,
-- which fp8.recompute has to do once.
return function(plan, other)
  if not is_on then return false end
  if plan and not plan.is_simple or other and not other.is_simple then return false end
  local has_histories = plan and plan.histories[1] or other and other.histories[1]
  return not (has_histories and repeated.is_running())
end
