-- Schedules of learning rates.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

describe("A schedule", function()
  it("warms up from lr / warmup and goes down as a cosine", function()
    local rate = fp8.optim.cosine_schedule {lr = 2, warmup = 4, steps = 12, final = 1}
    assert.same({0.5, 1, 1.5, 2}, {rate(1), rate(2), rate(3), rate(4)})
    assert.near(1 + (1 + math.cos(math.pi / 4)) / 2, rate(6), 1e-15)
    assert.near(1.5, rate(8), 1e-15)
    assert.same({1, 1, 1}, {rate(12), rate(13), rate(1e9)})
    assert.equal(0, fp8.optim.cosine_schedule {lr = 1, steps = 3}(3))
  end)

  it("goes down in a straight line", function()
    local rate = fp8.optim.linear_schedule {lr = 1, warmup = 2, steps = 6}
    assert.same({0.5, 1, 0.75, 0.5, 0.25, 0, 0}, {rate(1), rate(2), rate(3), rate(4), rate(5), rate(6), rate(7)})
  end)

  it("can be all warm-up", function()
    local rate = fp8.optim.cosine_schedule {lr = 1, warmup = 2, steps = 2, final = 0.25}
    assert.same({0.5, 1, 0.25}, {rate(1), rate(2), rate(3)})
  end)

  it("refuses wrong arguments", function()
    for _, name in ipairs {"cosine_schedule", "linear_schedule"} do
      local schedule = fp8.optim[name]
      fails(name .. ": a table of options is needed, got nil", schedule)
      fails(name .. ": unknown option rate", schedule, {lr = 1, steps = 1, rate = 2})
      fails(name .. ": option lr must be", schedule, {steps = 1})
      fails(name .. ": option lr must be", schedule, {lr = 0 / 0, steps = 1})
      fails(name .. ": option steps must be", schedule, {lr = 1})
      fails(name .. ": option steps must be", schedule, {lr = 1, steps = 1.5})
      fails(name .. ": option warmup must be", schedule, {lr = 1, steps = 1, warmup = 2})
      fails(name .. ": option final must be", schedule, {lr = 1, steps = 1, final = "0"})
      local rate = schedule {lr = 1, steps = 2}
      for _, wrong in ipairs {0, -1, 0 / 0, "1"} do fails(name .. ": steps are numbers from 1 on", rate, wrong) end
    end
  end)
end)
