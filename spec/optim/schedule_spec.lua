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

  it("stays, after warming up", function()
    local rate = fp8.optim.constant_schedule {lr = 2, warmup = 4}
    assert.same({0.5, 1, 1.5, 2, 2, 2}, {rate(1), rate(2), rate(3), rate(4), rate(5), rate(1e9)})
    assert.equal(3, fp8.optim.constant_schedule {lr = 3}(1))
  end)

  it("warms up, stays and goes down", function()
    local rate = fp8.optim.warmup_stable_decay_schedule {lr = 2, warmup = 2, steps = 10, decay = 4, final = 1}
    local rates = {}
    for step = 1, 12 do rates[step] = rate(step) end
    assert.same({1, 2, 2, 2, 2, 2, 1.75, 1.5, 1.25, 1, 1, 1}, rates)
    rate = fp8.optim.warmup_stable_decay_schedule {lr = 1, warmup = 1, steps = 3, decay = 2}
    assert.same({1, 0.5, 0, 0}, {rate(1), rate(2), rate(3), rate(4)})
    rate = fp8.optim.warmup_stable_decay_schedule {lr = 1, steps = 3, decay = 0}
    assert.same({1, 1, 0}, {rate(1), rate(2), rate(3)})
  end)

  it("goes down in steps", function()
    local rate = fp8.optim.step_schedule {lr = 8, warmup = 2, every = 3, factor = 0.5}
    local rates = {}
    for step = 1, 9 do rates[step] = rate(step) end
    assert.same({4, 8, 8, 8, 8, 4, 4, 4, 2}, rates)
    rate = fp8.optim.step_schedule {lr = 1, every = 1}
    for step = 1, 4 do assert.near(10 ^ (1 - step), rate(step), 1e-15) end
  end)

  it("refuses what the others don't", function()
    local optim = fp8.optim
    fails("constant_schedule: unknown option steps", optim.constant_schedule, {lr = 1, steps = 3})
    fails("constant_schedule: option warmup must be", optim.constant_schedule, {lr = 1, warmup = -1})
    fails("step_schedule: unknown option final", optim.step_schedule, {lr = 1, every = 2, final = 0})
    fails("step_schedule: option every must be", optim.step_schedule, {lr = 1})
    fails("step_schedule: option every must be", optim.step_schedule, {lr = 1, every = 0})
    fails("step_schedule: option factor must be", optim.step_schedule, {lr = 1, every = 1, factor = -1})
    local name, schedule = "warmup_stable_decay_schedule", optim.warmup_stable_decay_schedule
    fails(name .. ": option decay must be a whole number from 0 to steps - warmup", schedule, {lr = 1, steps = 9})
    fails(name .. ": option decay must be", schedule, {lr = 1, steps = 9, warmup = 5, decay = 5})
    fails(name .. ": option warmup must be", schedule, {lr = 1, steps = 9, warmup = 10, decay = 0})
    for _, rate in ipairs {
      optim.constant_schedule {lr = 1}, optim.step_schedule {lr = 1, every = 1},
      schedule {lr = 1, steps = 2, decay = 1},
    } do
      for _, wrong in ipairs {0, -1, 0 / 0, "1"} do fails("steps are numbers from 1 on", rate, wrong) end
    end
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
