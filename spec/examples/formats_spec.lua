-- examples/own_format.lua, exempt.lua and tensorwise.lua on a small text, and the formats of lib/own_formats.lua.
local fp8 = require "fp8"
local support = require "spec.support"

local root = support.path ""
local tiny = ("--text %sREADME.md --layers 1 --width 32 --heads 2 --context 32 --batch 8 "):format(root)

package.path = root .. "examples/lib/?.lua;" .. package.path
local own_formats = require "own_formats"

local function run(example, options)
  return support.run(("%sexamples/%s.lua %s%s"):format(root, example, tiny, options), "FP8_TUNE=0")
end

-- The posit whose code has these seven bits after a sign of 0, from the words of the standard: its digits read one by
-- one.
local function posit(code)
  local bits = {}
  for i = 7, 1, -1 do bits[i], code = code % 2, math.floor(code / 2) end
  local run_length = 1
  while bits[run_length + 1] == bits[1] do run_length = run_length + 1 end
  local regime = bits[1] == 1 and run_length - 1 or -run_length
  local function bit(i) return bits[run_length + 1 + i] or 0 end
  local value, weight = 1, 0.5
  for i = 3, 7 do value, weight = value + bit(i) * weight, weight / 2 end
  return 16 ^ regime * 2 ^ (2 * bit(1) + bit(2)) * value
end

support.each_device(function(device)
  describe("Formats of one's own", function()
    it("have the values of posits, the nearest one, and those that the kernel gives of the same map", function()
      local list = {0}
      for code = 1, 127 do list[#list + 1], list[#list + 2] = posit(code), -posit(code) end
      assert.equal(2 ^ 24, posit(127))
      assert.equal(2 ^ -24, posit(1))
      assert.equal(1, posit(64))
      fp8.manual_seed(3)
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local x = (fp8.randn(9, 50) * fp8.randn(9, 50):mul(2):exp()):to(dtype):to(device)
        local y = own_formats.posit8(device)(x)
        assert.equal(dtype, y.dtype)
        local values, found = support.flat(x), support.flat(y)
        local absmax = 0
        for _, value in ipairs(values) do absmax = math.max(absmax, math.abs(value)) end
        local scale = 2 ^ math.ceil(math.log(absmax) / math.log(2)) / 16
        for i, value in ipairs(values) do
          local least = math.huge
          for _, candidate in ipairs(list) do least = math.min(least, math.abs(value - candidate * scale)) end
          assert.equal(least, math.abs(value - found[i]), value)
        end
        local layers = {}
        for i, operand in ipairs {{quantize = own_formats.posit8(device)}, own_formats.posit8_map()} do
          fp8.manual_seed(4)
          local layer = fp8.Linear(50, 7, {device = device, dtype = dtype,
            recipe = {input = operand, weight = operand, grad_output = operand, weight_grad = "quantized"}})
          local input = x:clone():requires_grad_()
          local output = layer(input)
          output:square():sum():backward()
          layers[i] = {output:detach(), input.grad, layer.weight.grad}
        end
        for i = 1, 3 do support.equal(layers[1][i], layers[2][i]) end
      end
      assert.equal(0, own_formats.posit8(device)(fp8.zeros(3, 4, {device = device})):abs():max():item())
      assert.is_true(own_formats.posit8(device)(fp8.tensor({{1, 0 / 0}}, {device = device})):isnan():all():item() ~= 0)
    end)

    it("are powers of two below the largest, and small values stay in the mean", function()
      fp8.manual_seed(5)
      local x = fp8.randn(40, 40, {device = device}) * 0.01
      x:narrow(1, 1, 1):narrow(2, 1, 1):fill_(3)
      local sum, rounds = fp8.zeros(40, 40, {device = device}), 400
      for _ = 1, rounds do
        local y = own_formats.logarithmic(x)
        local magnitudes = (y:abs() / 3):unique():totable()
        for _, value in ipairs(magnitudes) do
          assert.is_true(value == 0 or value == 2 ^ math.floor(math.log(value) / math.log(2) + 0.5) and value >= 2 ^ -6)
        end
        sum = sum + y
      end
      local below = x:abs():lt(3 / 64):float()
      local deviation = 3 / 64 / math.sqrt(4 * rounds) -- of a mean of zeros and ones, at most
      assert.is_true(((sum / rounds - x) * below):abs():max():item() < 5 * deviation)
      assert.equal(0, own_formats.logarithmic(fp8.zeros(3, 4, {device = device})):abs():max():item())
    end)
  end)

  describe("examples/own_format.lua", function()
    it("trains alike by a function and by the kernel", function()
      local ok, output = run("own_format", ("--device %s --dtype f32 --steps 6"):format(device))
      assert.is_true(ok, output)
      local losses = {}
      for name, loss in output:gmatch "\n([%w_]+) +(%d%.%d+) +%d%.%d+ +[%d.]+ +%d+" do losses[name] = tonumber(loss) end
      assert.equal(losses.posit8, losses.posit8_map)
      assert.near(losses.bf16, losses.posit8, 0.05)
      assert.near(losses.bf16, losses.logarithmic, 0.2)
      assert.near(losses.logarithmic, losses.logarithmic_map, 0.2)
    end)
  end)

  describe("examples/exempt.lua", function()
    it("trains again without the layers that fp8.sensitivity names", function()
      local options = ("--device %s --dtype f32 --steps 12 --lr 1e-2 --recipe e2m1_tensor"):format(device)
      local ok, output = run("exempt", options)
      assert.is_true(ok, output)
      local first = output:match "gradient  cosine\n +(blocks%S+)"
      assert.is_truthy(first, output)
      local gaps = {}
      for name, gap in output:gmatch "\n([%w_]+) +%d%.%d+ +([+-]%d%.%d+)" do gaps[name] = tonumber(gap) end
      assert.equal(0, gaps.f32)
      assert.is_true(math.abs(gaps.e2m1_tensor) > 0.002, output)
      assert.is_number(gaps.worst_quarter)
      assert.not_equal(gaps.worst_half, gaps.best_half)
      local closed = tonumber(output:match "worst_half +%S+ +%S+ +(%-?%d+) %%")
      local unit = 1e-4 / math.abs(gaps.e2m1_tensor) -- what the last printed digit makes
      assert.near(100 * (1 - gaps.worst_half / gaps.e2m1_tensor), closed, 1 + 200 * unit)
    end)
  end)

  describe("examples/tensorwise.lua", function()
    it("shows what fp8.watch says beside the loss", function()
      local ok, output = run("tensorwise",
        ("--device %s --dtype f32 --compare f32,int8_tensorwise --steps 6 --evaluate-every 3"):format(device))
      assert.is_true(ok, output)
      for _, name in ipairs {"int8_tensorwise", "int8_tensorwise %+ layer scale"} do
        local rows = output:match("\n" .. name .. "\n(step[^\n]+\n3 [^\n]+\n6 [^\n]+\n)")
        assert.is_truthy(rows, output)
        for loss, gap, lost, share in rows:gmatch "(%d%.%d+) +([+-]%d%.%d+) +([%d.]+) %%  blocks%S+ %S+: ([%d.]+) %%" do
          assert.is_true(tonumber(loss) > 4 and math.abs(tonumber(gap)) < 0.1, output)
          assert.is_true(tonumber(lost) > 1 and tonumber(share) >= tonumber(lost), output)
        end
      end
      assert.is_truthy(output:find("nats a byte more than f32", 1, true))
    end)
  end)

  it("The examples say in one line what is wrong", function()
    for options, words in support.sorted_pairs {
      ["exempt --recipe nothing"] = "exempt: option --recipe must be a recipe",
      ["exempt --by size"] = "gradient, output or loss",
      ["tensorwise --compare nothing"] = "there is no precision 'nothing'", ["own_format --steps 0"] = "option --steps",
    } do
      local example, rest = options:match "^(%S+) (.*)$"
      local ok, output = run(example, ("--device %s %s"):format(device, rest))
      assert.is_false(ok)
      assert.is_truthy(output:find(words, 1, true), output)
    end
  end)
end)
