--- A table of vectors, one for each token.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local arguments = require "fp8.nn.arguments"
local embed = require "fp8.ops.embedding"
local Module = require "fp8.nn.module"

local Embedding = Module:extend("Embedding")

--- fp8.nn.Embedding(count, features [, {dtype =, device =}]): `weight` (count, features) starts standard normal.
--   fp8.nn.Embedding(100, 8)(fp8.tensor({3, 99}, {dtype = "i64"})).shape --> {2, 8}
function Embedding:init(count, features, options)
  arguments.check_size(self.class_name, "count", count)
  arguments.check_size(self.class_name, "features", features)
  options = check_options(self.class_name, options, {dtype = "dtype", device = "device"})
  self.count, self.features = count, features
  self.weight = core.randn({count, features}, {dtype = options.dtype, device = options.device, requires_grad = true})
end

--- Integers of any shape, from 0 to count - 1, to that shape and features.
function Embedding:forward(indices, ...)
  arguments.check_one(self, "a tensor of integers", ...)
  return embed(self.weight, indices)
end

function Embedding:description() return ("%d, %d"):format(self.count, self.features) end

return Embedding
