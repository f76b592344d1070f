--- One step of training, which a GPU replays from a graph.
local fp8 = require "fp8"

local stepping = {}

-- Whether a linear layer is in one of the transformer's blocks, by its name.
local function in_blocks(name) return name:find "^blocks%." ~= nil end

--- Whether this is not one recipe but recipes by name, as fp8.convert takes them.
function stepping.is_by_name(recipe) return type(recipe) == "table" and recipe.default ~= nil end

--- Which layers take a recipe, as fp8.convert and fp8.sensitivity take it: nil for all.
function stepping.filter(recipe, settings)
  return settings.convert == "blocks" and not stepping.is_by_name(recipe) and in_blocks or nil
end

--- Gives a recipe, or none, to the linear layers of a transformer: with settings.convert = "blocks" to those in its
-- blocks only, since what comes before and after them is small or sensitive. Recipes by name say themselves which.
-- @param step that comes next, or nil before the first one
-- @return the number of layers that have another recipe now
function stepping.convert(model, recipe, settings, step)
  if not recipe or step and not stepping.is_by_name(recipe) then return 0 end
  local which = step or 1
  if not stepping.is_by_name(recipe) then which = stepping.filter(recipe, settings) end
  return select(2, fp8.convert(model, recipe, which))
end

-- Whether a linear layer's output is added to what goes past its block.
local function ends_branch(name) return name:find "out_proj%.weight$" or name:find "fc2%.weight$" end

--- Normal random weights: matrices with this deviation, those at the end of a branch smaller by √(2 · layers), and
-- biases of 0, as in GPT-2 (Radford et al., 2019).
function stepping.initialize(model, deviation, layers)
  fp8.no_grad(function()
    for name, parameter in model:named_parameters() do
      if #parameter.shape >= 2 then
        local values = fp8.randn(parameter.shape, {device = parameter.device})
        parameter:copy_(values * (ends_branch(name) and deviation / math.sqrt(2 * layers) or deviation))
      elseif name:find "bias$" then
        parameter:zero_()
      end
    end
  end)
end

-- What an optimizer's option `state` is for the option --state.
local function state_of(name)
  if name == "f32" then return "f32" end
  return {format = name == "8bit" and fp8.create_dynamic_map() or name}
end

--- Names of what optimizers may keep moments in, of the option --state, and the same as a text.
stepping.state_names = {"f32", "8bit"}
for name in pairs(fp8.formats) do table.insert(stepping.state_names, name) end
stepping.state_text = "f32, 8bit or the name of a format"

--- The optimizer of the options, with weight decay on matrices only. 16-bit parameters have masters unless they are
-- rounded stochastically.
-- @param settings {optimizer = "adamw" or "stable_adamw", lr =, beta2 =, weight_decay =, state = one of state_names or
--   nil for what the model's recipes say, shard = true or "codes" for states shared out among ranks, rounding =
--   "nearest", "stochastic" or nil for nearest}
function stepping.optimizer(model, settings)
  local matrices, others = {}, {}
  for _, parameter in ipairs(model:parameters()) do
    table.insert(#parameter.shape >= 2 and matrices or others, parameter)
  end
  local class = settings.optimizer == "adamw" and fp8.optim.AdamW or fp8.optim.StableAdamW
  return class({{parameters = matrices, weight_decay = settings.weight_decay}, {parameters = others, weight_decay = 0}},
    {lr = settings.lr, beta2 = settings.beta2, state = settings.state and state_of(settings.state) or model,
      shard = settings.shard, rounding = settings.rounding, master_weights = settings.rounding ~= "stochastic"})
end

--- A step, a function that returns a loss, as a cheaper one: on the CPU what it made is freed at once; on a GPU it runs
-- as usual at the first call, is captured then, and is replayed at the later ones.
function stepping.repeated(step, device)
  if device == "cpu" then
    return function() return fp8.scope(step) end
  end
  local graph, first
  return function()
    if graph then return (graph()) end
    graph = fp8.cuda.graph(function()
      local loss = step()
      first = first or loss -- of the usual run, before the capture
      return loss
    end, device)
    return first
  end
end

-- Whether a recipe, or a part of one, rounds stochastically.
local function rounds_at_random(recipe)
  if type(recipe) ~= "table" then return false end
  if recipe.rounding == "stochastic" then return true end
  for _, part in pairs(recipe) do
    if rounds_at_random(part) then return true end
  end
  return false
end

-- Whether a layer does.
local function is_random(model)
  for _, module in model:named_modules() do
    if rounds_at_random(module.recipe) then return true end
  end
  return false
end

--- The functions of a training step.
-- @param run      {model =, watcher = of fp8.watch or nil, loss = function() that returns the loss of what is in fixed
--   tensors, computed = function() that is called after the backward pass, or nil}
-- @param settings {device =, clip = largest norm of the gradient, 0 for any, eager = true for no graph on a GPU}
-- @return step(), which takes one and returns its loss, a tensor that the next step may write over; its two halves,
--   compute(), which returns the loss and leaves everything where it can be looked at, and update()
function stepping.make(run, optimizer, settings)
  local parameters = run.model:parameters()
  local function compute()
    optimizer:zero_grad()
    local loss = run.loss()
    loss:backward()
    if run.computed then run.computed() end
    return loss:detach()
  end
  local function update()
    if settings.clip > 0 then fp8.optim.clip_grad_norm(parameters, settings.clip) end
    optimizer:step()
  end
  local function both()
    local loss = compute()
    update()
    return loss
  end
  local step
  -- Stochastic rounding draws random numbers, which a graph would repeat.
  local on_cpu = settings.device == "cpu" or settings.eager or is_random(run.model)
  if run.watcher and not on_cpu then
    step = run.watcher:graph(both, settings.device)
  else
    step = stepping.repeated(both, on_cpu and "cpu" or settings.device)
  end
  return step, compute, update
end

return stepping
