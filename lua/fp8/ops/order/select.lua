--- Elements chosen by their values. How many there are comes back from the device, which is waited for: none of this
-- can be captured in a graph, but for count_nonzero.
local autograd = require "fp8.autograd"
local core = require "fp8.core"

local needs_grad, record = autograd.needs_grad, autograd.record

local select = {}

--- x:nonzero(), and argwhere: the places of the elements that are not 0 (NaN is not), in row-major order: a row of
-- coordinates each, i64 that count from 0 as index_select takes them.
--   fp8.tensor({{0, 5}, {7, 0}}):nonzero() --> {{0, 1}, {1, 0}}
--   fp8.tensor({0, 5, 7}):argwhere() --> {{1}, {2}}
select.nonzero, select.argwhere = core.nonzero, core.nonzero

--- x:count_nonzero([dims]): how many elements are not 0, i64; `dims` is a dimension, a list of them, or nil for all.
--   fp8.tensor({{0, 5}, {7, 1}}):count_nonzero() --> 3
--   fp8.tensor({{0, 5}, {7, 1}}):count_nonzero(1) --> {1, 2}
function select.count_nonzero(x, dimensions) return core.sum(core.ne(x, 0), dimensions) end

local selecting = {
  name = "masked_select",
  backward = function(node, grad, mask)
    local flags = core.expand(core.ne(mask, 0), node.wide_shape)
    if core.numel(grad) == 0 then
      return core.zeros(node.wide_shape, {dtype = core.dtype(grad), device = core.device(grad)})
    end
    -- Of each element, how many are chosen before it.
    local places = core.sub(core.cumsum(core.view(core.contiguous(flags), {-1}), 1), 1)
    local spread = core.index_select(grad, 1, core.clamp(places, 0, math.huge))
    return core.where(flags, core.view(spread, node.wide_shape), 0)
  end,
}

local function broadcast_shape(x, mask)
  local a, b, shape = core.shape(x), core.shape(mask), {}
  for i = 1, math.max(#a, #b) do
    local left, right = a[i + #a - math.max(#a, #b)] or 1, b[i + #b - math.max(#a, #b)] or 1
    shape[i] = left == 1 and right or left
  end
  return shape
end

--- x:masked_select(mask): the elements of x where `mask`, of any dtype, is not 0, in row-major order, in one dimension;
-- the two broadcast.
--   fp8.tensor({5, 6, 7}):masked_select(fp8.tensor({1, 0, 1})) --> {5, 7}
function select.masked_select(x, mask)
  local y = core.masked_select(x, mask)
  if needs_grad(x) then record(y, selecting, {x}, {mask}).wide_shape = broadcast_shape(x, mask) end
  return y
end

return select
