--- What layers with hidden features are made from: MLP and GatedMLP.
local activations = require "fp8.nn.activations"
local arguments = require "fp8.nn.arguments"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local Dropout = require "fp8.nn.dropout"

local makers = {
  gelu = activations.GELU,
  gelu_tanh = function() return activations.GELU {approximate = "tanh"} end,
  silu = activations.SiLU,
  relu = activations.ReLU,
  sigmoid = activations.Sigmoid,
}

local known_options = {activation = "string", bias = "boolean", dropout = "number", dtype = "dtype", device = "device"}

--- Checks the arguments of a class called `name`.
-- @param choices names of activation functions that it takes, the default first
-- @param bias    whether its linear layers have one by default
-- @param more    further options, as check_options takes them, or nil
-- @return the activation module, a Dropout or nil, and the settings of the linear layers
return function(name, features, hidden, options, choices, bias, more)
  arguments.check_size(name, "features", features)
  arguments.check_size(name, "hidden", hidden)
  local known = more or {}
  for option, kind in pairs(known_options) do known[option] = kind end
  options = check_options(name, options, known)
  local activation, dropout = options.activation or choices[1], options.dropout or 0
  arguments.check_probability(name, "option dropout", dropout)
  local is_choice = false
  for _, choice in ipairs(choices) do is_choice = is_choice or choice == activation end
  if not is_choice then
    core.raise(("%s: option activation must be %s or %s, got %s"):format(name,
      table.concat(choices, ", ", 1, #choices - 1), choices[#choices], activation))
  end
  if options.bias ~= nil then bias = options.bias end
  local settings = {bias = bias, dtype = options.dtype, device = options.device}
  return makers[activation](), dropout > 0 and Dropout(dropout) or nil, settings
end
