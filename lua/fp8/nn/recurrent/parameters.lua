--- What recurrent layers and cells have in common: weights by PyTorch's names, and checks of states.
local apply_linear = require "fp8.linear.apply"
local arguments = require "fp8.nn.arguments"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local linear_state = require "fp8.linear.state"
local planning = require "fp8.linear.plan"
local published = require "fp8.linear.published"
local recipe_copies = require "fp8.linear.recipe_copies"
local shape_text = require("fp8.shapes").text

local parameters = {}

-- Uniform in ±1 / √hidden_size, as PyTorch has all of a recurrent layer's.
local function uniform(shape, bound, options)
  local values = core.rand(shape, {dtype = "f32", device = options.device})
  core.mul_(values, 2 * bound)
  core.sub_(values, bound)
  if options.dtype then values = core.to(values, {dtype = options.dtype}) end
  core.set_requires_grad(values, true)
  return values
end

local common_options = {bias = "boolean", recipe = true, dtype = "dtype", device = "device"}

--- Checks sizes and options, of those that all have and `others`, and notes them as fields.
function parameters.read(module, input_size, hidden_size, options, others)
  local name = module.class_name
  arguments.check_size(name, "input_size", input_size)
  arguments.check_size(name, "hidden_size", hidden_size)
  local known = {}
  for _, list in ipairs {common_options, others} do
    for option, kind in pairs(list) do known[option] = kind end
  end
  options = check_options(name, options, known)
  module.input_size, module.hidden_size = input_size, hidden_size
  module.has_bias = options.bias ~= false
  if options.recipe ~= nil then
    module.recipe = recipe_copies.copied(published.resolve(name, options.recipe))
    module.input_products = {}
  end
  return options
end

-- What linear.apply needs of the input's product by a recipe.
local function product_of(module, input_size, rows)
  local plan = planning.make(module.class_name, module.recipe, input_size, rows)
  if plan.histories[1] then
    core.raise(module.class_name .. ": delayed scaling is for linear layers, which keep the history")
  end
  return {plan = plan, state = linear_state.new(module)}
end

--- Gives a module weight_ih, weight_hh, bias_ih and bias_hh, with a suffix.
function parameters.add(module, parts, input_size, suffix, options)
  local hidden_size = module.hidden_size
  local bound, rows = 1 / math.sqrt(hidden_size), parts * hidden_size
  module["weight_ih" .. suffix] = uniform({rows, input_size}, bound, options)
  module["weight_hh" .. suffix] = uniform({rows, hidden_size}, bound, options)
  if module.recipe then module.input_products[suffix] = product_of(module, input_size, rows) end
  if not module.has_bias then return end
  module["bias_ih" .. suffix] = uniform({rows}, bound, options)
  module["bias_hh" .. suffix] = uniform({rows}, bound, options)
end

--- The fields with tables that have no modules in them (nn/module.lua).
parameters.unsearched = {recipe = true, input_products = true}

--- What the gates get from the input, in one product.
function parameters.gates(module, x, suffix)
  local weight, bias = module["weight_ih" .. suffix], module["bias_ih" .. suffix]
  local product = module.input_products and module.input_products[suffix]
  if not product then return apply_linear(x, weight, bias) end
  product.state.training = module.training
  return apply_linear(x, weight, bias, product.plan, product.state)
end

--- The input, a tensor of the given numbers of dimensions, and of input_size features.
function parameters.check_input(module, x, least, most, expected)
  local name = module.class_name
  if not core.is_tensor(x) then core.raise(("%s: the input must be a tensor, got %s"):format(name, type(x))) end
  local shape = core.shape(x)
  if #shape < least or #shape > most or shape[#shape] ~= module.input_size then
    core.raise(("%s: the input must be %s with %d features, got shape %s"):format(name, expected, module.input_size,
      shape_text(shape)))
  end
  return shape
end

--- A state of the given shape, like x in dtype and device: zeros where none is given.
function parameters.state(module, what, state, shape, x)
  local name, dtype, device = module.class_name, core.dtype(x), core.device(x)
  if state == nil then return core.zeros(shape, {dtype = dtype, device = device}) end
  if not core.is_tensor(state) then
    core.raise(("%s: %s must be a tensor, got %s"):format(name, what, type(state)))
  end
  local need = ("%s of shape %s on %s"):format(dtype, shape_text(shape), device)
  local have = ("%s of shape %s on %s"):format(core.dtype(state), shape_text(core.shape(state)), core.device(state))
  if need ~= have then core.raise(("%s: %s must be %s, got %s"):format(name, what, need, have)) end
  return state
end

--- The two states of an LSTM, {hidden, cell}, or nil and nil.
function parameters.pair(module, states)
  if states == nil then return nil, nil end
  if type(states) ~= "table" or states[1] == nil or states[2] == nil then
    core.raise(("%s: the states must be a list of the hidden state and the cell, got %s"):format(module.class_name,
      type(states)))
  end
  return states[1], states[2]
end

return parameters
