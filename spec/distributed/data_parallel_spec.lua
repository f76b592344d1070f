-- A network that several ranks train is that of one process with the same global batches:
-- spec/fixtures/distributed/training.lua.
local fp8 = require "fp8"
local ranks = require "spec.support.ranks"
local support = require "spec.support"

-- The weights after training, and the norms of all steps' gradients.
local function train(launcher, count, environment)
  local path, variables = os.tmpname(), {}
  for name, value in pairs(environment or {}) do variables[name] = value end
  variables.OUT = path
  local output, status = ranks.run("training.lua", {launcher = launcher, count = count, environment = variables})
  assert.equal("", output)
  assert.equal(0, status)
  local state = fp8.load(path)
  os.remove(path)
  return state
end

-- The same of a run that other tests look at, too.
local known = {}
local function trained(launcher, count, environment)
  local key = {launcher, count}
  for name, value in support.sorted_pairs(environment or {}) do key[#key + 1] = name .. "=" .. value end
  key = table.concat(key, " ")
  known[key] = known[key] or train(launcher, count, environment)
  return known[key]
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
    local alone = launcher == "mpirun" and "mpirun" or "gpus"

    it("makes the weights of one process, whatever each rank begins with", function()
      local expected = trained(alone, 1)
      assert.is_true(largest_difference(expected, trained(launcher, count, {SEEDS = "1"})) < 1e-6)
    end)

    it("gives the same bits in every run", function()
      local first = trained(launcher, count, {SEEDS = "1"})
      assert.equal(0, largest_difference(first, train(launcher, count, {SEEDS = "1"})))
    end)

    if count == 2 then
      for name, variable in pairs {
        ["adds gradients up without averaging them in no_sync"] = "ACCUMULATE",
        ["adds up the gradients of several passes"] = "KEEP",
        ["goes with optimizer states that are shared out"] = "SHARD",
      } do
        it(name, function()
          local expected = trained(alone, 1, variable ~= "SHARD" and {[variable] = "1", STEPS = "20"} or {STEPS = "20"})
          local found = train(launcher, count, {[variable] = "1", STEPS = "20"})
          assert.is_true(largest_difference(expected, found) < 1e-6)
        end)
      end

      for recipe, dtypes in pairs {mixed = {"THIRTY_TWO"}, global_native = {"SIXTEEN", "THIRTY_TWO"}} do
        it("makes the same bits of weights that travel as codes, with the recipe " .. recipe, function()
          for _, dtype in ipairs(dtypes) do
            local function weights(shard)
              return train(launcher, count, {RECIPE = recipe, [dtype] = "1", SHARD = shard, STEPS = "10"})
            end
            -- Of float32 weights in a hardware format, the scale of what was decoded may differ by one rounding.
            local limit = dtype == "THIRTY_TWO" and recipe == "global_native" and 1e-6 or 0
            assert.is_true(largest_difference(weights "whole", weights "codes") <= limit)
          end
        end)
      end

      for others, victim in pairs {[1] = "all", [launcher == "mpirun" and 3 or 2] = "one"} do
        it(("goes on with %d ranks from its checkpoint after %s of two was killed"):format(others, victim), function()
          local expected, checkpoint = trained(alone, 1, {STEPS = "30"}), os.tmpname()
          os.remove(checkpoint)
          local _, status = ranks.run("training.lua", {launcher = launcher, count = count, environment = {
            STEPS = "30", SHARD = "1", CHECKPOINT = checkpoint, KILL = "17", VICTIM = victim, OUT = "/dev/null",
          }})
          assert.not_equal(0, status)
          local found = train(launcher, others, {STEPS = "30", SHARD = "1", CHECKPOINT = checkpoint})
          os.remove(checkpoint)
          found.norms = expected.norms
          assert.is_true(largest_difference(expected, found) < 1e-6)
        end)
      end

      it("sends gradients in one bucket or in one of each parameter, copied or from where they are", function()
        local expected = train(launcher, count, {BUCKET = "1", STEPS = "10"})
        for _, bucket in ipairs {"8000", "1000000", "10000000"} do
          assert.is_true(largest_difference(expected, train(launcher, count, {BUCKET = bucket, STEPS = "10"})) < 1e-6)
        end
      end)

      it("averages gradients in another dtype", function()
        local difference = largest_difference(trained(alone, 1, {STEPS = "10"}),
          train(launcher, count, {GRADIENT_DTYPE = "bf16", STEPS = "10"}))
        assert.is_true(difference < 1e-2 and difference > 1e-6)
      end)

      -- The script checks that all ranks end with the same weights.
      for name, variable in pairs {
        ["parameters that one rank does not use"] = "UNUSED", ["running means"] = "BUFFERS",
        ["histories of delayed scaling"] = "DELAYED",
      } do
        it("keeps ranks together with " .. name, function()
          train(launcher, count, {[variable] = "1", STEPS = "10"})
        end)
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
