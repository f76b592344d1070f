--- Modules that compute nothing: the identity, and another shape.
local check_one = require("fp8.nn.arguments").check_one
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local Module = require "fp8.nn.module"
local view = require "fp8.ops.view"

local Identity = Module:extend("Identity")

function Identity.init(...) return ... end

--- fp8.nn.Identity(…): returns its input, whatever it is made with: a place where another module may be.
--   fp8.nn.Identity()(fp8.tensor {1}) --> {1}
function Identity:forward(x, ...)
  check_one(self, "one input", ...)
  return x
end

local Flatten = Module:extend("Flatten")

--- fp8.nn.Flatten([first [, last]]): dimensions `first` (2 if left out: all but those of the batch) to `last` (-1) as
-- one, as in x:flatten.
--   fp8.nn.Flatten()(fp8.zeros(2, 3, 4)).shape --> {2, 12}
function Flatten:init(first, last)
  self.first, self.last = first == nil and 2 or first, last == nil and -1 or last
  for _, dimension in ipairs {self.first, self.last} do
    if type(dimension) ~= "number" or not is_whole(math.abs(dimension), 1) then
      core.raise(("Flatten: dimensions must be whole numbers, from 1 or from -1 at the end, got %s"):format(
        tostring(dimension)))
    end
  end
end

function Flatten:forward(x, ...)
  check_one(self, "one tensor", ...)
  return view.flatten(x, self.first, self.last)
end

function Flatten:description() return ("%d, %d"):format(self.first, self.last) end

return {Identity = Identity, Flatten = Flatten}
