--- Modules (or functions) one after the other.
local core = require "fp8.core"
local list_length = require "fp8.list_length"
local arguments = require "fp8.nn.arguments"
local fused = require "fp8.nn.fused"
local Module = require "fp8.nn.module"

local Sequential = Module:extend("Sequential")

local function is_callable(value)
  return Module.is_module(value) or type(value) == "function"
end

local function kind_of(value)
  local class = type(value) == "table" and rawget(value, "class_name")
  return class and ("the class %s: call it to make a module"):format(class) or type(value)
end

--- fp8.nn.Sequential(first, second, …) or fp8.nn.Sequential{first, second, …}: each gets what the one before
-- returned. The parts are fields 1, 2, …, and a function of one tensor will do for a part.
--   fp8.nn.Sequential(fp8.nn.ReLU(), function(x) return x + 1 end)(fp8.tensor {-1, 2}) --> {1, 3}
function Sequential:init(...)
  local parts, count = {...}, select("#", ...)
  if count == 1 and type((...)) == "table" and getmetatable((...)) == nil then
    parts, count = (...), list_length("Sequential", (...))
  end
  for i = 1, count do
    if not is_callable(parts[i]) then
      core.raise(("Sequential: part %d must be a module or a function, got %s"):format(i, kind_of(parts[i])))
    end
    self[i] = parts[i]
  end
end

--- What the last part returns.
function Sequential:forward(x, ...)
  arguments.check_one(self, "the input of its first part", ...)
  local i, count = 1, #self
  while i <= count do
    local y = i + 2 <= count and fused.pair(self[i], self[i + 1], self[i + 2], x)
    x, i = y or self[i](x), y and i + 3 or i + 1
  end
  return x
end

return Sequential
