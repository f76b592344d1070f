--- Trains a GPT on the bytes of a text, in several precisions from the same weights and in the same order, and lets it
-- write. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local language_experiment = require "language_experiment"
local options = require "options"
local ranks = require "ranks"
local training = require "training"

local usage = [[
usage: luajit examples/gpt.lua [options]                                    (default on the GPU, on the CPU)
  --text FILE      what it learns; gzip is fine (default: the file of Debian's package jargon-text)
  --layers N       transformer blocks (6, 3)
  --width N        features (384, 128)
  --heads N        of attention (6, 4)
  --context N      bytes that it sees (256, 64)
  --batch N        sequences in a step, of all ranks together (64, 16)
  --steps N        (1500, 600)
  --layer-scale    every block begins as the identity: its branches are scaled by 0 at first
  --evaluate-every N   steps between looks at the last tenth of the text, which it does not learn (default: at the end)
  --sample N       bytes written at the end (400)
  --prompt TEXT    what they go on from (a new line)
]]

local own_readers = language_experiment.readers()
own_readers.sample, own_readers.prompt = options.kinds.count, options.kinds.text

local sizes = {
  cuda = {layers = 6, width = 384, heads = 6, context = 256, batch = 64, steps = 1500, lr = 1e-3},
  cpu = {layers = 3, width = 128, heads = 4, context = 64, batch = 16, steps = 600, lr = 2e-3},
}

-- The position in a list of weights where a number from 0 to 1 falls.
local function pick(weights, number)
  local sum = 0
  for i, weight in ipairs(weights) do
    sum = sum + weight
    if number < sum then return i end
  end
  return #weights
end

-- Bytes that the model adds to a prompt, each drawn as likely as it says. The shape is always the same: what comes
-- after the last byte does not count, since the model looks back only.
local function sample(model, count, settings)
  local context, prompt = settings.context, settings.prompt
  local written, recent = {prompt}, {} -- pieces of text, and the bytes that the model sees
  for i = math.max(1, #prompt - context + 1), #prompt do recent[#recent + 1] = prompt:byte(i) end
  local input = fp8.zeros(1, context, {dtype = "u8", device = settings.device})
  for _ = 1, count do
    local length, row = #recent, {}
    for i = 1, context do row[i] = recent[i] or 0 end
    local likely = fp8.scope(function()
      input:copy_(fp8.tensor({row}, {dtype = "u8", device = settings.device}))
      return model(input):select(1, length):float():softmax(-1):totable()
    end)
    local byte = pick(likely, fp8.rand(1, {device = "cpu"}):item()) - 1
    written[#written + 1] = string.char(byte)
    if length == context then table.remove(recent, 1) end
    recent[#recent + 1] = byte
  end
  return (table.concat(written):gsub("[^\n\32-\126]", "."))
end

-- The experiment, with what the model writes at the end of a run.
local function experiment(settings)
  local work = language_experiment.new("gpt", settings)
  local build = work.build
  function work.build(precision, seed)
    local run = build(precision)
    function run.finish()
      if settings.sample == 0 or not ranks.is_first then return end
      fp8.manual_seed(seed)
      print(("\n%s\n"):format(fp8.no_grad(sample, run.model, settings.sample, settings)))
    end
    return run
  end
  return work
end

options.main("gpt", function()
  local settings = training.options("gpt", usage, own_readers,
    {layer_scale = false, sample = 400, prompt = "\n", weight_decay = 0.1}, sizes)
  local work = experiment(settings)
  print(("%d layers of width %d, context %d, batch %d, on %s"):format(settings.layers, settings.width, settings.context,
    settings.batch, settings.device))
  if not training.compare(work, settings) then os.exit(1, true) end
end)
