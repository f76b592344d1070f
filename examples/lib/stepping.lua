--- One step of training, which a GPU replays from a graph.
local fp8 = require "fp8"

local stepping = {}

--- Whether a linear layer is in one of the transformer's blocks, by its name: those take a recipe, while what comes
-- before and after them is small or sensitive.
function stepping.in_blocks(name) return name:find "^blocks%." ~= nil end

--- Normal random weights: matrices with this deviation, those that lead back into the residual stream (`is_last(name)`)
-- smaller by √(2 · layers); as in GPT-2 (Radford et al., 2019).
function stepping.initialize(model, deviation, layers, is_last)
  fp8.no_grad(function()
    for name, parameter in model:named_parameters() do
      if #parameter.shape >= 2 then
        local values = fp8.randn(parameter.shape, {device = parameter.device})
        parameter:copy_(values * (is_last and is_last(name) and deviation / math.sqrt(2 * layers) or deviation))
      elseif name:find "bias$" then
        parameter:zero_()
      end
    end
  end)
end

--- The optimizer of the options, with weight decay on matrices only.
-- @param settings {optimizer = "adamw" or "stable_adamw", lr =, weight_decay =}
function stepping.optimizer(model, settings)
  local matrices, others = {}, {}
  for _, parameter in ipairs(model:parameters()) do
    table.insert(#parameter.shape >= 2 and matrices or others, parameter)
  end
  local class = settings.optimizer == "adamw" and fp8.optim.AdamW or fp8.optim.StableAdamW
  return class({{parameters = matrices, weight_decay = settings.weight_decay}, {parameters = others, weight_decay = 0}},
    {lr = settings.lr, beta2 = settings.beta2 or 0.99, master_weights = true})
end

--- Two functions that take one step and return its loss: the first as fast as it goes, where the next step may write
-- over the loss, and one that leaves everything where it can be looked at.
-- @param run      {model =, recipe = or nil, loss = function() that returns the loss of what is in fixed tensors}
-- @param settings {device =, clip = largest norm of the gradient, 0 for any, eager = true for no graph on a GPU}
function stepping.make(run, optimizer, settings)
  local parameters = run.model:parameters()
  local function step()
    optimizer:zero_grad()
    local loss = run.loss()
    loss:backward()
    if settings.clip > 0 then fp8.optim.clip_grad_norm(parameters, settings.clip) end
    optimizer:step()
    return loss:detach()
  end
  local function eager() return fp8.scope(step) end
  -- Stochastic rounding draws random numbers, which a graph would repeat.
  if settings.device == "cpu" or settings.eager or (run.recipe and run.recipe.rounding == "stochastic") then
    return eager, step
  end
  local graph, first
  return function()
    if graph then return (graph()) end
    graph = fp8.cuda.graph(function()
      local loss = step()
      first = first or loss -- of the usual run, before the capture
      return loss
    end, settings.device)
    return first
  end, step
end

return stepping
