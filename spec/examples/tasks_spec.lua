-- examples/tasks, each in a tiny size: that it runs to its end and says what it is to say.
local support = require "spec.support"
local with_images = require "spec.support.images"

describe("examples/tasks", function()
  local directory = with_images()

  -- By script: options, and what the last lines say: a pattern with a number, and a check of that.
  local function below(limit) return function(number) return number < limit end end
  local function above(limit) return function(number) return number > limit end end
  local tasks = {
    logistic_regression = {"--steps 60", "200 rows, ([%d.]+)%% right", above(85)},
    mlp = {"--epochs 12 --width 32", "epoch 12: ([%d.]+)%%", above(90)},
    accumulation = {"--batch 96 --parts 5 --width 32", "gradients differ by ([%d.e+-]+)", below(1e-5)},
    distillation = {"--epochs 12 --width 8", "student of the teacher: ([%d.]+)%%", above(60)},
    kmeans = {"--clusters 12 --steps 6", "([%d.]+)%% in a cluster", above(60)},
    pca = {"--components 3 --steps 30", "component 3: .* ([%d.]+)%% explained", above(25)},
    vae = {"--epochs 3 --width 16 --latent 2", "epoch 3: ([%d.]+) nats", below(545)},
  }

  support.each_device(function(device)
    for name, task in support.sorted_pairs(tasks) do
      it(("%s runs on %s"):format(name, device), function()
        local options, pattern, check = unpack(task)
        local command = ("%s %s --device %s"):format(support.path("examples/tasks/" .. name .. ".lua"), options, device)
        local ok, output = support.run(command, "FASHION_MNIST=" .. directory)
        assert.is_true(ok, output)
        local number = tonumber((output:match(pattern)))
        assert.is_truthy(number and check(number), output)
      end)
    end
  end)

  it("has a line in examples/README.md for every script", function()
    local readme = support.read_file "examples/README.md"
    for path in io.popen("ls examples/tasks"):lines() do
      assert.is_truthy(readme:find("tasks/" .. path, 1, true), path)
      local name = path:match "^(.*)%.lua$"
      assert.is_truthy(tasks[name], path .. " is not run here")
    end
  end)
end)
