local core = require "fp8.core"

--- x, integers as f32. Not recorded: integers have no gradients.
return function(x)
  return core.dtypes[core.dtype(x)].kind == "integer" and core.to(x, {dtype = "f32"}) or x
end
