-- Parameters of 16 bits that are rounded stochastically, instead of having float32 masters.
local core = require "fp8.core"
local fp8 = require "fp8"
local philox = require "spec.support.philox"
local reference = require "spec.support.reference"
local support = require "spec.support"

local f32, fails = reference.f32, support.fails

-- The number of steps of `size` from 0 to x, and what is left of one; the sign apart.
local function steps_of(x, size)
  local steps = math.floor(math.abs(x) / size)
  return steps, math.abs(x) / size - steps
end

-- What separates neighbours around x, and how many of the 16 random bits decide between them.
local spacing = {
  bf16 = function(x) return 2 ^ (math.max(select(2, math.frexp(x)) - 1, -126) - 7), 16 end,
  f16 = function(x)
    local exponent = select(2, math.frexp(x)) - 1
    return 2 ^ (math.max(exponent, -14) - 10), exponent < -14 and 16 or 13
  end,
}

--- x, a float32 value, rounded up in magnitude where the bits that are lost and the first of the 16 random `bits` give
-- a whole step together.
local function rounded(dtype, x, bits)
  if x == 0 then return 0 end
  local size, used = spacing[dtype](x)
  local steps, rest = steps_of(x, size)
  local up = math.floor(rest * 2 ^ used + 0.5) + math.floor(bits / 2 ^ (16 - used)) >= 2 ^ used
  return (steps + (up and 1 or 0)) * size * (x < 0 and -1 or 1)
end

support.each_device(function(device)
  local on = {device = device}

  local function parameter(values, dtype) return values:to(dtype):to(device):clone():requires_grad_() end

  describe("Stochastic rounding of parameters", function()
    for _, dtype in ipairs {"bf16", "f16"} do
      it("takes the bits of the generator, in the order of the parameters: " .. dtype, function()
        local settings = {lr = 1, rounding = "stochastic"}
        for _, scale in ipairs {1, 3e-6} do
          local list, expected = {}, {}
          for i, count in ipairs {7, 5000, 1, 513} do
            list[i] = parameter(fp8.randn(count) * scale, i == 3 and "f32" or dtype)
            list[i].grad = (fp8.randn(count) * scale / 700):to(list[i].dtype):to(device)
            local p, g = support.flat(list[i]:detach()), support.flat(list[i].grad)
            for k = 1, count do p[k] = f32(p[k] - g[k]) end
            expected[i] = p
          end
          local blocks = {[1] = 100, [2] = 101, [4] = 101 + 625}
          for i, position in pairs(blocks) do
            for k, bits in ipairs(philox.rounding_bits(9, position, #expected[i])) do
              expected[i][k] = rounded(dtype, expected[i][k], math.floor(bits / 2 ^ 16))
            end
          end
          fp8.manual_seed(9, 100)
          fp8.optim.SGD(list, settings):step()
          for i, x in ipairs(list) do assert.same(expected[i], support.flat(x:detach())) end
          local _, position = fp8.random_state()
          assert.equal(101 + 625 + 65, position)
        end
      end)

      it("adds up updates too small for " .. dtype .. ", in the mean", function()
        local x = parameter(fp8.ones(20000), dtype)
        local optimizer = fp8.optim.SGD({x}, {lr = 1, rounding = "stochastic"})
        for _ = 1, 50 do
          x.grad = fp8.full({20000}, 2e-5, on):to(dtype)
          optimizer:step()
        end
        local moved = x.grad:float():mean():item() * 50
        local mean = x:detach():float():mean():item()
        -- The deviation of a sum of 50 steps, each of which is a whole step of the dtype or nothing.
        local size = dtype == "bf16" and 2 ^ -8 or 2 ^ -11
        assert.near(1 - moved, mean, 5 * math.sqrt(moved * size / 20000))
        local plain = parameter(fp8.ones(3), dtype)
        plain.grad = fp8.full({3}, 2e-5, on):to(dtype)
        fp8.optim.SGD({plain}, {lr = 1}):step()
        assert.same({1, 1, 1}, plain:totable())
      end)
    end

    it("leaves what is finite finite, and shows the rest", function()
      for dtype, largest in pairs {bf16 = f32((2 - 2 ^ -7) * 2 ^ 127), f16 = 65504} do
        local x = parameter(fp8.tensor {largest, -largest, largest, 1, 1}, dtype)
        x.grad = fp8.tensor({0, 0, -largest, math.huge, 0 / 0}, on):to(dtype)
        fp8.optim.SGD({x}, {lr = 1, rounding = "stochastic"}):step()
        local values = x:totable()
        assert.same({largest, -largest, math.huge, -math.huge}, {unpack(values, 1, 4)})
        assert.is_true(values[5] ~= values[5])
      end
    end)

    it("follows the seed, in every optimizer", function()
      for _, name in ipairs {"SGD", "AdamW", "StableAdamW"} do
        local function run(seed)
          fp8.manual_seed(1)
          local x = parameter(fp8.randn(3000), "bf16")
          x.grad = fp8.randn(3000):to "bf16":to(device)
          fp8.manual_seed(seed)
          local optimizer = fp8.optim[name]({x}, {lr = 0.01, rounding = "stochastic"})
          for _ = 1, 3 do optimizer:step() end
          return support.bytes(x)
        end
        assert.equal(run(5), run(5))
        assert.is_not.equal(run(5), run(6))
      end
    end)

    it("is a setting of groups, which may change, and is kept in the state", function()
      local function grads(list)
        for _, x in ipairs(list) do x.grad = fp8.full({1000}, 1e-3, on):to "bf16" end
      end
      local a, b = parameter(fp8.ones(1000), "bf16"), parameter(fp8.ones(1000), "bf16")
      local optimizer = fp8.optim.SGD({{parameters = {a}}, {parameters = {b}, rounding = "stochastic"}}, {lr = 1})
      grads {a, b}
      optimizer:step()
      assert.equal(1, a:detach():min():item())
      assert.is_true(b:detach():min():item() < 1)
      local other = fp8.optim.SGD({{parameters = {a}, rounding = "stochastic"}, {parameters = {b}}}, {lr = 1})
      other:load_state_dict(optimizer:state_dict())
      assert.is_nil(other.groups[1].rounding)
      assert.equal("stochastic", other.groups[2].rounding)
      optimizer.rounding = "stochastic"
      grads {a, b}
      optimizer:step()
      assert.is_true(a:detach():min():item() < 1)
    end)

    it("means nothing to parameters of f32, for which nothing is drawn", function()
      local x, y = parameter(fp8.ones(9), "f32"), parameter(fp8.ones(9), "f32")
      x.grad, y.grad = fp8.full({9}, 1e-7, on), fp8.full({9}, 1e-7, on)
      fp8.manual_seed(4, 5)
      fp8.optim.SGD({x}, {lr = 1, rounding = "stochastic"}):step()
      fp8.optim.SGD({y}, {lr = 1}):step()
      support.same_bytes(x:detach(), y:detach())
      assert.same({4, 5}, {fp8.random_state()})
    end)
  end)
end)

describe("The option rounding", function()
  local x = fp8.zeros(3, {requires_grad = true, dtype = "bf16"})
  x.grad = fp8.ones(3, {dtype = "bf16"})
  local both = 'rounding = "stochastic" is instead of master_weights'

  it("is one of two, and not for parameters with masters", function()
    for _, wrong in ipairs {"up", 1, true} do
      fails('AdamW: option rounding must be "nearest" or "stochastic", got ' .. tostring(wrong), fp8.optim.AdamW, {x},
        {rounding = wrong})
    end
    fails("AdamW: " .. both, fp8.optim.AdamW, {x}, {rounding = "stochastic", master_weights = true})
    fails("SGD: " .. both, fp8.optim.SGD, {{parameters = {x}, master_weights = true}}, {rounding = "stochastic"})
    fp8.optim.SGD({{parameters = {x}, master_weights = false}}, {rounding = "stochastic", master_weights = true})
    local optimizer = fp8.optim.SGD({x}, {master_weights = true})
    optimizer.rounding = "stochastic"
    fails("SGD: " .. both, optimizer.step, optimizer)
    optimizer.rounding = "down"
    fails("SGD: option rounding must be", optimizer.step, optimizer)
    assert.same({0, 0, 0}, x:totable())
  end)

  it("is checked where a state is loaded, and nearest in one without it", function()
    local optimizer = fp8.optim.SGD({x}, {rounding = "stochastic"})
    local dict = optimizer:state_dict()
    local text = support.bytes(dict.settings)
    local function load(from, to)
      local changed, count = text:gsub(from, to)
      assert.equal(1, count)
      dict.settings = fp8.tensor({changed:byte(1, -1)}, {dtype = "u8"})
      optimizer:load_state_dict(dict)
    end
    fails("load_state_dict: option rounding must be", load, "rounding=stochastic", "rounding=up")
    fails("load_state_dict: " .. both, load, "master_weights=false", "master_weights=true")
    assert.equal("stochastic", optimizer.rounding)
    load(" rounding=stochastic", "")
    assert.equal("nearest", optimizer.rounding)
  end)

  it("is checked in C as well", function()
    local settings = {rounding = "stochastic", step = 1}
    local list = {x, x.grad, false, false, fp8.zeros(3), false, false}
    fails("parameter 1 has a master", core.update, {{rule = "sgd", list = list, settings = settings}}, {}, 0)
    list[5], list[6] = false, fp8.zeros(1)
    fails("has a scale of a first moment, but none of these", core.update,
      {{rule = "sgd", list = list, settings = settings}}, {}, 0)
    list[3] = fp8.zeros(3, {dtype = "u8"})
    fails("the first moment of parameter 1 has a scale, but no format", core.update,
      {{rule = "sgd", list = list, settings = settings}}, {}, 0)
    local batch = {rule = "sgd", list = list, settings = settings}
    local function refused(text, format, blocksize, rounding)
      batch.first_format = core.quantizer {format = format, blocksize = blocksize, rounding = rounding}
      batch.second_format = batch.first_format
      fails(text, core.update, {batch}, {}, 0)
    end
    fails("rule must be that of an optimizer, got rmsprop", core.update,
      {{rule = "rmsprop", list = {}, settings = {}}}, {}, 0)
    refused("must be a contiguous e4m3 tensor", "e4m3", 256)
    refused("must be a power of two from 64 to 2048", "e4m3", 32)
    refused("must be a power of two from 64 to 2048", "e4m3", {1, 64})
    refused("are rounded to nearest", "e4m3", 256, "stochastic")
    list[6] = fp8.zeros(2)
    refused("absmax must be f32 of shape (1)", fp8.create_dynamic_map(), 64)
    assert.same({0, 0, 0}, x:totable())
    local y = fp8.zeros(130)
    batch.list = {y, fp8.ones(130), fp8.zeros(130, {dtype = "u8"}), false, false, fp8.zeros(3, 2):select(2, 1), false}
    refused("the scale of the first moment of parameter 1 must be contiguous", fp8.create_dynamic_map(), 64)
    assert.same(fp8.zeros(130):totable(), y:totable())
  end)
end)
