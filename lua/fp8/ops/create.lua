--- Tensors like another one: its shape, and its dtype and device unless the options say otherwise.
local check_options = require "fp8.check_options"
local core = require "fp8.core"

local create = {}

local known_options = {dtype = true, device = true, requires_grad = true}

local function options_like(caller, x, options)
  local complete = {dtype = core.dtype(x), device = core.device(x)}
  for name, value in pairs(check_options(caller, options, known_options)) do complete[name] = value end
  return complete
end

--- fp8.zeros_like(x [, {dtype =, device =, requires_grad =}]), and so the others; empty_like is not initialised.
--   fp8.zeros_like(fp8.tensor {1, 2}) --> {0, 0}
--   fp8.ones_like(fp8.tensor {1, 2}) --> {1, 1}
--   fp8.empty_like(fp8.tensor {1, 2}).shape --> {2}
--   fp8.rand_like(fp8.tensor {1, 2}).shape --> {2}
--   fp8.randn_like(fp8.tensor {1, 2}, {dtype = "bf16"}).dtype --> "bf16"
for _, name in ipairs {"zeros", "ones", "empty", "rand", "randn"} do
  local make, caller = core[name], name .. "_like"
  create[caller] = function(x, options) return make(core.shape(x), options_like(caller, x, options)) end
end

--- fp8.full_like(x, value [, options])
--   fp8.full_like(fp8.tensor {1, 2}, 7) --> {7, 7}
function create.full_like(x, value, options)
  return core.full(core.shape(x), value, options_like("full_like", x, options))
end

return create
