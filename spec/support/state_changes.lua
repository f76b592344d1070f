--- What changes a state: the actions that are interrupted by hook_spec and by failing allocations.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local state_changes = {}

--- What a value is, down to the bits. (A pointer to the elements would change what layers keep.)
function state_changes.text_of(value, seen)
  if core.is_tensor(value) then
    local grad, elements = value.requires_grad and value.is_leaf and value.grad, support.flat(value:detach():to "cpu")
    for i, element in ipairs(elements) do
      elements[i] = type(element) == "number" and ("%.17g"):format(element) or tostring(element)
    end
    return ("%s %s %s %s"):format(value.dtype, table.concat(value.shape, "x"), table.concat(elements, " "),
      grad and state_changes.text_of(grad) or "-")
  elseif type(value) == "table" then
    seen = seen or {}
    if seen[value] then return "again" end
    seen[value] = true
    local lines = {}
    for key, part in pairs(value) do
      if type(part) ~= "function" then lines[#lines + 1] = tostring(key) .. "=" .. state_changes.text_of(part, seen) end
    end
    table.sort(lines)
    return "{" .. table.concat(lines, ",") .. "}"
  elseif type(value) == "number" then
    return ("%.17g"):format(value)
  end
  return type(value) == "string" and value or type(value) == "nil" and "nil" or type(value) == "boolean" and
    tostring(value) or type(value)
end

--- The actions on a device, by name: functions that return one that is called, one that gives what it changes, and what
-- that refers to. "steps" as a fourth value says that the call changes several things one after the other, and what is
-- there in the end is the same.
-- @param directory an empty one
function state_changes.actions(device, directory)
  local on = {device = device}

  local function model_and_input(options)
    fp8.manual_seed(3)
    options = options or {}
    options.device = device
    local model = fp8.nn.Sequential(fp8.LinearMixed(6, 4, options), fp8.nn.ReLU(), fp8.Linear(4, 3, options))
    return model, fp8.randn(5, 6, on):to(options.dtype or "f32")
  end

  local function set_gradients(model)
    for i, parameter in ipairs(model:parameters()) do
      parameter.grad = fp8.full(parameter.shape, i / 8, on):to(parameter.dtype)
    end
  end

  local actions = {}

  function actions.no_grad()
    local x = fp8.ones(2, {device = device, requires_grad = true})
    return function() fp8.no_grad(function() return x * 2 + 1 end) end, function() return {} end
  end

  function actions.scope()
    local w = fp8.ones(2, {device = device, requires_grad = true})
    local held = {w = w}
    return function()
      held.y = fp8.scope(function()
        local y = w * fp8.full({2}, 3, on)
        fp8.no_grad(function() return y + y end)
        return y:detach()
      end)
    end, function() return held end, held
  end

  actions["scope with a backward pass"] = function()
    local model, x = model_and_input()
    return function() fp8.scope(function() model(x):sum():backward() end) end,
      function() return model:state_dict(), model:parameters() end
  end

  actions["backward, of several parameters"] = function()
    local model, x = model_and_input()
    set_gradients(model)
    model[1].bias.grad = nil
    return function() model(x):sum():backward() end, function() return model:parameters() end
  end

  actions["recompute"] = function()
    local model, x = model_and_input()
    set_gradients(model)
    local function f(input) return fp8.dropout(model(input), 0.5) end
    return function()
      fp8.manual_seed(8)
      fp8.recompute(f, x):sum():backward()
    end, function() return model:parameters() end
  end

  actions["Function"] = function()
    local w = fp8.ones(3, {device = device, requires_grad = true})
    local square = fp8.Function {
      forward = function(ctx, x) ctx:save(x) return x * x end,
      backward = function(ctx, grad) return grad * 2 * ctx:saved() end,
    }
    return function() square(w):sum():backward() end, function() return {w} end
  end

  local optimizers = {
    SGD = function(groups) return fp8.optim.SGD(groups, {lr = 0.1, momentum = 0.9}) end,
    AdamW = function(groups) return fp8.optim.AdamW(groups, {lr = 0.1, master_weights = true}) end,
    StableAdamW = function(groups) return fp8.optim.StableAdamW(groups, {lr = 0.1}) end,
    Muon = function(groups)
      groups[2].use_muon = false
      return fp8.optim.Muon(groups, {lr = 0.1})
    end,
    ["AdamW in 8 bits"] = function(groups)
      return fp8.optim.AdamW(groups, {lr = 0.1, state = {format = fp8.create_dynamic_map(), smallest = 0}})
    end,
  }
  local function optimizer_of(name, model)
    return optimizers[name] {
      {parameters = {model[1].weight, model[3].weight}}, {parameters = {model[1].bias, model[3].bias}, lr = 0.2},
    }
  end
  local function optimizer_state(optimizer)
    local settings = {}
    for key in pairs(optimizer.defaults) do settings[key] = {optimizer[key], optimizer.groups[2][key] or "none"} end
    return {optimizer.state, optimizer.parameters, settings}
  end

  for name in pairs(optimizers) do
    actions[name .. ":step"] = function()
      local model = model_and_input {dtype = name == "AdamW" and "bf16" or nil}
      local optimizer = optimizer_of(name, model)
      set_gradients(model)
      return function() optimizer:step() end, function() return optimizer_state(optimizer) end
    end

    actions[name .. ":load_state_dict"] = function()
      local model = model_and_input()
      local optimizer, other = optimizer_of(name, model), optimizer_of(name, model)
      set_gradients(model)
      other.lr, other.groups[2].lr, other.groups[1].weight_decay = 7, nil, 0.5
      other:step()
      local state = other:state_dict()
      return function() optimizer:load_state_dict(state) end, function() return optimizer_state(optimizer) end
    end
  end

  actions["module:load_state_dict"] = function()
    local model, other = model_and_input(), model_and_input()
    local state = other:state_dict()
    for key, tensor in pairs(state) do state[key] = tensor:to "bf16" * 3 end
    return function() model:load_state_dict(state) end, function() return model:state_dict() end
  end

  actions["module:to"] = function()
    local model = model_and_input()
    return function() model:to "bf16" end, function() return model:state_dict() end, model
  end

  actions["module:eval"] = function()
    local model = model_and_input()
    return function() model:eval() end, function() return {model.training, model[1].training, model[3].training} end
  end

  actions["module:zero_grad"] = function()
    local model = model_and_input()
    set_gradients(model)
    return function() model:zero_grad() end, function() return model:parameters() end
  end

  actions["optimizer:zero_grad"] = function()
    local model = model_and_input()
    local optimizer = fp8.optim.SGD(model)
    set_gradients(model)
    return function() optimizer:zero_grad() end, function() return model:parameters() end
  end

  actions["clip_grad_norm"] = function()
    local model = model_and_input()
    set_gradients(model)
    return function() fp8.optim.clip_grad_norm(model, 0.25) end, function() return model:parameters() end
  end

  local delayed = {
    input = {format = "e4m3", scale = "tensor", history = 3}, weight = {format = "e4m3", scale = "tensor", history = 2},
    grad_output = {format = "e5m2", scale = "tensor", history = 2},
  }

  local function plan_text(model)
    return {tostring(model), model:state_dict(), model[1].recipe or "none", tostring(model[3].plan ~= nil)}
  end

  actions["convert"] = function()
    local model = model_and_input()
    return function() fp8.convert(model, delayed) end, function() return plan_text(model) end, model
  end

  actions["convert back"] = function()
    local model = fp8.convert(model_and_input(), delayed)
    return function() fp8.convert(model, false) end, function() return plan_text(model) end
  end

  actions["convert anew"] = function()
    local model, x = fp8.convert(model_and_input(), delayed), fp8.randn(5, 6, on)
    model(x):sum():backward()
    return function() fp8.convert(model, delayed) end, function() return plan_text(model) end, model
  end

  actions["convert by name, at a step"] = function()
    local model = model_and_input()
    local recipes = {default = delayed, ["3"] = "mx", until_step = 3}
    fp8.convert(model, recipes, 3)
    return function() fp8.convert(model, recipes, 4) end,
      function() return {plan_text(model), rawget(model, "given_recipes")} end, model
  end

  local function network()
    fp8.manual_seed(4)
    return fp8.nn.Sequential(fp8.nn.Embedding(5, 8, on), fp8.nn.TransformerBlock(8, 2, on), fp8.Linear(8, 5, on))
  end

  actions["convert a whole network"] = function()
    local net = network()
    local rows = {format = "e4m3", scale = "row"}
    fp8.convert(net, {default = false, ["2.attention"] = {v = rows}})
    local recipes = {
      default = fp8.recipe("mx", {keep = rows}), ["1"] = {rows = rows},
      ["2.attention"] = {q = rows, probabilities = rows}, optimizer_state = {format = "e4m3", smallest = 0},
    }
    return function() fp8.convert(net, recipes) end,
      function() return {tostring(net), net:state_dict(), rawget(net, "given_recipes")} end, net
  end

  actions["a step of a whole network with recipes"] = function()
    local net = network()
    local rows, tokens = {format = "e4m3", scale = "row"}, fp8.randint(0, 5, {2, 3}, {dtype = "i64", device = device})
    fp8.convert(net, {
      default = fp8.recipe("mixed", {keep = rows}), ["1"] = {rows = rows},
      ["2.attention"] = {q = rows, k = rows, v = rows, probabilities = rows},
      optimizer_state = {format = "int8", smallest = 0},
    })
    local optimizer = fp8.optim.AdamW(net)
    return function()
      net:zero_grad()
      net(tokens):sum():backward()
    end, function() return {net:state_dict(), optimizer:state_dict(), tostring(net)} end, net, "steps"
  end

  actions["sensitivity"] = function()
    local model = fp8.convert(model_and_input(), delayed)
    local input = fp8.randn(5, 6, on)
    local whole = fp8.nn.Sequential(model, fp8.nn.BatchNorm1d(3, on))
    whole(input):square():sum():backward()
    return function()
      fp8.sensitivity(whole, function() return whole(input):square():sum() end, {default = "mx", ["1.1"] = false})
    end, function()
      return {plan_text(model), whole:state_dict(), whole:parameters(), rawget(whole, "forward") or "none",
        model[1].state.recorded, {fp8.random_state()}}
    end, whole
  end

  actions["layers with histories"] = function()
    local model, x = model_and_input(), fp8.randn(5, 6, on)
    fp8.convert(model, delayed)
    return function()
      fp8.manual_seed(8)
      model:zero_grad()
      model(x):sum():backward()
    end, function() return {model:state_dict(), model:parameters()} end, model, "steps"
  end

  actions["layers whose weights are kept quantized"] = function()
    fp8.manual_seed(5)
    local model = fp8.nn.Sequential(fp8.LinearMixed(6, 4, on), fp8.LinearGlobal(4, 4, {device = device, native = true}))
    local x, held = fp8.ones(5, 6, on), {}
    model(x)
    for _, parameter in ipairs(model:parameters()) do fp8.no_grad(function() parameter:mul_(2) end) end
    return function()
      held.value = nil
      held.value = model(x:clone():requires_grad_()):detach()
    end, function() return held end, held, "steps"
  end

  local function watcher_state(watcher, model)
    return {watcher.steps, watcher.recording, watcher.closed or false, #watcher.held, #watcher.chunks,
      model[1].state.observer ~= nil, model[3].state.observer ~= nil, watcher.current or "none",
      watcher.history or "none"}
  end

  actions["watch"] = function()
    local model = model_and_input()
    local held = {}
    return function()
      if held.watcher then held.watcher:close() end
      held.watcher = nil
      held.watcher = fp8.watch(model, {every = 1})
    end, function() return {model[1].state.observer ~= nil, model[3].state.observer ~= nil} end, held, "steps"
  end

  actions["watcher:step"] = function()
    local model, x = model_and_input()
    local watcher = fp8.watch(model, {every = 2})
    model(x):sum():backward()
    watcher:step()
    model(x):sum():backward()
    return function() watcher:step() end, function() return watcher_state(watcher, model) end
  end

  actions["watcher:close"] = function()
    local model, x = model_and_input()
    local watcher = fp8.watch(model, {every = 1})
    model(x):sum():backward()
    watcher:step()
    return function()
      watcher:close()
      return watcher:rows()
    end, function()
      local state = watcher_state(watcher, model)
      state[4], state[5] = 0, 0 -- what has been brought to the CPU is what is held, elsewhere
      return state
    end
  end

  actions["watch.find"] = function()
    local model, x = model_and_input()
    return function()
      fp8.watch.find(model, function() return model(x) end)
    end, function() return {require("fp8.nn.calls").observer} end
  end

  actions["tostring"] = function()
    local model = model_and_input()
    local held = {}
    return function()
      held.text = nil
      held.text = tostring(model)
    end, function() return held end, held, "steps"
  end

  actions["what is set"] = function()
    return function()
      local x = fp8.zeros(2, 2, on)
      x[1] = 5
      x.requires_grad = true
      x.grad = fp8.ones(2, 2, on)
      x.requires_grad = false
    end, function() return {} end
  end

  local function without_files(f)
    return function()
      f()
      local pipe = io.popen("ls -A " .. directory)
      local names = pipe:read "*a"
      pipe:close()
      return names
    end
  end

  actions["save"] = function()
    local path = directory .. "/x"
    fp8.save(path, {x = fp8.zeros(3, on)}, {note = "before"})
    return function() fp8.save(path, {x = fp8.ones(5, on)}, {note = "after"}) end, function()
      local tensors, metadata = fp8.load(path)
      return {tensors, metadata, without_files(function() end)()}
    end
  end

  actions["checkpoint.load"] = function()
    local path = directory .. "/checkpoint"
    local model, x = model_and_input()
    local optimizer = optimizer_of("AdamW", model)
    fp8.checkpoint.save(path, {model = model, optimizer = optimizer, step = 3})
    fp8.manual_seed(99)
    model(x):sum():backward()
    optimizer:step()
    return function() fp8.checkpoint.load(path, {model = model, optimizer = optimizer}) end,
      function() return {model:state_dict(), optimizer_state(optimizer), {fp8.random_state()}} end
  end

  return actions
end

--- The state before the call, after it, and after another one.
function state_changes.expected(make)
  local call, observe = make()
  local states = {[state_changes.text_of(observe())] = "before"}
  call()
  local after = state_changes.text_of(observe())
  call()
  return states, after, state_changes.text_of(observe())
end

--- An error if operations are not recorded on this device.
function state_changes.check_recording(device)
  local x = fp8.ones(1, {device = device, requires_grad = true})
  assert((x * 2).requires_grad, "recording is off")
end

return state_changes
