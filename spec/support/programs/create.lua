--- New tensors, conversions, and writing into tensors.
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local new, map, var = operation.new, operation.map, operation.var

local operations = {}

local function constant(value, dtype, shape)
  local list = {}
  for i = 1, tensor.count(shape) do list[i] = value ~= nil and tensor.cast(value, dtype) end
  return new(dtype, shape, list)
end

-- The dtype of a creation's options, f32 where there is none.
local function dtype_of(options) return options.dtype or "f32" end

local function random_options(g, dtypes)
  return {device = g.device, dtype = g.random(4) > 1 and g.pick(dtypes or operation.dtypes) or nil}
end

--- A literal: numbers in row-major order, which become a shape. With `grad` it requires a gradient.
operations.tensor = {
  creates = true,
  text = function(list, shape, options, grad)
    return ("fp8.tensor(%s, %s):view(%s)%s"):format(list, options, shape, grad == "true" and ":requires_grad_()" or "")
  end,
  compute = function(list, shape, options, grad)
    local x = new(options.dtype, shape, map(function(value) return tensor.cast(value, options.dtype) end, list))
    x.requires_grad = grad or nil
    return x
  end,
}

local function filled(value, like)
  return {
    creates = not like or nil, differentiable = false,
    text = "function",
    make = function(g, x)
      if like then
        return {var(x), g.random(2) == 1 and {dtype = g.pick(operation.dtypes)} or nil}
      end
      return {g.shape(), random_options(g)}
    end,
    compute = function(first, options)
      options = options or {}
      if like then return constant(value, options.dtype or first.dtype, first.shape) end
      return constant(value, dtype_of(options), first)
    end,
  }
end

operations.zeros, operations.ones, operations.empty = filled(0), filled(1), filled(nil)
operations.zeros_like, operations.ones_like = filled(0, true), filled(1, true)
operations.empty_like = filled(nil, true)

operations.full = {
  creates = true, text = "function",
  make = function(g) return {g.shape(), g.number(), random_options(g)} end,
  compute = function(shape, value, options) return constant(value, dtype_of(options), shape) end,
}

operations.full_like = {
  text = "function", differentiable = false,
  make = function(g, x) return {var(x), g.number(), g.random(2) == 1 and {dtype = g.pick(operation.dtypes)} or nil} end,
  compute = function(x, value, options) return constant(value, options and options.dtype or x.dtype, x.shape) end,
}

operations.eye = {
  creates = true, text = "function",
  make = function(g)
    local options = random_options(g)
    if g.random(2) == 1 then return {g.random(5) - 1, options} end
    return {g.random(5) - 1, g.random(5) - 1, options}
  end,
  compute = function(rows, columns, options)
    if not options then columns, options = rows, columns end
    local x = constant(0, dtype_of(options), {rows, columns})
    for i = 1, math.min(rows, columns) do x.storage[(i - 1) * columns + i] = tensor.cast(1, x.dtype) end
    return x
  end,
}

operations.linspace = {
  creates = true, text = "function",
  make = function(g)
    return {g.number(), g.number(), g.random(8) - 1, random_options(g, operation.float_names)}
  end,
  compute = function(start, stop, steps, options)
    local dtype, step, list = dtype_of(options), steps > 1 and (stop - start) / (steps - 1) or 0, {}
    for i = 1, steps do list[i] = tensor.cast(start + (i - 1) * step, dtype) end
    return new(dtype, {steps}, list, true)
  end,
}

operations.arange = {
  creates = true, text = "function",
  make = function(g)
    local start, step = g.pick {0, 1, -3, 0.5, 2.25, 100}, g.pick {1, 2, -1, 0.5, -0.25, 3}
    return {start, start + step * (g.random(6) - 1.5), step, random_options(g)}
  end,
  compute = function(start, stop, step, options)
    local list, dtype = {}, dtype_of(options)
    local i = 0
    while step > 0 and start + i * step < stop or step < 0 and start + i * step > stop do
      list[i + 1] = tensor.cast(start + i * step, dtype)
      i = i + 1
    end
    return new(dtype, {#list}, list)
  end,
}

-- Random numbers: any within a range, in steps.
local function random_tensor(check)
  return function(shape, dtype)
    local list = {}
    for i = 1, tensor.count(shape) do list[i] = check end
    return new(dtype, shape, list)
  end
end

local uniform = random_tensor(function(value) return value >= 0 and value < 1 and value * 2 ^ 24 % 1 == 0 end)
local normal = random_tensor(function(value) return math.abs(value) < 7 end)

operations.rand = {
  creates = true, text = "function",
  make = function(g) return {g.shape(), random_options(g, operation.float_names)} end,
  compute = function(shape, options) return uniform(shape, dtype_of(options)) end,
}
operations.randn = {
  creates = true, text = "function",
  make = function(g) return {g.shape(), random_options(g, operation.float_names)} end,
  compute = function(shape, options) return normal(shape, dtype_of(options)) end,
}
for name, numbers in pairs {rand_like = uniform, randn_like = normal} do
  operations[name] = {
    text = "function", differentiable = false, takes = operation.is_computable,
    make = function(_, x) return {var(x)} end,
    compute = function(x) return numbers(x.shape, x.dtype) end,
  }
end
operations.randint = {
  creates = true, text = "function",
  make = function(g)
    local low = g.random(5) - 1
    return {low, low + g.random(6), g.shape(), random_options(g, {"i64", "i32", "u8", "f32", "bf16"})}
  end,
  compute = function(low, high, shape, options)
    local function check(value) return value >= low and value < high and value % 1 == 0 end
    return random_tensor(check)(shape, options.dtype or "i64")
  end,
}

--- --- conversions ---

-- A gradient passes as it is: the tape converts it.
local function passes(_, dy) return {dy} end

local function converted(x, dtype, saturate)
  if dtype == x.dtype then return x end
  return new(dtype, x.shape, map(function(value) return tensor.cast(value, dtype, saturate) end, tensor.list(x)))
end

operations.to = {
  gradient = passes,
  make = function(g, x)
    local dtype = g.pick(operation.dtypes)
    if g.random(3) > 1 then return {var(x), dtype} end
    return {var(x), {dtype = dtype, saturate = g.random(2) == 1}}
  end,
  compute = function(x, to)
    if type(to) == "string" then return converted(x, to) end
    return converted(x, to.dtype, to.saturate)
  end,
}

for name, dtype in pairs {float = "f32", half = "f16", bfloat16 = "bf16"} do
  operations[name] = {
    gradient = passes,
    make = function(_, x) return {var(x)} end,
    compute = function(x) return converted(x, dtype) end,
  }
end

--- --- writing ---

local function assign(x, source)
  if type(source) == "number" then
    tensor.write(x, constant(source, x.dtype, x.shape).storage)
  else
    local list = tensor.list(tensor.expand(source, x.shape))
    -- An infinity of e5m2 stays one where nothing is converted.
    local converts = source.dtype ~= x.dtype
    tensor.write(x, map(function(value) return converts and tensor.cast(value, x.dtype) or value end, list))
  end
  return x
end

local function source_for(g, x, shape)
  local other = g.any_source(x, function(y) return operation.broadcasts_to(y.shape, shape) end)
  if other and g.random(3) > 1 then return var(other) end
  local first = g.random(#shape + 1)
  return var(g.leaf(g.pick(operation.dtypes), {unpack(shape, first)}))
end

operations.copy_ = {
  in_place = true,
  make = function(g, x) return {var(x), source_for(g, x, g.tensor(x).shape)} end,
  compute = assign,
}

operations.fill_ = {
  in_place = true,
  make = function(g, x) return {var(x), g.number()} end,
  compute = assign,
}

operations.zero_ = {
  in_place = true,
  make = function(_, x) return {var(x)} end,
  compute = function(x) return assign(x, 0) end,
}

operations.__newindex = {
  in_place = true, statement = true,
  takes = function(x) return #x.shape > 0 and x.shape[1] > 0 end,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local position = operation.dimension(g, shape[1])
    return {var(x), position, g.random(2) == 1 and g.number() or source_for(g, x, {unpack(shape, 2)})}
  end,
  text = function(x, position, value) return ("%s[%s] = %s"):format(x, position, value) end,
  compute = function(x, position, value)
    position = operation.from_first(position, x.shape[1])
    local row = tensor.view(x, {unpack(x.shape, 2)}, {unpack(x.stride, 2)}, x.offset + (position - 1) * x.stride[1])
    assign(row, value)
    return x
  end,
}

return operations
