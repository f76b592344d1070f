--- Activation functions as modules.
local elementwise = require "fp8.ops.elementwise"
local Module = require "fp8.nn.module"

local ReLU = Module:extend("ReLU")

--- max(x, 0)
function ReLU.forward(_, x) return elementwise.relu(x) end

local GELU = Module:extend("GELU")

--- x · Φ(x), with the error function.
function GELU.forward(_, x) return elementwise.gelu(x) end

return {ReLU = ReLU, GELU = GELU}
