-- A network that several ranks train is that of one process with the same global batches:
-- spec/fixtures/distributed/training.lua.
local fp8 = require "fp8"
local ranks = require "spec.support.ranks"
local support = require "spec.support"

-- What a training wrote: the weights, and the norms of all steps' gradients. Nothing if it failed.
local function taken(path)
  local file = io.open(path)
  local length = file:seek "end"
  file:close()
  local state = length > 0 and fp8.load(path) or nil
  os.remove(path)
  return state
end

local function text_of(environment)
  local words = {}
  for name, value in support.sorted_pairs(environment) do words[#words + 1] = name .. "=" .. value end
  return table.concat(words, " ")
end

-- Trains once for each of a list of environments, in the same processes, with those that switch something on for all.
local function train(launcher, count, list, all)
  local paths, cases, variables = {}, {}, {}
  for i, environment in ipairs(list) do
    paths[i] = os.tmpname()
    cases[i] = ("OUT=%s %s"):format(paths[i], text_of(environment))
  end
  for name, value in pairs(all or {}) do variables[name] = value end
  variables.CASES = table.concat(cases, ";")
  local output, status = ranks.run("training.lua", {launcher = launcher, count = count, environment = variables})
  local states = {}
  for i, path in ipairs(paths) do states[i] = taken(path) or false end
  return states, output, status
end

-- By launcher and number of ranks: environments whose trainings tests have asked for, and their weights by text.
local plans = {}

-- A function that returns the weights after a training with this environment. All that are planned when the first one
-- is called happen together, since processes take long to start.
local function planned(launcher, count, environment)
  local key = launcher .. count
  local plan = plans[key] or {environments = {}, states = {}}
  plans[key] = plan
  local text = text_of(environment)
  if plan.states[text] == nil then
    table.insert(plan.environments, environment)
    plan.states[text] = false
  end
  return function()
    if #plan.environments > 0 then
      local states
      states, plan.output, plan.status = train(launcher, count, plan.environments)
      for i, state in ipairs(states) do plan.states[text_of(plan.environments[i])] = state end
      plan.environments = {}
      assert.equal("", plan.output)
      assert.equal(0, plan.status)
    end
    return assert(plan.states[text], plan.output)
  end
end

local function largest_difference(expected, found)
  local largest = 0
  for name, tensor in pairs(expected) do
    local norm = tensor:float():norm():item()
    local difference = (found[name]:float() - tensor:float()):norm():item()
    largest = math.max(largest, norm == 0 and difference or difference / norm)
  end
  return largest
end

describe("DataParallel", function()
  ranks.each_count(function(launcher, count)
    local function alone(environment) return planned(launcher == "mpirun" and "mpirun" or "gpus", 1, environment) end
    local function together(environment) return planned(launcher, count, environment) end

    -- A test that two trainings end with the same weights, up to the limit.
    local function compare(name, expected, found, limit)
      it(name, function()
        local difference = largest_difference(expected(), found())
        assert.is_true(difference <= limit, ("they differ by %g"):format(difference))
      end)
    end

    compare("makes the weights of one process, whatever each rank begins with", alone {}, together {SEEDS = "1"}, 1e-6)

    local first = together {SEEDS = "1"}
    it("gives the same bits in every run", function()
      local again, output = train(launcher, count, {{SEEDS = "1"}})
      assert.equal("", output)
      assert.equal(0, largest_difference(first(), again[1]))
    end)

    local shared = {SHARD = "1", STEPS = "20"}
    compare("goes with optimizer states that are shared out", alone(shared), together(shared), 1e-6)

    if count == 2 then
      for name, variable in pairs {
        ["adds gradients up without averaging them in no_sync"] = "ACCUMULATE",
        ["adds up the gradients of several passes"] = "KEEP",
      } do
        local own, with_shard = {[variable] = "1", STEPS = "20"}, {[variable] = "1", SHARD = "1", STEPS = "20"}
        compare(name, alone(own), together(own), 1e-6)
        compare(name .. ", with shared states", alone(with_shard), together(with_shard), 1e-6)
      end

      -- A difference in rounding of the norm, by which all is scaled, may move a code or a number of 16 bits.
      for name, variable in pairs {
        ["of weights in 16 bits"] = "SIXTEEN", ["in 8 bits"] = "EIGHT", ["of gradients in 16 bits"] = "GRADIENT_DTYPE",
      } do
        local own = {[variable] = variable == "GRADIENT_DTYPE" and "bf16" or "1", SHARD = "1", STEPS = "20"}
        compare("goes with shared states " .. name, alone(own), together(own), 1e-2)
      end

      for _, name in ipairs {"SGD", "Lion", "StableAdamW"} do
        local own = {OPTIMIZER = name, SHARD = "1", STEPS = "20"}
        compare("goes with shared states of " .. name, alone(own), together(own), name == "Lion" and 1e-2 or 1e-6)
      end

      together {PARTS = "1", SHARD = "1", STEPS = "2"} -- the script checks what is no whole gradient

      for recipe, dtypes in pairs {mixed = {"THIRTY_TWO"}, global_native = {"SIXTEEN", "THIRTY_TWO"}} do
        for _, dtype in ipairs(dtypes) do
          local function weights(shard)
            return together {RECIPE = recipe, [dtype] = "1", SHARD = shard, STEPS = "10"}
          end
          -- Of float32 weights in a hardware format, the scale of what was decoded may differ by one rounding.
          compare(("makes the same bits of weights that travel as codes, with the recipe %s, %s"):format(recipe, dtype),
            weights "none", weights "codes", dtype == "THIRTY_TWO" and recipe == "global_native" and 1e-6 or 0)
        end
      end

      local resumed = alone {SHARD = "1", STEPS = "30"}
      for others, victim in pairs {[1] = "all", [launcher == "mpirun" and 3 or 2] = "one"} do
        it(("goes on with %d ranks from its checkpoint after %s of two was killed"):format(others, victim), function()
          local expected, checkpoint = resumed(), os.tmpname()
          os.remove(checkpoint)
          local _, status = ranks.run("training.lua", {launcher = launcher, count = count, environment = {
            STEPS = "30", SHARD = "1", CHECKPOINT = checkpoint, KILL = "17", VICTIM = victim, OUT = "/dev/null",
          }})
          assert.not_equal(0, status)
          local found = train(launcher, others, {{STEPS = "30", SHARD = "1", CHECKPOINT = checkpoint}})[1]
          os.remove(checkpoint)
          found.norms = expected.norms
          assert.is_true(largest_difference(expected, found) < 1e-6)
        end)
      end

      local one_each = together {BUCKET = "1", STEPS = "10"}
      for _, bucket in ipairs {"8000", "1000000", "10000000"} do
        compare(("sends gradients in buckets of %s bytes, copied or from where they are"):format(bucket), one_each,
          together {BUCKET = bucket, STEPS = "10"}, 1e-6)
      end

      local exact, rounded = alone {STEPS = "10"}, together {GRADIENT_DTYPE = "bf16", STEPS = "10"}
      it("averages gradients in another dtype", function()
        local difference = largest_difference(exact(), rounded())
        assert.is_true(difference < 1e-2 and difference > 1e-6)
      end)

      -- The script checks that all ranks end with the same weights.
      for name, variable in pairs {
        ["parameters that one rank does not use"] = "UNUSED", ["running means"] = "BUFFERS",
        ["histories of delayed scaling"] = "DELAYED",
      } do
        it("keeps ranks together with " .. name, together {[variable] = "1", STEPS = "10"})
      end
    end
  end)

  it("of a script that was started alone is the model", function()
    fp8.distributed.init()
    local model = fp8.nn.DataParallel(fp8.Linear(2, 3))
    model(fp8.ones(1, 2)):sum():backward()
    assert.same({3, 2}, model.module.weight.grad.shape)
    assert.same({1, 1}, model.module.weight.grad:totable()[1])
    assert.is_truthy(model:state_dict().weight)
    assert.has_error(function() fp8.nn.DataParallel(3) end)
    assert.has_error(function() fp8.nn.DataParallel(fp8.Linear(2, 3), {bucket = 0}) end)
    model.module:to "bf16"
    assert.has_error(function() model(fp8.ones(1, 2)) end)
  end)
end)
