--- Parts of tensors that an index tensor with smaller sizes speaks of.
local core = require "fp8.core"
local view = require "fp8.ops.view"

--- The first positions of x's dimensions, as many as `shape` has, where x has more; `dimension` (nil for none) stays
-- whole. x itself if nothing goes, or if the ranks differ, which is an error elsewhere.
return function(x, shape, dimension)
  local own = core.shape(x)
  if #own ~= #shape then return x end
  if type(dimension) == "number" and dimension < 0 then dimension = dimension + #own + 1 end
  for d = 1, #own do
    if d ~= dimension and shape[d] < own[d] then x = view.narrow(x, d, 1, shape[d]) end
  end
  return x
end
