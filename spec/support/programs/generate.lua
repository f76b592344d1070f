--- Makes random programs, statement by statement, as they run.
local operation = require "spec.support.programs.operation"
local programs = require "spec.support.programs"
local support = require "spec.support"
local tensor = require "spec.support.reference.tensor"

local operations, var = programs.operations, operation.var

local numbers = {0, 1, -1, 2, -3, 0.5, -1.5, 0.1, -0.0, 1 / 3, 3.0000001, 100, 1e-3, 65504, 1e4, -1e-7, 500}
local specials = {0, -0.0, 1, 0 / 0, math.huge, -math.huge, 2 ^ -149, 3.4e38, 65504, -448, 2 ^ -24, 1e-40, 57344}
local range = {f32 = 120, bf16 = 120, f16 = 14, e4m3 = 8, e5m2 = 14}

local names = {}
for name, entry in support.sorted_pairs(operations) do
  if entry.make and not entry.creates then table.insert(names, name) end
end
local creations = {}
for name, entry in support.sorted_pairs(operations) do
  if entry.make and entry.creates then table.insert(creations, name) end
end

local function generator(state, random, statements)
  local g = {random = random, device = state.device}
  local last = 0

  function g.pick(list) return list[random(#list)] end
  function g.number() return g.pick(numbers) end
  function g.tensor(number) return state.variables[number] end

  --- Runs a statement and keeps it in the program.
  function g.emit(statement)
    table.insert(statements, statement)
    programs.run(state, statement)
    return statement.number
  end

  function g.new_number()
    last = last + 1
    return last
  end

  --- A random variable for which `suits` is true, or nil.
  function g.any(suits)
    local found = {}
    for number = 1, last do
      local x = state.variables[number]
      if x and not x.dead and suits(x) then table.insert(found, number) end
    end
    return #found > 0 and g.pick(found) or nil
  end

  function g.shape()
    if random(25) == 1 then return g.pick {{70}, {3, 40}, {40, 3}, {2, 3, 33}, {1, 130}} end
    if random(150) == 1 then return g.pick {{600}, {2, 515}, {515, 2}, {1, 3, 345}} end
    local shape, count = {}, 1
    for _ = 1, random(5) - 1 do
      local size = random(30) == 1 and 0 or random(3) == 1 and shape[#shape] or random(5) -- squares, too
      if count * size > 60 then size = 1 end
      count = count * size
      table.insert(shape, size)
    end
    return shape
  end

  -- A new view of x: two dimensions exchanged, or a part of the first.
  local function new_view(x)
    local shape = state.variables[x].shape
    local name, arguments = "transpose", {var(x), 1, random(#shape)}
    if shape[1] > 1 and random(2) == 1 then name, arguments = "narrow", {var(x), 1, 1 + random(shape[1] - 1), 1} end
    return g.emit {name = name, arguments = arguments, number = g.new_number()}
  end

  --- Like any, for what is written to memory of x: half of the time, where there is one, another view of that.
  function g.any_source(x, suits)
    local storage, rank = state.variables[x].storage, #state.variables[x].shape
    if random(2) == 1 then return g.any(suits) end
    if rank > 0 and random(2) == 1 and not state.variables[x].requires_grad then new_view(x) end
    local found = g.any(function(y) return y ~= state.variables[x] and y.storage == storage and suits(y) end)
    return found or g.any(suits)
  end

  local function float_value(dtype, style)
    if style == "quarters" then return (random(33) - 17) / 4 end
    if style == "special" and random(3) == 1 then return g.pick(specials) end
    local unit = (random() + random() + random() + random() - 2) * 1.7
    if style == "wide" then return unit * 2 ^ ((2 * random() - 1) * range[dtype]) end
    return unit
  end

  local function integer_value(dtype, style)
    local value = random(17) - 9
    if style == "wide" then value = (random() - 0.5) * 2 ^ (dtype == "i64" and 53 or dtype == "i32" and 32 or 9) end
    value = math.floor(value)
    return dtype == "u8" and math.max(value, 0) or value
  end

  --- A new tensor with random elements: its variable.
  -- @param options {below = integers from 0 up to below this, simple = zeros and ones, grad = more often with a
  --   gradient}
  function g.leaf(dtype, shape, options)
    options = options or {}
    local style = g.pick {"quarters", "normal", "normal", "normal", "wide", "special"}
    if options.grad and random(4) > 1 then style = "normal" end
    local list = {}
    for i = 1, tensor.count(shape) do
      if options.below then
        list[i] = random(options.below) - 1
      elseif options.simple then
        list[i] = random(2) - 1
      else
        list[i] = range[dtype] and float_value(dtype, style) or integer_value(dtype, style)
      end
    end
    local requires = operation.floats[dtype] and not options.below and random(options.grad and 3 or 6) <= 2 or nil
    local arguments = {list, shape, {dtype = dtype, device = state.device}, requires, count = 4}
    return g.emit {name = "tensor", arguments = arguments, number = g.new_number()}
  end

  return g
end

local function repeats_elements(x)
  for d, size in ipairs(x.shape) do
    if size > 1 and x.stride[d] == 0 then return true end
  end
  return false
end

-- Appends one random statement, or none where the choice doesn't suit.
local function append(g, state, random)
  if random(12) == 1 then
    local name = g.pick(creations)
    local entry = operations[name]
    g.emit {name = name, arguments = entry.make(g), number = g.new_number()}
    return
  end
  local name = g.pick(names)
  local entry = operations[name]
  local x = g.any(function(x)
    if entry.in_place and (programs.is_held(state, x) or repeats_elements(x)) then return false end
    return not entry.takes or entry.takes(x)
  end)
  local arguments = x and entry.make(g, x)
  if not arguments then return end
  local has_grad = false
  for i = 1, arguments.count or #arguments do
    local argument = arguments[i]
    local tensor_argument = type(argument) == "table" and argument.variable and g.tensor(argument.variable)
    has_grad = has_grad or tensor_argument and tensor_argument.requires_grad
  end
  local wrap = entry.in_place and has_grad and "no_grad" or
    not entry.in_place and random(12) == 1 and g.pick {"no_grad", "scope"} or nil
  g.emit {name = name, arguments = arguments, number = not entry.in_place and g.new_number() or nil, wrap = wrap}
end

local function append_backward(g)
  local root = g.any(function(x) return x.node ~= nil end)
  if not root then return end
  local x, grad = g.tensor(root), nil
  if tensor.count(x.shape) ~= 1 or g.random(2) == 1 then
    grad = g.leaf(g.random(3) == 1 and "f32" or x.dtype, x.shape)
    if g.tensor(grad).requires_grad then return end
  end
  g.emit {backward = root, grad = grad}
end

--- Generates and runs a program of about so many statements.
-- @return the statements that ran, and the state they left
-- @raise {failed =, statements =} where fp8 differs
return function(device, seed, length)
  local state, statements = programs.state(device, seed), {}
  local random = support.random(seed)
  local g = generator(state, random, statements)
  local ok, failure = xpcall(function()
    for _ = 1, 2 + random(2) do g.leaf(g.pick(operation.dtypes), g.shape(), {grad = true}) end
    for _ = 1, random(length) do append(g, state, random) end
    append_backward(g)
    for _ = 1, random(length / 2) do append(g, state, random) end
    append_backward(g)
    programs.finish(state)
  end, function(failure)
    return type(failure) == "table" and failure or {failed = debug.traceback(tostring(failure))}
  end)
  if not ok then
    failure.statements, failure.lines = statements, state.lines
    error(failure, 0)
  end
  return statements, state
end
