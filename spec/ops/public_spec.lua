-- The names in errors of operations, and arguments that nothing takes.
local support = require "spec.support"
local fp8 = require "fp8"
local operations = require "fp8.ops"

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  return not ok and tostring(message) or nil
end

describe("What is called by the name of an operation", function()
  local x = fp8.tensor {{1, 2}, {3, 4}}

  it("has that name in the error of any wrong call, at the caller's line", function()
    local other, count = fp8.ones(7, 7), 0
    for name, operation in support.sorted_pairs(operations.functions) do
      for _, arguments in ipairs {
        {"abc"}, {}, {x, 9}, {x, "abc"}, {x, true}, {x, {9}}, {x, other}, {x, 1, "abc"}, {x, x, "abc"}, {x, {zzz = 1}},
        {x, 1, {zzz = 1}}, {x, x, {zzz = 1}},
      } do
        local message = message_of(operation, unpack(arguments))
        if message then
          local place, named = message:match "^(%S+_spec%.lua):%d+: ([%w_]+): "
          assert.same({"spec/ops/public_spec.lua", name}, {place, named}, message)
          count = count + 1
        end
      end
    end
    assert.is_true(count > 1500)
  end)

  it("names the first argument that is no tensor", function()
    for name, f in support.sorted_pairs {
      exp2 = fp8.exp2, var = fp8.var, asin = fp8.asin, softmin = fp8.softmin, logsumexp = fp8.logsumexp, t = fp8.t,
    } do
      assert.matches(name .. ": argument 1: tensor expected, got string$", message_of(f, "abc"))
    end
  end)

  it("takes no more arguments than it has", function()
    for name, call in support.sorted_pairs {
      exp = function() return x:exp(3) end, sum = function() return x:sum(1, true, 3) end,
      eq = function() return x:eq(x, 3) end, clamp_ = function() return x:clone():clamp_(0, 1, 3) end,
      argmax = function() return x:argmax(1, true, 3) end, numel = function() return x:numel(3) end,
      index_fill = function() return x:index_fill(1, fp8.tensor({0}, {dtype = "i64"}), 1, 3) end,
      cross_entropy = function() return fp8.cross_entropy(x, fp8.tensor({0, 1}, {dtype = "i64"}), {}, 3) end,
      create_map = function() return fp8.create_map(true, 4, 3, 8, 3) end,
      quantize = function() return fp8.quantize(x, "e4m3", {}, 3) end,
      zeros_like = function() return fp8.zeros_like(x, {}, 3) end, eye = function() return fp8.eye(2, 2, {}, 3) end,
      set_deterministic = function() return fp8.set_deterministic(false, 3) end,
    } do
      assert.matches(name .. ": argument %d: no more arguments expected, got number$", message_of(call))
    end
    assert.same({1, 4}, fp8.tensor({1, 2}):square(nil, nil):totable())
  end)

  it("takes no more arguments than it has where it makes or is a module, an optimizer or a schedule", function()
    local nn, optim = fp8.nn, fp8.optim
    local layer = fp8.Linear(2, 2)
    local optimizer = optim.SGD(layer)
    for name, call in support.sorted_pairs {
      Linear = function() return fp8.Linear(2, 2, nil, 7) end, ReLU = function() return nn.ReLU(7) end,
      ModuleList = function() return nn.ModuleList({}, 7) end, Softmax = function() return nn.Softmax(1, 7) end,
      GRU = function() return nn.GRU(2, 2, {}, 7) end, Dropout = function() return nn.Dropout(0.5, 7) end,
      SGD = function() return optim.SGD(layer, {}, 7) end, step = function() return optimizer:step(7) end,
      zero_grad = function() return layer:zero_grad(7) end, eval = function() return layer:eval(7) end,
      clip_grad_norm = function() return optim.clip_grad_norm(layer, 1, 7) end,
      cosine_schedule = function() return optim.cosine_schedule({lr = 1, steps = 2}, 7) end,
    } do
      assert.matches(name .. ": argument %d: no more arguments expected, got number$", message_of(call))
    end
    support.fails("cosine_schedule: a table of options is needed, {lr =, …}, got an object", optim.cosine_schedule,
      optimizer)
    support.fails("SGD: option nesterov needs a momentum", optim.SGD, layer, {nesterov = true})
    support.fails("SGD: a module or a list of parameters is needed, got a tensor", optim.SGD, x)
    local Own = nn.Module:extend "Own"
    function Own:init(size) self.size = size end
    assert.equal(3, Own(3, 4).size) -- a class of a script's own is the script's affair
  end)

  it("tells its strides as its sizes", function()
    assert.same({{3, 1}, 3, 1}, {fp8.zeros(2, 3):stride(), fp8.zeros(2, 3):stride(1), fp8.zeros(2, 3):stride(-1)})
    support.fails("stride: dimension 3 of a tensor of 2 dimensions", function() return x:stride(3) end)
  end)
end)
