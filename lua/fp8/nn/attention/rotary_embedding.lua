--- Rotary position embedding as a module, without parameters.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local arguments = require "fp8.nn.arguments"
local rotate = require "fp8.ops.attention.rotary_embedding"
local Module = require "fp8.nn.module"

local RotaryEmbedding = Module:extend("RotaryEmbedding")

--- fp8.nn.RotaryEmbedding(features [, {base = 10000, interleaved = false}]): fp8.rotary_embedding of as many features.
--
--   local rotary = fp8.nn.RotaryEmbedding(64)
--   local q = rotary(fp8.randn(2, 4, 10, 64))               -- (batch, heads, positions, features)
--   local next_q = rotary(fp8.randn(2, 4, 1, 64), {offset = 10})
--   next_q.shape --> {2, 4, 1, 64}
function RotaryEmbedding:init(features, options)
  arguments.check_size(self.class_name, "features", features)
  if features % 2 ~= 0 then
    core.raise(("%s: features must be an even number, got %d"):format(self.class_name, features))
  end
  options = check_options(self.class_name, options, {base = "number", interleaved = "boolean"})
  self.features, self.base, self.interleaved = features, options.base or 10000, options.interleaved or false
  if not (self.base > 0 and self.base < math.huge) then
    core.raise(("%s: option base must be finite and above 0, got %s"):format(self.class_name, self.base))
  end
end

--- x (…, positions, features) to the same shape.
-- @param options {offset = the position of the first element (0), dimension = the one that has the positions (-2)}
function RotaryEmbedding:forward(x, options, ...)
  arguments.check_one(self, "an input (…, positions, features) and options", nil, ...)
  options = check_options(self.class_name, options, {offset = "number", dimension = "number"})
  if core.is_tensor(x) and core.rank(x) > 0 and core.size(x, -1) ~= self.features then
    core.raise(("RotaryEmbedding: %d features are needed, got %d"):format(self.features, core.size(x, -1)))
  end
  return rotate(x, {base = self.base, interleaved = self.interleaved, offset = options.offset,
    dimension = options.dimension})
end

function RotaryEmbedding:description()
  return ("%d, base = %g%s"):format(self.features, self.base, self.interleaved and ", interleaved" or "")
end

return RotaryEmbedding
