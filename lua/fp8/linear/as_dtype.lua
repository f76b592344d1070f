--- as_dtype(x, dtype): x itself if it has the dtype, otherwise a converted copy.
local core = require "fp8.core"

local convert, dtype_of = core.to, core.dtype

return function(x, dtype)
  return dtype_of(x) == dtype and x or convert(x, {dtype = dtype})
end
