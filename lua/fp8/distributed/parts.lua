--- The part of a tensor that is a rank's own: of as many equal ranges of its elements as there are ranks, in their
-- order.
local core = require "fp8.core"
local group = require "fp8.distributed.group"

local parts = {}

--- Whether a contiguous tensor is cut into parts, which travel from where they are.
-- @param unit elements of which parts have whole multiples
function parts.has(tensor, unit)
  local members = group.of("step")
  return members.size > 1 and core.numel(tensor) % (members.size * unit) == 0 and
    (core.device(tensor) ~= "cpu" or members.reduces)
end

--- A flat view of this rank's part of a contiguous tensor.
function parts.own(tensor)
  local members, count = group.of("step"), core.numel(tensor)
  local length = count / members.size
  return core.narrow(core.view(tensor, {count}), 1, members.rank * length + 1, length)
end

--- The part that each rank has of these contiguous tensors becomes that of all.
-- @param list of one device
function parts.gather(list)
  if #list == 0 then return end
  local count = 0
  for i = 1, #list do count = count + core.numel(list[i]) end
  local call = ("the parts that ranks keep: %d elements in %d tensors"):format(count, #list)
  group.check("step", core.distributed_agree(call))
  group.check("step", core.distributed_gather_parts(list))
end

return parts
