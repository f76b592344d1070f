--- Trains a GPT on the bytes of a text, in several precisions from the same weights and in the same order, and lets it
-- write. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local LanguageModel = require "language_model"
local options = require "options"
local ranks = require "ranks"
local read_text = require "text"
local stepping = require "stepping"
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

local own_readers = {
  text = options.kinds.path, layers = options.kinds.whole, width = options.kinds.whole, heads = options.kinds.whole,
  context = options.kinds.whole, batch = options.kinds.whole, steps = options.kinds.whole,
  evaluate_every = options.kinds.whole, sample = options.kinds.count, prompt = options.kinds.text,
}

local sizes = {
  cuda = {layers = 6, width = 384, heads = 6, context = 256, batch = 64, steps = 1500, lr = 1e-3},
  cpu = {layers = 3, width = 128, heads = 4, context = 64, batch = 16, steps = 600, lr = 2e-3},
}

local vocabulary = 256

-- The text as what is learned and the tenth at its end, and a short one that tells it from others.
local function load_text(settings)
  local text, content = read_text(settings.text, settings.device)
  local bytes, least = #text, 10 * (settings.context + 1)
  if bytes < least then
    error(("the text has %d bytes: a context of %d needs at least %d"):format(bytes, settings.context, least), 0)
  end
  local learned = bytes - math.floor(bytes / 10)
  return text:narrow(1, 1, learned), text:narrow(1, learned + 1, bytes - learned), content
end

-- Inputs (n, context) and targets (n · context) at these positions of a text, i64 (n).
local function windows(text, starts, offsets)
  local count, length = #starts, #offsets
  local places = (starts:unsqueeze(2) + offsets):view(-1)
  local inputs = text:index_select(1, places):view(count, length)
  return inputs, text:index_select(1, places + 1)
end

-- Mean loss a byte, in nats, over windows side by side.
local function validation_loss(model, text, offsets, settings)
  local context, sum = settings.context, 0
  local count = math.floor((#text - 1) / context)
  for first = 0, count - 1, settings.batch do
    local rows = math.min(settings.batch, count - first)
    sum = sum + fp8.scope(function()
      local starts = fp8.arange(first, first + rows, 1, {dtype = "i64", device = settings.device}) * context
      local inputs, targets = windows(text, starts, offsets)
      return fp8.cross_entropy(model(inputs), targets, {reduction = "sum"}):item()
    end)
  end
  return sum / (count * context)
end

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

local function experiment(settings)
  local learned, held_out, content = load_text(settings)
  local on_device = {dtype = "i64", device = settings.device}
  local offsets = fp8.arange(0, settings.context, 1, on_device)

  local function build(precision, seed)
    local model = LanguageModel {
      vocabulary = vocabulary, context = settings.context, layers = settings.layers, width = settings.width,
      heads = settings.heads, layer_scale = settings.layer_scale and 0 or nil, dtype = precision.dtype,
      device = settings.device,
    }
    stepping.initialize(model, 0.02, settings.layers)
    local starts = fp8.zeros(ranks.share_of(settings.batch), on_device)
    local run = {model = model, steps = settings.steps, units = settings.batch * settings.context}

    function run.feed()
      starts:copy_(ranks.share(fp8.randint(0, #learned - settings.context, {settings.batch}, on_device)))
    end

    function run.loss()
      local inputs, targets = windows(learned, starts, offsets)
      return fp8.cross_entropy(model(inputs), targets)
    end

    function run.evaluate() return {validation = validation_loss(model, held_out, offsets, settings)} end

    function run.finish()
      if settings.sample == 0 or not ranks.is_first then return end
      fp8.manual_seed(seed)
      print(("\n%s\n"):format(fp8.no_grad(sample, model, settings.sample, settings)))
    end

    return run
  end

  return {
    name = "gpt", unit = "bytes", build = build,
    metrics = {{name = "nats a byte", key = "validation", format = "%.4f"}},
    settings = {"layers", "width", "heads", "context", "batch", "steps", "layer_scale"}, content = {text = content},
  }
end

options.main("gpt", function()
  local settings = training.options("gpt", usage, own_readers,
    {layer_scale = false, sample = 400, prompt = "\n", weight_decay = 0.1}, sizes)
  local work = experiment(settings)
  print(("%d layers of width %d, context %d, batch %d, on %s"):format(settings.layers, settings.width, settings.context,
    settings.batch, settings.device))
  if not training.compare(work, settings) then os.exit(1, true) end
end)
