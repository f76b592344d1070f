-- Moments in 8 bits against a slow reference: decoded, a step in float32, and encoded again, bit for bit.
local core = require "fp8.core"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"

local f32, fails = reference.f32, support.fails

local dynamic, unsigned = fp8.create_dynamic_map(), fp8.create_dynamic_map(false)
local smallest = {e4m3 = 2 ^ -9, e5m2 = 2 ^ -16}

-- A map with entries so close together that it has no look-up, and equal ones.
local function crowded_map()
  local random, values = support.random(5), {}
  for i = 1, 256 do
    local value = f32(random() * 2 - 1)
    values[i] = i % 7 == 0 and f32(value * 1e-6) or value
  end
  values[10] = values[9]
  table.sort(values)
  return fp8.tensor(values)
end

-- What the first moment is called, and whether there is another one.
local first_names = {AdamW = "first_moment", Adam = "first_moment", Lion = "first_moment", SGD = "momentum_buffer"}
local has_second = {AdamW = true, Adam = true}

--- The numbers of a step, as src/ops/optim/step.c derives them.
local numbers = {}

function numbers.AdamW(s, t)
  local beta1, beta2 = s.beta1 or 0.9, s.beta2 or 0.999
  return {
    rate = f32(s.lr / (1 - beta1 ^ t)), beta1 = f32(beta1), fraction1 = f32(1 - beta1), beta2 = f32(beta2),
    fraction2 = f32(1 - beta2), root_scale = f32(1 / math.sqrt(1 - beta2 ^ t)), epsilon = f32(s.epsilon or 1e-8),
    kept = f32(1 - f32(f32(s.lr) * f32(s.weight_decay or 0.01))),
  }
end

function numbers.Adam(s, t)
  local n = numbers.AdamW(s, t)
  n.kept, n.weight_decay = 1, f32(s.weight_decay or 0)
  return n
end

function numbers.Lion(s)
  return {
    rate = f32(s.lr), beta1 = f32(s.beta1 or 0.9), fraction1 = f32(1 - (s.beta1 or 0.9)), beta2 = f32(s.beta2 or 0.99),
    fraction2 = f32(1 - (s.beta2 or 0.99)), kept = f32(1 - f32(f32(s.lr) * f32(s.weight_decay or 0))),
  }
end

function numbers.SGD(s, t)
  return {
    rate = f32(s.lr), beta1 = f32(s.momentum), fraction1 = t == 1 and 1 or f32(1 - (s.dampening or 0)),
    weight_decay = f32(s.weight_decay or 0), nesterov = s.nesterov,
  }
end

local rules = {}

function rules.AdamW(n, p, g, m, v)
  m = f32(f32(n.beta1 * m) + f32(n.fraction1 * g))
  v = f32(f32(n.beta2 * v) + f32(n.fraction2 * f32(g * g)))
  local root = f32(f32(f32(math.sqrt(v)) * n.root_scale) + n.epsilon)
  return f32(f32(p * n.kept) - f32(n.rate * f32(m / root))), m, v
end

function rules.Adam(n, p, g, m, v) return rules.AdamW(n, p, f32(g + f32(n.weight_decay * p)), m, v) end

function rules.Lion(n, p, g, m)
  local mean = f32(f32(n.beta1 * m) + f32(n.fraction1 * g))
  local sign = mean > 0 and 1 or mean < 0 and -1 or 0
  return f32(f32(p * n.kept) - n.rate * sign), f32(f32(n.beta2 * m) + f32(n.fraction2 * g))
end

function rules.SGD(n, p, g, m)
  g = f32(g + f32(n.weight_decay * p))
  m = f32(f32(n.beta1 * m) + f32(n.fraction1 * g))
  local direction = n.nesterov and f32(g + f32(n.beta1 * m)) or m
  return f32(p - f32(n.rate * direction)), m
end

--- What decoding the moments gives, and their scales.
-- @param map   its values, or the name of a hardware type
-- @param raise whether numbers above 0 stay above 0
local function coded(moment, map, blocksize, raise)
  local values, scales = reference.fake_quantize(moment, map, blocksize, {1, #moment})
  local least = smallest[map]
  for i = 1, type(map) == "table" and 256 or 0 do
    if map[i] > 0 then
      least = map[i]
      break
    end
  end
  for i = 1, #moment do
    if raise and moment[i] > 0 and values[i] == 0 then
      values[i] = f32(least * scales[math.floor((i - 1) / blocksize) + 1])
    end
  end
  return values, scales
end

local function format_of(format) return core.is_tensor(format) and format:totable() or format end

--- One step of the lists of `state`: p, m, v; afterwards also the scales.
local function follow(name, state, g, settings, format, second_format, blocksize)
  state.t = state.t + 1
  local n = numbers[name](settings, state.t)
  for i = 1, #g do state.p[i], state.m[i], state.v[i] = rules[name](n, state.p[i], g[i], state.m[i], state.v[i]) end
  state.m, state.m_scales = coded(state.m, format_of(format), blocksize)
  if has_second[name] then state.v, state.v_scales = coded(state.v, format_of(second_format), blocksize, true) end
end

local formats = {
  {"the dynamic maps", dynamic, unsigned}, {"e4m3", "e4m3", "e4m3"}, {"e4m3 and e5m2", "e4m3", "e5m2"},
  {"a crowded map", crowded_map(), fp8.create_map(false, 5, 3, 8)}, {"a map and e5m2", fp8.create_map(), "e5m2"},
}

support.each_device(function(device)
  local on = {device = device}

  local function parameter(values, dtype) return values:to(dtype or "f32"):to(device):clone():requires_grad_() end

  --- Gradients of very different sizes, some of them 0.
  local function gradient(count, dtype)
    local g = fp8.randn(count, {device = "cpu"}) * (fp8.randn(count, {device = "cpu"}) * 2):exp()
    if count > 300 then g:narrow(1, 65, 200):fill_(0) end
    return g:to(dtype):to(device)
  end

  local function decoded(optimizer, i, name, format, blocksize)
    local entry = optimizer.state[i]
    local state = {absmax = entry[name .. "_scale"], map = format, blocksize = blocksize, dtype = "f32"}
    return support.flat(fp8.dequantize_blockwise(entry[name], state))
  end

  -- @param called the name by which the optimizer gets both formats, or nil
  local function compare(name, settings, dtype, format, second_format, blocksize, steps, called)
    fp8.manual_seed(3)
    settings.state = {format = called or format, blocksize = blocksize, smallest = 0,
      second_format = has_second[name] and (called or second_format) or nil}
    local list, states = {}, {}
    for i, count in ipairs {1, 63, 300, 2049, 4100} do
      list[i] = parameter(fp8.randn(count, {device = "cpu"}), dtype)
      local zeros = {}
      for k = 1, count do zeros[k] = 0 end
      states[i] = {t = 0, p = support.flat(list[i]:detach()), m = zeros, v = {unpack(zeros)}}
    end
    local optimizer = fp8.optim[name](list, settings)
    for _ = 1, steps do
      local gradients = {}
      for i, x in ipairs(list) do
        x.grad = gradient(#states[i].p, dtype)
        gradients[i] = support.flat(x.grad)
      end
      optimizer:step()
      for i, state in ipairs(states) do
        follow(name, state, gradients[i], settings, format, second_format, blocksize)
        for k, value in ipairs(state.p) do state.p[k] = reference.round[dtype](value) end
        assert.same(state.p, support.flat(list[i]:detach()))
        local first = first_names[name]
        assert.same(state.m_scales, optimizer.state[i][first .. "_scale"]:totable())
        assert.same(state.m, decoded(optimizer, i, first, format, blocksize))
        if has_second[name] then
          assert.same(state.v_scales, optimizer.state[i].second_moment_scale:totable())
          assert.same(state.v, decoded(optimizer, i, "second_moment", second_format, blocksize))
        end
      end
    end
  end

  describe("A step with moments in 8 bits", function()
    for i, format in ipairs(formats) do
      local label, first, second = unpack(format)
      local dtype = ({"f32", "bf16", "f16"})[i % 3 + 1]
      it(("follows the reference of AdamW: %s, %s"):format(label, dtype), function()
        compare("AdamW", {lr = 0.01, weight_decay = 0.1}, dtype, first, second, 256, 3)
      end)
      it("follows the references of Adam and Lion: " .. label, function()
        compare("Adam", {lr = 0.01, weight_decay = 0.1}, dtype, first, second, 256, 3)
        compare("Lion", {lr = 0.01, weight_decay = 0.1}, dtype, first, second, 256, 3)
      end)
      it("follows the reference of SGD: " .. label, function()
        compare("SGD", {lr = 0.01, momentum = 0.9, dampening = 0.2, weight_decay = 0.1, nesterov = i % 2 == 0}, dtype,
          first, second, 256, 3)
      end)
    end

    -- Their values, divided by the largest, are a map of their own.
    for _, name in ipairs {"e2m1", "e2m3", "e3m2", "int4", "int8", "nf4"} do
      it("follows the reference of the format " .. name, function()
        local codes = fp8.arange(0, 256, 1, {dtype = "u8"})
        local values = fp8.dequantize_blockwise(codes,
          {absmax = fp8.ones(1), map = name, blocksize = 256, dtype = "f32"})
        local list = {}
        for _, value in ipairs((values / fp8.formats[name].largest):unique():totable()) do
          if value ~= 0 then list[#list + 1] = value end
        end
        while #list < 256 do list[#list + 1] = 0 end
        local map = fp8.tensor(list):sort(1)
        compare("AdamW", {lr = 0.01, weight_decay = 0.1}, "f32", map, map, 64, 2, name)
        compare("Lion", {lr = 0.01}, "bf16", map, nil, 64, 2, name)
      end)
    end

    for _, blocksize in ipairs {64, 128, 512, 1024, 2048} do
      it("follows the reference in blocks of " .. blocksize, function()
        compare("AdamW", {lr = 0.01}, "bf16", dynamic, unsigned, blocksize, 2)
      end)
    end

    it("follows the reference of StableAdamW, but for its divisor's last bits", function()
      local settings = {lr = 0.1, state = {format = dynamic, smallest = 0}}
      local x = parameter(fp8.randn(3000, {device = "cpu"}))
      local wide = parameter(x:detach())
      local optimizer, twin = fp8.optim.StableAdamW({x}, settings), fp8.optim.StableAdamW({wide}, {lr = 0.1})
      for step = 1, 4 do
        x.grad = gradient(3000, "f32") * (step == 4 and 30 or 1)
        wide.grad = x.grad
        -- The twin starts every step from the decoded moments, and from the parameter.
        fp8.no_grad(function()
          wide:copy_(x:detach())
          for _, moment in ipairs {"first_moment", "second_moment"} do
            local format = moment == "first_moment" and dynamic or unsigned
            twin.state[1][moment]:copy_(fp8.tensor(decoded(optimizer, 1, moment, format, 256)))
          end
        end)
        optimizer:step()
        twin:step()
        support.close(x:detach(), wide:detach(), 1e-6)
        local moment = support.flat(twin.state[1].first_moment)
        assert.same((coded(moment, dynamic:totable(), 256)), decoded(optimizer, 1, "first_moment", dynamic, 256))
      end
    end)

    it("keeps second moments above 0, so that no step is out of all proportion", function()
      for _, format in ipairs {dynamic, "e4m3", "e5m2"} do
        local x = parameter(fp8.zeros(256))
        local optimizer = fp8.optim.AdamW({x}, {lr = 1, weight_decay = 0, state = {format = format, smallest = 0}})
        local g = fp8.full({256}, 1e-5, on)
        g:narrow(1, 1, 1):fill_(1e4)
        x.grad = g
        optimizer:step()
        local second = fp8.dequantize_blockwise(optimizer.state[1].second_moment, {
          absmax = optimizer.state[1].second_moment_scale, map = core.is_tensor(format) and unsigned or format,
          blocksize = 256, dtype = "f32",
        })
        assert.is_true(second:min():item() > 0)
        x.grad = fp8.zeros(256, on)
        optimizer:step()
        assert.is_true(x:detach():abs():max():item() < 3)
      end
    end)

    it("takes views anywhere in memory, as it takes tensors of their own", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        for _, length in ipairs {1, 7, 256, 1021} do
          local memory, grads = fp8.randn(length + 9, on):to(dtype), fp8.randn(length + 9, on):to(dtype)
          local around = memory:clone()
          local view = memory:narrow(1, 4, length):requires_grad_()
          view.grad = grads:narrow(1, 2, length)
          local whole = parameter(view:detach(), dtype)
          whole.grad = view.grad:clone()
          local settings = {lr = 0.1, rounding = "stochastic", state = {format = dynamic, smallest = 0}}
          for _, x in ipairs {view, whole} do
            fp8.manual_seed(5)
            local optimizer = fp8.optim.AdamW({x}, settings)
            for _ = 1, 2 do optimizer:step() end
          end
          support.same_bytes(view:detach():clone(), whole:detach())
          support.equal(memory:narrow(1, 1, 3), around:narrow(1, 1, 3))
          support.equal(memory:narrow(1, length + 4, 6), around:narrow(1, length + 4, 6))
        end
      end
    end)

    it("of 120 tensors is that of each", function()
      local settings = {lr = 0.1, master_weights = true, state = {format = dynamic, smallest = 300}}
      local together, alone = {}, {}
      for i = 1, 120 do
        local x = fp8.randn(i == 60 and 100003 or i * 37 % 800, on)
        local dtype = ({"f32", "bf16", "f16"})[i % 3 + 1]
        together[i], alone[i] = parameter(x, dtype), parameter(x, dtype)
        together[i].grad = fp8.randn(x.shape, on):to(dtype)
        alone[i].grad = together[i].grad
      end
      for _, name in ipairs {"Adam", "AdamW", "Lion", "StableAdamW"} do
        local optimizer = fp8.optim[name](together, settings)
        for _ = 1, 2 do optimizer:step() end
        for i = 1, 120 do
          local own = fp8.optim[name]({alone[i]}, settings)
          for _ = 1, 2 do own:step() end
          support.equal(together[i]:detach(), alone[i]:detach())
        end
      end
    end)

    it("makes a whole block NaN of a NaN or an infinity, and with the next step its parameters", function()
      for _, format in ipairs {dynamic, "e4m3"} do
        for _, wrong in ipairs {0 / 0, math.huge, -math.huge} do
          for _, name in ipairs {"Adam", "AdamW", "Lion", "SGD"} do
            local x = parameter(fp8.ones(600))
            x.grad = fp8.ones(600, on)
            x.grad:narrow(1, 300, 1):fill_(wrong)
            local optimizer = fp8.optim[name]({x}, {momentum = name == "SGD" and 0.9 or nil,
              state = {format = format, smallest = 0}})
            optimizer:step()
            x.grad = fp8.ones(600, on)
            optimizer:step()
            local values = x:totable()
            for i = 1, 600 do assert.equal(i > 256 and i <= 512, values[i] ~= values[i]) end
          end
        end
      end
    end)

    it("squares no gradient beyond float32", function()
      local x = parameter(fp8.ones(600))
      local optimizer = fp8.optim.AdamW({x}, {lr = 0.1, weight_decay = 0, state = {format = dynamic, smallest = 0}})
      x.grad = fp8.full({600}, 3e38, on)
      optimizer:step()
      support.close(x:detach(), fp8.full({600}, 0.9, on), 1e-5)
      optimizer:step()
      assert.is_true(x:detach():max():item() < 0.9 and x:detach():min():item() > 0.7)
    end)

    it("is in place: moments of 2^20 elements take two bytes each, and little more", function()
      local x = parameter(fp8.zeros(2 ^ 20), "bf16")
      local before = fp8.memory(device).in_use
      local optimizer = fp8.optim.AdamW({x}, {state = {format = dynamic}})
      local taken = fp8.memory(device).in_use - before
      assert.is_true(taken < 2.05 * 2 ^ 20, tostring(taken))
      x.grad = fp8.ones(2 ^ 20, on):to "bf16"
      optimizer:step()
      assert.equal("u8", optimizer.state[1].first_moment.dtype)
    end)

    it("leaves moments of small parameters, and of groups that say so, in f32", function()
      local list = {}
      for i, count in ipairs {4095, 4096, 5000} do list[i] = parameter(fp8.zeros(count)) end
      local optimizer = fp8.optim.AdamW({{parameters = {list[1], list[2]}}, {parameters = {list[3]}, state = "f32"}},
        {state = {format = "e4m3"}})
      for i, dtype in ipairs {"f32", "e4m3", "f32"} do
        assert.equal(dtype, optimizer.state[i].second_moment.dtype)
        assert.equal(i == 2, optimizer.state[i].second_moment_scale ~= nil)
      end
    end)

    it("does not follow a map that is changed later", function()
      local map = fp8.create_dynamic_map()
      local x, y = parameter(fp8.ones(300)), parameter(fp8.ones(300))
      local first = fp8.optim.AdamW({x}, {state = {format = map, smallest = 0}})
      map:fill_(1)
      local second = fp8.optim.AdamW({y}, {state = {format = dynamic, smallest = 0}})
      for _ = 1, 3 do
        x.grad = gradient(300, "f32")
        y.grad = x.grad
        first:step()
        second:step()
      end
      support.same_bytes(x:detach(), y:detach())
    end)
  end)

  describe("Moments in 8 bits", function()
    local kinds = {
      {"AdamW", {format = dynamic}}, {"AdamW", {format = "e4m3", second_format = "e5m2", blocksize = 64}},
      {"StableAdamW", {format = dynamic}}, {"SGD", {format = dynamic}}, {"Adam", {format = dynamic}},
      {"Lion", {format = "e4m3"}},
    }

    local function build(name, state, rounding)
      local model = fp8.nn.Sequential(fp8.Linear(40, 70, on), fp8.nn.GELU(), fp8.Linear(70, 3, on)):to "bf16"
      return model, fp8.optim[name](model, {lr = 0.02, momentum = name == "SGD" and 0.9 or nil, rounding = rounding,
        master_weights = not rounding, state = state})
    end

    local function train(model, optimizer, steps)
      for _ = 1, steps do
        optimizer:zero_grad()
        local x, target = fp8.randn(16, 40, on):to "bf16", fp8.randint(0, 3, {16}, on)
        fp8.cross_entropy(model(x), target):backward()
        fp8.optim.clip_grad_norm(model, 1)
        optimizer:step()
      end
    end

    local function bytes(model, optimizer)
      local list = {}
      for name, tensor in pairs(model:state_dict()) do list["model." .. name] = support.bytes(tensor) end
      for name, tensor in pairs(optimizer:state_dict()) do list[name] = support.bytes(tensor) end
      return list
    end

    for i, kind in ipairs(kinds) do
      for _, rounding in ipairs {false, "stochastic"} do
        it(("go on from a checkpoint bit for bit: %s %d, %s"):format(kind[1], i, rounding or "masters"), function()
          local name, state = unpack(kind)
          state.smallest = 0
          local path = os.tmpname()
          local model, optimizer = build(name, state, rounding or nil)
          train(model, optimizer, 3)
          fp8.checkpoint.save(path, {model = model, optimizer = optimizer, step = 3})
          train(model, optimizer, 3)
          local other, resumed = build(name, state, rounding or nil)
          train(other, resumed, 1)
          assert.equal(3, fp8.checkpoint.load(path, {model = other, optimizer = resumed}).step)
          os.remove(path)
          train(other, resumed, 3)
          assert.same(bytes(model, optimizer), bytes(other, resumed))
        end)
      end
    end

    it("are refused by an optimizer that keeps them in another way, which changes nothing", function()
      local function optimizer(state)
        return fp8.optim.AdamW({fp8.ones(5000, {device = device, requires_grad = true})}, {state = state})
      end
      local wide, narrow = optimizer "f32", optimizer {format = dynamic}
      local other, short = optimizer {format = fp8.create_map()}, optimizer {format = dynamic, blocksize = 64}
      for _, x in ipairs {wide, narrow, other, short} do
        x.parameters[1].grad = fp8.ones(5000, on)
        x:step()
      end
      local before = support.bytes(narrow.state[1].first_moment)
      fails("load_state_dict: 1.first_moment is f32 in the optimizer, u8 in the table: the option state of both",
        wide.load_state_dict, wide, narrow:state_dict())
      fails("load_state_dict: 1.first_moment is u8 in the optimizer, f32 in the table: the option state of both",
        narrow.load_state_dict, narrow, wide:state_dict())
      fails("1.first_moment_map is another map than the optimizer's", narrow.load_state_dict, narrow,
        other:state_dict())
      fails("moment_scale has shape (20) in the optimizer, (79) in the table", narrow.load_state_dict, narrow,
        short:state_dict())
      assert.equal(before, support.bytes(narrow.state[1].first_moment))
      narrow:load_state_dict(narrow:state_dict())
    end)
  end)
end)

describe("The option state", function()
  local x = fp8.zeros(5000, {requires_grad = true})

  it("is refused where it is wrong", function()
    local function refused(text, state, settings)
      settings = settings or {}
      settings.state = state
      fails(text, fp8.optim.AdamW, {x}, settings)
    end
    refused('AdamW: option state must be "f32" or a table with a format, got "bf16"', "bf16")
    refused('AdamW: option state must be "f32" or a table with a format, got 8', 8)
    refused("state.format must be a map (a tensor of 256 values) or one of e2m1, e2m3, e3m2, e4m3, e5m2, int4, " ..
      "int8, nf4, got nil", {})
    refused('nf4, got "u8"', {format = "u8"})
    refused("AdamW: state: unknown option block", {format = dynamic, block = 3})
    refused("AdamW: state.format: a map must be an f32 tensor of shape (256)", {format = fp8.zeros(3)})
    refused("AdamW: state.format: map: entries 1 and 2 are not in ascending order",
      {format = fp8.arange(256, 0, -1)})
    refused("AdamW: state.second_format must be", {format = dynamic, second_format = 3})
    refused("a map of second moments must have a number above 0",
      {format = dynamic, second_format = fp8.create_map():clamp(-1, 0)})
    local gone
    fp8.scope(function() gone = fp8.create_map():clone() end)
    refused("AdamW: state.format: this tensor was freed", {format = gone})
    for _, blocksize in ipairs {32, 100, 4096, "256", 256.5} do
      refused("state.blocksize must be a power of two from 64 to 2048", {format = dynamic, blocksize = blocksize})
    end
    refused("state.smallest must be a whole number of at least 0", {format = dynamic, smallest = -1})
    fails("AdamW: group 2: state.format must be", fp8.optim.AdamW,
      {{parameters = {x}}, {parameters = {}, state = {}}})
    fails("without momentum", fp8.optim.SGD, {x}, {state = {format = dynamic}})
    fails("there is no second moment", fp8.optim.SGD, {x},
      {momentum = 0.9, state = {format = dynamic, second_format = dynamic}})
  end)

  it("is no setting of a state_dict", function()
    local optimizer = fp8.optim.AdamW({x}, {state = {format = dynamic}})
    local dict = optimizer:state_dict()
    local text = support.bytes(dict.settings):gsub("lr=", "state=f32 lr=")
    dict.settings = fp8.tensor({text:byte(1, -1)}, {dtype = "u8"})
    fails("load_state_dict: unknown option state", optimizer.load_state_dict, optimizer, dict)
  end)
end)
