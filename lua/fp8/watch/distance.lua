--- How far tensors are from others of the same shapes, all of them taken as one long vector: ‖x - v‖ / ‖x‖, and the
-- cosine between x and v.
local comparison = require "fp8.watch.compare"
local core = require "fp8.core"

local distance = {}

--- Sums without any tensor so far: Σx², Σv² and Σ(x - v)², in double.
function distance.new() return {x = 0, v = 0, difference = 0} end

--- Adds a pair of tensors, f32, f16 or bf16. Waits for the device.
function distance.add(sums, x, v)
  local rows = comparison.new_rows(core.device(x), 2)
  core.compare(core.select(rows, 1, 1), x, v)
  core.compare(core.select(rows, 1, 2), v)
  rows = core.to(rows, {device = "cpu"})
  local squares, difference = comparison.sums(rows, 0)
  sums.x, sums.difference = sums.x + squares, sums.difference + difference
  sums.v = sums.v + (comparison.sums(rows, 1))
end

--- ‖x - v‖ / ‖x‖ and the cosine; NaN where something is not finite.
function distance.read(sums)
  if sums.difference == 0 then return 0, 1 end
  local cosine = (sums.x + sums.v - sums.difference) / (2 * math.sqrt(sums.x * sums.v))
  if sums.x * sums.v == 0 then cosine = 0 end
  return math.sqrt(sums.difference / sums.x), cosine
end

return distance
