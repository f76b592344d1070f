-- Steps that are replayed from a graph: the same bits as eager ones, with random numbers and moments in 8 bits too.
local fp8 = require "fp8"
local support = require "spec.support"

if not fp8.cuda.is_available() then
  pending "Graphs need a CUDA device"
  return
end

local on = {device = "cuda"}
local dynamic = {format = fp8.create_dynamic_map(), smallest = 300}

local kinds = {
  {"AdamW", {lr = 0.01, rounding = "stochastic"}},
  {"AdamW", {lr = 0.01, rounding = "stochastic", state = dynamic}},
  {"AdamW", {lr = 0.01, master_weights = true, state = {format = "e4m3", smallest = 0}}},
  {"StableAdamW", {lr = 0.01, rounding = "stochastic", state = dynamic}},
  {"Adam", {lr = 0.01, weight_decay = 0.1, rounding = "stochastic", state = dynamic}},
  {"Adam", {lr = 0.01, weight_decay = 0.1, master_weights = true}},
  {"Lion", {lr = 0.01, weight_decay = 0.1, rounding = "stochastic", state = dynamic}},
  {"Lion", {lr = 0.01, weight_decay = 0.1, master_weights = true, state = {format = "e4m3", smallest = 0}}},
  {"SGD", {lr = 0.01, momentum = 0.9, rounding = "stochastic", state = dynamic}},
}

--- Parameters with gradients that stay, the same in every call, of two groups.
local function groups()
  fp8.manual_seed(2)
  local list = {}
  for i, count in ipairs {3000, 100, 20001, 5} do
    list[i] = fp8.randn(count, on):to(i == 2 and "f32" or "bf16"):requires_grad_()
    list[i].grad = fp8.randn(count, on):to(list[i].dtype)
  end
  return list, {{parameters = {list[1], list[2]}}, {parameters = {list[3], list[4]}, weight_decay = 0}}
end

local function bytes(list, optimizer)
  local texts = {}
  for i, x in ipairs(list) do texts[i] = support.bytes(x) end
  for name, tensor in pairs(optimizer:state_dict()) do texts[name] = support.bytes(tensor) end
  return texts
end

describe("Replayed steps", function()
  for i, kind in ipairs(kinds) do
    it(("are eager ones: %s %d"):format(kind[1], i), function()
      local name, settings = unpack(kind)
      local function run(steps, make_step)
        local list, parts = groups()
        local optimizer = fp8.optim[name](parts, settings)
        fp8.manual_seed(7)
        local step = make_step(optimizer)
        for k = 2, steps do
          optimizer.lr = 0.01 * k
          if k == 4 and settings.rounding then optimizer.rounding = "nearest" end
          if k == 5 and settings.rounding then optimizer.rounding = "stochastic" end
          step()
        end
        return bytes(list, optimizer), {fp8.random_state()}
      end
      local eager, position = run(6, function(optimizer)
        optimizer:step()
        return function() optimizer:step() end
      end)
      local replayed, replayed_position = run(6, function(optimizer)
        return fp8.cuda.graph(function() optimizer:step() end)
      end)
      assert.same(eager, replayed)
      assert.same(position, replayed_position)
    end)
  end

  it("go on from a state_dict bit for bit", function()
    local list, parts = groups()
    local optimizer = fp8.optim.AdamW(parts, kinds[2][2])
    local step = fp8.cuda.graph(function() optimizer:step() end)
    step()
    local state, values = {}, {}
    for name, tensor in pairs(optimizer:state_dict()) do state[name] = tensor:clone() end
    for i, x in ipairs(list) do values[i] = x:detach():clone() end
    fp8.manual_seed(3)
    for _ = 1, 2 do step() end
    local expected = bytes(list, optimizer)
    optimizer:load_state_dict(state)
    fp8.no_grad(function()
      for i, x in ipairs(list) do x:copy_(values[i]) end
    end)
    fp8.manual_seed(3)
    for _ = 1, 2 do step() end
    assert.same(expected, bytes(list, optimizer))
  end)
end)

describe("Both devices", function()
  for i, kind in ipairs(kinds) do
    if kind[1] ~= "StableAdamW" then -- whose divisor is a sum
      it(("take the same step: %s %d"):format(kind[1], i), function()
        local name, settings = unpack(kind)
        local function run(device)
          local list, moved = groups(), {}
          for k, x in ipairs(list) do
            moved[k] = x:detach():to(device):clone():requires_grad_()
            moved[k].grad = x.grad:to(device)
          end
          local optimizer = fp8.optim[name](moved, settings)
          fp8.manual_seed(7)
          for _ = 1, 3 do optimizer:step() end
          return bytes(moved, optimizer)
        end
        assert.same(run "cpu", run "cuda")
      end)
    end
  end
end)
