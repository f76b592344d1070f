--- Dropout as a module.
local arguments = require "fp8.nn.arguments"
local dropout = require "fp8.ops.dropout"
local Module = require "fp8.nn.module"

local Dropout = Module:extend("Dropout")

--- fp8.nn.Dropout(probability = 0.5): fp8.dropout in training, nothing in evaluation.
--   fp8.nn.Dropout(0.1):eval()(fp8.tensor {1, 2}) --> {1, 2}
function Dropout:init(probability)
  if probability == nil then probability = 0.5 end
  arguments.check_probability(self.class_name, "the probability", probability)
  self.probability = probability
end

function Dropout:forward(x, ...)
  arguments.check_one(self, "one tensor", ...)
  return self.training and dropout(x, self.probability) or x
end

function Dropout:description() return ("%g"):format(self.probability) end

return Dropout
