--- fp8.gradcheck: derivatives against differences.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local shapes = require "fp8.shapes"

local raise = core.raise

local known_options = {eps = "number", atol = "number", rtol = "number", raise_exception = "boolean"}
local defaults = {eps = 0.02, atol = 1e-3, rtol = 1e-2}

local function read_options(options)
  local read = {}
  options = check_options("gradcheck", options, known_options)
  for option, default in pairs(defaults) do
    local value = options[option] or default
    if not (value >= 0 and value < math.huge) or option == "eps" and value == 0 then
      raise(("gradcheck: option %s must be a finite number %s 0, got %s"):format(option,
        option == "eps" and "above" or "of at least", tostring(value)))
    end
    read[option] = value
  end
  read.quiet = options.raise_exception == false
  return read
end

-- The inputs as a list, copies of those that require a gradient, and the positions of these.
local function read_inputs(inputs)
  if core.is_tensor(inputs) then inputs = {inputs} end
  if type(inputs) ~= "table" then
    raise("gradcheck: the inputs must be a tensor or a list of arguments, got " .. type(inputs))
  end
  local list, positions, count = {}, {}, 0
  for position in pairs(inputs) do
    if type(position) == "number" then count = math.max(count, position) end
  end
  for i = 1, count do
    local value = inputs[i]
    list[i] = value
    if core.is_tensor(value) and core.requires_grad(value) then
      if core.dtype(value) ~= "f32" then
        raise(("gradcheck: input %d is %s: differences need f32, so cast it in the function"):format(i,
          core.dtype(value)))
      end
      positions[#positions + 1] = i
      list[i] = core.clone(core.contiguous(value))
      core.set_requires_grad(list[i], true)
    end
  end
  if #positions == 0 then raise "gradcheck: at least one input must be a tensor that requires a gradient" end
  return list, positions, count
end

-- Numbers from 0.5 to 1.5 of both signs, the same ones always; the generator of the script stays where it is.
local function weights_of(count, seed)
  local list, state = {}, seed
  for i = 1, count do
    state = state * 48271 % 2147483647
    list[i] = (0.5 + state / 2147483647) * (state % 2 == 0 and 1 or -1)
  end
  return list
end

-- The elements of a tensor in row-major order, as numbers.
local function elements(x)
  local flat = core.view(core.contiguous(core.to(x, {device = "cpu", dtype = "f32"})), {core.numel(x)})
  return core.totable(flat)
end

local function check_outputs(...)
  local outputs = {...}
  for i = 1, select("#", ...) do
    if not core.is_tensor(outputs[i]) then
      raise(("gradcheck: result %d of the function must be a tensor, got %s"):format(i, type(outputs[i])))
    end
  end
  if #outputs == 0 then raise "gradcheck: the function returns nothing" end
  return outputs
end

-- All elements of all results, one after the other.
local function values_of(outputs)
  local list = {}
  for _, output in ipairs(outputs) do
    for _, value in ipairs(elements(output)) do list[#list + 1] = value end
  end
  return list
end

local function weighted(values, weights)
  local sum = 0
  for i = 1, #weights do sum = sum + values[i] * weights[i] end
  return sum
end

-- The gradients of Σ weight · element over all results: by input, a list of numbers, or nil if nothing arrived.
local function backward_gradients(outputs, weights, inputs, positions)
  local first, loss = 0, nil
  for i, output in ipairs(outputs) do
    if not autograd.needs_grad(output) then
      raise(("gradcheck: result %d of the function requires no gradient"):format(i))
    end
    local count, own = core.numel(output), {}
    for k = 1, count do own[k] = weights[first + k] end
    first = first + count
    local factor = core.view(core.tensor(own, {dtype = "f32", device = core.device(output)}), core.shape(output))
    local part = (output * factor):sum()
    loss = loss and loss + part or part
  end
  loss:backward()
  local gradients = {}
  for _, position in ipairs(positions) do
    local grad = autograd.grad(inputs[position])
    gradients[position] = grad and elements(grad)
  end
  return gradients
end

-- d Σ weight · element / d an element of an input, by central differences of the fourth order: (4 · s(eps) -
-- s(2 · eps)) / 3, s(h) being (y(x + h) - y(x - h)) / 2h. Sums are in double.
local function difference(evaluate, element, weights, eps)
  local at = core.item(element)
  local step = eps * math.max(1, math.abs(at))
  local function slope(h)
    core.fill_(element, at + h)
    local from, high = core.item(element), evaluate()
    core.fill_(element, at - h)
    local to, low = core.item(element), evaluate()
    core.fill_(element, at)
    for i = 1, #high do high[i] = high[i] - low[i] end
    return weighted(high, weights) / (from - to)
  end
  return (4 * slope(step) - slope(2 * step)) / 3
end

-- nil, or what is wrong with the gradient of an input.
local function compare(position, input, gradient, evaluate, weights, options)
  local flat, shape = core.view(input, {core.numel(input)}), core.shape(input)
  local wrong, worst, text = 0, nil, nil
  for i = 1, core.numel(input) do
    local expected = difference(evaluate, core.narrow(flat, 1, i, 1), weights, options.eps)
    local found = gradient and gradient[i] or 0
    local distance = math.abs(found - expected)
    if not (distance <= options.atol + options.rtol * math.abs(expected)) then
      wrong = wrong + 1
      if not worst or not (distance <= worst) then
        worst = distance
        text = ("at %s backward gives %s, differences give %.6g"):format(shapes.position(i, shape),
          gradient and ("%.6g"):format(found) or "no gradient", expected)
      end
    end
  end
  if wrong == 0 then return nil end
  return ("gradcheck: input %d of shape %s: %d of %d elements of its gradient are wrong; %s"):format(position,
    shapes.text(shape), wrong, core.numel(input), text)
end

local function check(f, inputs, positions, count, options)
  local outputs = check_outputs(f(unpack(inputs, 1, count)))
  local values = values_of(outputs)
  local weights = weights_of(#values, 20000 + #values)
  local gradients = backward_gradients(outputs, weights, inputs, positions)
  local function evaluate()
    return values_of(check_outputs(autograd.no_grad(function() return f(unpack(inputs, 1, count)) end)))
  end
  local again = evaluate()
  for i = 1, math.max(#values, #again) do
    if values[i] ~= again[i] and (values[i] == values[i] or again[i] == again[i]) then
      return "gradcheck: the function gives other values when it is called again: random numbers, say"
    end
  end
  for _, position in ipairs(positions) do
    local leaf = inputs[position]
    inputs[position] = core.clone(leaf) -- which differences may change
    local wrong = compare(position, inputs[position], gradients[position], evaluate, weights, options)
    inputs[position] = leaf
    if wrong then return wrong end
  end
end

--- fp8.gradcheck(f, inputs [, options]): whether the gradients that backward gives of f's results are those of
-- differences, in the manner of torch.autograd.gradcheck. Tensors are f32 here, so that differences are of the
-- fourth order with a large step: f should be smooth around its inputs, without a kink nearer than 2 · eps.
--
-- What is compared is the gradient of Σ weight · element, over all elements of all results and with weights that
-- differ. The inputs are copied, and f is called 4 times for each element of them. Other tensors that f computes with
-- get their gradients added up as by backward.
-- @param f       a function of the inputs, or a module, that returns one or several tensors
-- @param inputs  a tensor or a list of f's arguments; the tensors among them that require a gradient are checked, of
--   which there must be one. All of these are f32
-- @param options {eps = 0.02, the step at a number of at most 1, and times larger ones; atol = 1e-3 and rtol = 1e-2,
--   right being |backward - difference| ≤ atol + rtol · |difference|; raise_exception = true}
-- @return true. Where gradients are wrong it is an error that says of which input, at which element, and what they are;
--   with raise_exception = false it returns false and that text
--   fp8.gradcheck(function(x) return x:exp() end, fp8.tensor({0.5, 1}, {requires_grad = true})) --> true
return function(f, inputs, options)
  local class = type(f) == "table" and getmetatable(f)
  if type(f) ~= "function" and not (class and class.__call) then
    raise("gradcheck: a function or a module is needed, got " .. type(f))
  end
  options = read_options(options)
  local list, positions, count = read_inputs(inputs)
  local wrong = autograd.recorded(check, f, list, positions, count, options)
  if not wrong then return true end
  if options.quiet then return false, wrong end
  raise(wrong)
end
