--- Tensors like another one: its shape, and its dtype and device unless the options say otherwise.
local core = require "fp8.core"

local creation = {}

local function options_like(x, options)
  local complete = {dtype = core.dtype(x), device = core.device(x)}
  if options ~= nil and type(options) ~= "table" then
    core.raise("options must be a table, got " .. type(options))
  end
  for name, value in pairs(options or {}) do complete[name] = value end
  return complete
end

--- fp8.zeros_like(x [, {dtype =, device =, requires_grad =}]), ones_like, empty_like (not initialised), randn_like.
function creation.zeros_like(x, options) return core.zeros(core.shape(x), options_like(x, options)) end
function creation.ones_like(x, options) return core.ones(core.shape(x), options_like(x, options)) end
function creation.empty_like(x, options) return core.empty(core.shape(x), options_like(x, options)) end
function creation.randn_like(x, options) return core.randn(core.shape(x), options_like(x, options)) end

return creation
