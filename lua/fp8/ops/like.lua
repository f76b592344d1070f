--- What another tensor has, for x.
local check = require "fp8.ops.check"
local copy = require "fp8.ops.copy"
local core = require "fp8.core"
local view = require "fp8.ops.view"

local like = {}

local function by_shape(name, change)
  return function(x, other)
    check.tensor(name, 1, x)
    check.tensor(name, 2, other)
    return change(x, core.shape(other))
  end
end

--- x:expand_as(y), x:view_as(y), x:reshape_as(y): x:expand, x:view and x:reshape to y's shape.
--   fp8.tensor({1, 2}):expand_as(fp8.zeros(2, 2)) --> {{1, 2}, {1, 2}}
--   fp8.tensor({1, 2}):view_as(fp8.zeros(2, 1)) --> {{1}, {2}}
--   fp8.tensor({1, 2}):reshape_as(fp8.zeros(2, 1)) --> {{1}, {2}}
like.expand_as, like.view_as = by_shape("expand_as", view.expand), by_shape("view_as", view.view)
like.reshape_as = by_shape("reshape_as", view.reshape)

--- x:type_as(y): x in y's dtype, on y's device.
--   fp8.tensor({1.5}):type_as(fp8.zeros(1, {dtype = "i64"})).dtype --> "i64"
function like.type_as(x, other)
  check.tensor("type_as", 1, x)
  check.tensor("type_as", 2, other)
  return copy.to(x, {dtype = core.dtype(other), device = core.device(other)})
end

return like
