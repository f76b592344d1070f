--- Modules (or functions) one after the other.
local core = require "fp8.core"
local Module = require "fp8.nn.module"

local Sequential = Module:extend("Sequential")

local function is_callable(value)
  return Module.is_module(value) or type(value) == "function"
end

--- fp8.nn.Sequential(first, second, …) or fp8.nn.Sequential{first, second, …}: each gets what the one before
-- returned. The parts are fields 1, 2, …, and a function of one tensor will do for a part.
function Sequential:init(...)
  local parts = {...}
  if type((...)) == "table" and not Module.is_module((...)) then parts = (...) end
  for i = 1, #parts do
    if not is_callable(parts[i]) then
      core.raise(("Sequential: part %d must be a module or a function, got %s"):format(i, type(parts[i])))
    end
    self[i] = parts[i]
  end
end

--- What the last part returns.
function Sequential:forward(x)
  for i = 1, #self do x = self[i](x) end
  return x
end

return Sequential
