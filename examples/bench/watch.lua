--- What fp8.watch costs a training step of a GPT: unwatched, recorded and average steps, eager and, on a GPU, as
-- graphs. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local fp8 = require "fp8"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/watch.lua [options]
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --recipes LIST  of the linear layers: names in fp8.recipes (default mixed,global,global_native)
  --layers N      blocks (default 6; on the CPU 2)
  --width N       features (default 384; on the CPU 64)
  --context N     positions (default 256; on the CPU 32)
  --batch N       sequences (default 64; on the CPU 4)
  --every N       steps from one recorded to the next (default 10)
  --steps N       samples of a measurement, whose median is printed (default 50)
  --help          this text

Times are in milliseconds. "average" is of N steps one of which is recorded, as "every" has it.
]]

local vocabulary = 256

local Gpt = fp8.nn.Module:extend "Gpt"

function Gpt:init(options)
  local on = {dtype = "bf16", device = options.device}
  self.tokens = fp8.nn.Embedding(vocabulary, options.width, on)
  self.positions = fp8.nn.Embedding(options.context, options.width, on)
  self.blocks = fp8.nn.Sequential()
  for i = 1, options.layers do
    self.blocks[i] = fp8.nn.TransformerBlock(options.width, math.max(1, options.width / 64),
      {causal = true, dtype = on.dtype, device = on.device})
  end
  self.norm = fp8.nn.LayerNorm(options.width, on)
  self.head = fp8.Linear(options.width, vocabulary, on)
  self.places = fp8.arange(options.context, {dtype = "i64", device = options.device})
end

function Gpt:forward(ids)
  return self.head(self.norm(self.blocks(self.tokens(ids) + self.positions(self.places))))
end

-- A training step of a model with this recipe, and the model.
local function training(recipe, options)
  fp8.manual_seed(1)
  local model = fp8.convert(Gpt(options), recipe, function(name) return name ~= "head" end)
  local optimizer = fp8.optim.AdamW(model, {lr = 1e-4})
  local on = {dtype = "i64", device = options.device}
  local ids = fp8.randint(0, vocabulary, {options.batch, options.context}, on)
  local targets = fp8.randint(0, vocabulary, {options.batch * options.context}, on)
  local function step()
    optimizer:zero_grad()
    local loss = fp8.cross_entropy(model(ids):view(-1, vocabulary):float(), targets)
    loss:backward()
    optimizer:step()
    return loss
  end
  return step, model
end

-- Milliseconds of a step as `make` has it for a watcher with this interval, or, without one, of an unwatched step.
local function time(make, model, every, options)
  local watcher = every and fp8.watch(model, {every = every})
  local work = make(watcher)
  local steps = every or 1
  local microseconds = measure.time(function()
    for _ = 1, steps do
      work()
      if watcher then watcher:step() end
    end
  end, {device = options.device, samples = options.steps, seconds = 20})
  if watcher then watcher:close() end
  return microseconds / 1000 / steps
end

local function report(recipe, kind, make, model, options)
  local plain = time(make, model, nil, options)
  local recorded, average = time(make, model, 1, options), time(make, model, options.every, options)
  print(("%-16s %-6s %9.3f %9.3f %+7.1f %% %9.3f %+7.2f %%"):format(recipe, kind, plain, recorded,
    (recorded / plain - 1) * 100, average, (average / plain - 1) * 100))
end

measure.main(function()
  local options = measure.options(usage, {
    device = tostring, recipes = measure.names(fp8.recipes), layers = measure.whole, width = measure.whole,
    context = measure.whole, batch = measure.whole, every = measure.whole, steps = measure.whole,
  }, {device = measure.default_device(), recipes = {"mixed", "global", "global_native"}, every = 10, steps = 50})
  local small = options.device == "cpu"
  for name, sizes in pairs {layers = {6, 2}, width = {384, 64}, context = {256, 32}, batch = {64, 4}} do
    options[name] = options[name] or sizes[small and 2 or 1]
  end
  print(("%s: %d layers, width %d, context %d, batch %d, bf16, every %d steps"):format(
    measure.device_name(options.device), options.layers, options.width, options.context, options.batch, options.every))
  print "recipe           way    unwatched  recorded            average"
  for _, recipe in ipairs(options.recipes) do
    local step, model = training(recipe, options)
    report(recipe, "eager", function() return step end, model, options)
    if not small then
      report(recipe, "graph", function(watcher)
        if watcher then return watcher:graph(step, options.device) end
        return fp8.cuda.graph(step, options.device)
      end, model, options)
    end
  end
end)
