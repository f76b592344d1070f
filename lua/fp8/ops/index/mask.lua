--- Where a mask is not 0.
local ffi = require "ffi"
local core = require "fp8.core"

local bytes, positions_pointer = ffi.typeof "const uint8_t *", ffi.typeof "int64_t *"

--- The positions, from 0 and in row-major order, of the elements of a u8 tensor that are not 0: an i64 tensor on its
-- device. Their number has to be known, so that this waits for the device.
return function(mask)
  if core.nonzero then return core.view(core.nonzero(core.view(core.contiguous(mask), {-1})), {-1}) end
  local host = core.contiguous(core.to(mask, {dtype = "u8", device = "cpu"}))
  local values, length, count = ffi.cast(bytes, core.data(host)), core.numel(host), 0
  for i = 0, length - 1 do
    if values[i] ~= 0 then count = count + 1 end
  end
  local positions = core.empty({count}, {dtype = "i64", device = "cpu"})
  local to, place = ffi.cast(positions_pointer, core.data(positions)), 0
  for i = 0, length - 1 do
    if values[i] ~= 0 then
      to[place] = i
      place = place + 1
    end
  end
  return core.to(positions, {device = core.device(mask)})
end
