--- Whether what is quantized may be quantized as it is made, without being in memory itself (pair.lua,
-- cross_entropy.lua): not with FP8_FUSE=0 in the environment.
local repeated = require "fp8.linear.repeated"

local is_on = os.getenv "FP8_FUSE" ~= "0"

--- Whether layers with these plans (nil for plain ones) may: one with histories enters them as it quantizes, which
-- fp8.recompute has to do once.
return function(plan, other)
  if not is_on then return false end
  local has_histories = plan and plan.histories[1] or other and other.histories[1]
  return not (has_histories and repeated.is_running())
end
