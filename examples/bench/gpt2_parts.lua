--- Where a step of gpt2.lua spends its time: every kind of part timed by itself, forward and backward, on tensors of
-- the shapes that it has there, and multiplied by how often it occurs. On a GPU each is replayed from a graph, so that
-- the host's time does not count; what remains of the step is what has no part here, and what overlaps or waits.
local fp8 = require "fp8"
local measure = require "measure"

-- A function that runs forward(inputs) and its backward, having dropped the gradients of the inputs and of `owner`.
local function both_ways(inputs, owner, forward)
  local output = forward(unpack(inputs))
  local grad = output:dim() > 0 and fp8.randn(output.shape, {device = output.device}):to(output.dtype) or nil
  return function()
    for _, input in ipairs(inputs) do input.grad = nil end
    if owner then owner:zero_grad() end
    forward(unpack(inputs)):backward(grad)
  end
end

-- Parts of a step: name, how often, and a function that makes what is timed.
local function list_parts(parts, settings)
  local rows, width, layers = settings.batch * settings.context, settings.width, settings.layers
  local on = {dtype = parts.dtype, device = settings.device}

  local function random(...)
    return fp8.randn(..., on):requires_grad_()
  end

  local function linear(inputs, outputs, recipe, bias)
    return function()
      local layer = fp8.Linear(inputs, outputs,
        {dtype = parts.dtype, device = settings.device, recipe = recipe, bias = bias})
      return both_ways({random {rows, inputs}}, layer, function(x) return layer(x) end)
    end
  end

  local function last_layer(recipe)
    return function()
      local layer = fp8.Linear(width, settings.vocabulary,
        {dtype = parts.dtype, device = settings.device, recipe = recipe, bias = false})
      local targets = fp8.randint(0, settings.vocabulary, {rows}, {dtype = "i64", device = settings.device})
      return both_ways({random {rows, width}}, layer,
        function(x) return layer:cross_entropy(x, targets, {rows = settings.rows}) end)
    end
  end

  local function linears(recipe)
    return {
      {"linear: query, key, value", layers, linear(width, 3 * width, recipe)},
      {"linear: output of attention", layers, linear(width, width, recipe)},
      {"linear: MLP, up", layers, linear(width, 4 * width, recipe)},
      {"linear: MLP, down", layers, linear(4 * width, width, recipe)},
      {"linear: last layer, with cross-entropy", 1, last_layer(settings.convert == "all" and recipe or nil)},
    }
  end

  local list = linears(parts.recipe)
  for _, part in ipairs {
    {"attention", layers, function()
      local shape = {settings.batch, settings.heads, settings.context, width / settings.heads}
      return both_ways({random(shape), random(shape), random(shape)}, nil,
        function(q, k, v) return fp8.attention(q, k, v, {causal = true}) end)
    end},
    {"layer norm", 2 * layers + 1, function()
      local norm = fp8.nn.LayerNorm(width, on)
      return both_ways({random {rows, width}}, norm, function(x) return norm(x) end)
    end},
    {"GELU", layers, function()
      return both_ways({random {rows, 4 * width}}, nil, function(x) return fp8.gelu(x, "tanh") end)
    end},
    {"residual sum, and of its gradients", 2 * layers, function()
      local x, y = fp8.randn({rows, width}, on), fp8.randn({rows, width}, on)
      return function()
        local sum = x + y
        return sum + y
      end
    end},
    {"embedding", 1, function()
      local embedding = fp8.nn.Embedding(settings.vocabulary, width, on)
      local tokens = fp8.randint(0, settings.vocabulary, {settings.batch, settings.context},
        {dtype = "i64", device = settings.device})
      return both_ways({}, embedding, function() return embedding(tokens) end)
    end},
    {"clipping and optimizer", 1, function()
      local parameters = parts.model:parameters()
      for _, parameter in ipairs(parameters) do parameter.grad = fp8.randn_like(parameter) end
      return function()
        if settings.clip > 0 then fp8.optim.clip_grad_norm(parameters, settings.clip) end
        parts.optimizer:step()
      end
    end},
  } do
    list[#list + 1] = part
  end
  return list, parts.recipe and linears(nil) or {}
end

-- Milliseconds of one call.
local function time_part(make, settings)
  local step = make()
  if settings.device ~= "cpu" and not settings.eager then step = fp8.cuda.graph(step, settings.device) end
  local time = measure.time(step, {device = settings.device, samples = 20, seconds = 1}) * 1e-3
  collectgarbage()
  return time
end

local function print_part(name, count, time, step_time)
  print(("    %-38s %3d × %8.3f ms = %8.3f ms  %4.1f%%"):format(name, count, time, count * time,
    100 * count * time / step_time))
end

--- Prints the parts of a step, and what its forward pass keeps for the backward pass.
-- @param parts    {dtype =, recipe = or nil, model =, optimizer =, loss = a function}
-- @param settings the options of gpt2.lua
-- @param seconds  of a whole step
return function(parts, settings, seconds)
  local list, plain = list_parts(parts, settings)
  local step_time, sum, linear, linear_plain = seconds * 1e3, 0, 0, 0
  for _, part in ipairs(list) do
    local name, count, make = unpack(part)
    local time = time_part(make, settings)
    sum = sum + count * time
    if name:find "^linear" then linear = linear + count * time end
    print_part(name, count, time, step_time)
  end
  print_part("the rest", 1, step_time - sum, step_time)
  for _, part in ipairs(plain) do linear_plain = linear_plain + part[2] * time_part(part[3], settings) end
  if #plain > 0 then
    print(("    linear layers without the recipe %.3f ms, with it %.3f ms"):format(linear_plain, linear))
  end
  print("    kept for the backward pass:\n    " .. tostring(fp8.memory_report(parts.loss)):gsub("\n", "\n    "))
end
