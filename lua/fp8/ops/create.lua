--- Tensors like another one: its shape, and its dtype and device unless the options say otherwise.
local check_options = require "fp8.check_options"
local core = require "fp8.core"

local create = {}

local known_options = {dtype = true, device = "device", requires_grad = true}

local function options_like(caller, x, options)
  local complete = {dtype = core.dtype(x), device = core.device(x)}
  for name, value in pairs(check_options(caller, options, known_options)) do complete[name] = value end
  return complete
end

--- fp8.zeros_like(x [, {dtype =, device =, requires_grad =}]), ones_like, empty_like (not initialised), randn_like.
function create.zeros_like(x, options) return core.zeros(core.shape(x), options_like("zeros_like", x, options)) end
function create.ones_like(x, options) return core.ones(core.shape(x), options_like("ones_like", x, options)) end
function create.empty_like(x, options) return core.empty(core.shape(x), options_like("empty_like", x, options)) end
function create.randn_like(x, options) return core.randn(core.shape(x), options_like("randn_like", x, options)) end

return create
