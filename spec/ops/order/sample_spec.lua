-- Random choices.
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local options = {device = device}

  --- How often each category is among the numbers of a tensor, against what is expected: within five deviations.
  local function check_shares(numbers, expected)
    local counts, total = numbers:contiguous():view(-1):bincount(nil, #expected):totable(), numbers:numel()
    assert.equal(#expected, #counts)
    for i, share in ipairs(expected) do
      local deviation = math.sqrt(total * share * (1 - share))
      assert.is_true(math.abs(counts[i] - total * share) <= 5 * deviation,
        ("category %d: %d of %d, expected a share of %g"):format(i - 1, counts[i], total, share))
    end
  end

  describe("multinomial", function()
    it("draws in proportion, with and without replacement", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local p = fp8.tensor({4, 0, 1, 3}, options):to(dtype)
        local drawn = p:multinomial(20000, true)
        assert.same({"i64", {20000}}, {drawn.dtype, drawn.shape})
        check_shares(drawn, {0.5, 0, 0.125, 0.375})
        check_shares(p:view(1, 4):expand(20000, 4):multinomial(1), {0.5, 0, 0.125, 0.375})
        local pairs_drawn = p:view(1, 4):expand(20000, 4):multinomial(2)
        assert.same({20000, 2}, pairs_drawn.shape)
        check_shares(pairs_drawn:select(2, 1), {0.5, 0, 0.125, 0.375})
        -- The second: p_j times the sum of p_i / (1 - p_i) over the other ones.
        check_shares(pairs_drawn:select(2, 2), {
          0.5 * (0.125 / 0.875 + 0.375 / 0.625), 0, 0.125 * (0.5 / 0.5 + 0.375 / 0.625),
          0.375 * (0.5 / 0.5 + 0.125 / 0.875),
        })
        assert.equal(0, pairs_drawn:select(2, 1):eq(pairs_drawn:select(2, 2)):sum():item())
      end
    end)

    it("draws rows of their own, all of which can be drawn", function()
      local p = fp8.tensor({{0, 1, 0}, {1, 0, 0}, {1e-30, 0, 1e30}}, options)
      assert.same({{1, 1}, {0, 0}, {2, 2}}, p:multinomial(2, true):totable())
      assert.same({{1}, {0}, {2}}, p:multinomial(1):totable())
      local order = fp8.rand(5, 7, options):add(0.1):multinomial(7)
      support.equal(order:sort(), fp8.arange(7, {dtype = "i64"}):expand(5, 7))
      assert.same({2, 0}, p[3]:multinomial(2):totable())
      assert.same({{2}, {0}, {1}}, fp8.tensor({{0, 5, 0}, {0, 0, 3}, {1, 0, 0}}, options):t():multinomial(1):totable())
    end)

    it("draws the same on every device for one seed", function()
      local p = (fp8.arange(1, 9, options) / 16):view(2, 4)
      fp8.manual_seed(5)
      local found = {p:multinomial(6, true):totable(), p:multinomial(3):totable(), p:multinomial(1):totable()}
      fp8.manual_seed(5)
      local on_cpu = p:to "cpu"
      assert.same({on_cpu:multinomial(6, true):totable(), on_cpu:multinomial(3):totable(),
        on_cpu:multinomial(1):totable()}, found)
      local large = fp8.rand(100, 1000, options)
      local state, position = fp8.random_state()
      local draws = {large:multinomial(50, true), large:multinomial(50), large:multinomial(1)}
      fp8.manual_seed(state, position)
      large = large:to "cpu"
      support.equal(draws[1]:to "cpu", large:multinomial(50, true))
      support.equal(draws[2]:to "cpu", large:multinomial(50))
      support.equal(draws[3]:to "cpu", large:multinomial(1))
    end)

    it("refuses what is no distribution", function()
      local function fails(text, values, ...)
        local arguments = {...}
        support.fails(text, function() fp8.tensor(values, options):multinomial(unpack(arguments)) end)
      end
      fails("multinomial: the elements must be finite numbers from 0 on", {0, -1}, 1)
      fails("multinomial: the elements must be finite numbers from 0 on", {1, 0 / 0}, 1)
      fails("multinomial: the elements must be finite numbers from 0 on", {1, math.huge}, 1, true)
      fails("multinomial: 1 different categories can't be drawn from a row with 0 above 0", {{1, 2}, {0, 0}}, 1)
      fails("multinomial: 2 different categories can't be drawn from a row with 1 above 0", {0, 1}, 2)
      fails("multinomial: 3 different categories can't be drawn from 2", {0, 1}, 3)
      fails("multinomial: num_samples must be a whole number from 1 on, got 0", {1, 2}, 0)
      fails("multinomial: 1 or 2 dimensions are needed, got shape (1, 1, 2)", {{{1, 2}}}, 1)
      fails("multinomial: replacement must be true or false, got number", {1, 2}, 1, 1)
      support.fails("multinomial: a floating-point tensor is needed, got i64", function()
        fp8.ones(2, {dtype = "i64", device = device}):multinomial(1)
      end)
      assert.same({0, 2}, fp8.ones(0, 3, options):multinomial(2).shape)
      support.fails("multinomial", function() fp8.ones(2, 0, options):multinomial(1, true) end)
    end)
  end)
end)
