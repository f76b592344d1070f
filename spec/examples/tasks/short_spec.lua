-- Short scripts of examples/tasks, each in a tiny size: that it runs to its end and says what it is to say.
local support = require "spec.support"
local with_images = require "spec.support.images"

describe("examples/tasks", function()
  local directory = with_images()

  -- By script: options, and what it says: a pattern, and a check of what that finds.
  local function below(limit) return function(number) return number < limit end end
  local function above(limit) return function(number) return number > limit end end
  local tasks = {
    logistic_regression = {"--steps 60", "200 rows, ([%d.]+)%% right", above(85)},
    lora = {"--width 32 --rank 8 --epochs 12", "classes 5 to 9: ([%d.]+)%%", above(60)},
    sampling = {"--length 200 --text " .. support.path "README.md", "^.*$", function(text) return #text == 201 end},
    gradient_histogram = {"--steps 5 --width 16", "e5m2 +tensor +([%d.]+)", above(20)},
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
        local found = output:match(pattern)
        assert.is_truthy(found and check(tonumber(found) or found), output)
      end)
    end
  end)

  it("has a line in examples/README.md for every script, and a spec", function()
    local readme, specs = support.read_file "examples/README.md", ""
    for path in io.popen("ls spec/examples/tasks/*"):lines() do specs = specs .. support.read_file(path) end
    for path in io.popen("ls examples/tasks"):lines() do
      assert.is_truthy(readme:find("`tasks/" .. path, 1, true), path)
      local name = path:match "^(.*)%.lua$"
      assert.is_truthy(tasks[name] or specs:find("[^%w_]" .. name .. "%.lua"), path)
    end
  end)
end)
