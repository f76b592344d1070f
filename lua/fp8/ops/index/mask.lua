--- Where a mask is not 0.
local core = require "fp8.core"

--- The positions, from 0 and in row-major order, of the elements of a u8 tensor that are not 0: an i64 tensor on its
-- device. Their number has to be known, so that this waits for the device.
return function(mask) return core.view(core.nonzero(core.view(core.contiguous(mask), {-1})), {-1}) end
