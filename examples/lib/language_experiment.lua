--- An experiment (training.lua) with a GPT that learns the bytes of a text.
local fp8 = require "fp8"
local LanguageModel = require "language_model"
local options = require "options"
local ranks = require "ranks"
local read_text = require "text"
local stepping = require "stepping"

local language_experiment = {}

--- Readers of its options: the text and the sizes.
function language_experiment.readers()
  local kinds = options.kinds
  return {
    text = kinds.path, layers = kinds.whole, width = kinds.whole, heads = kinds.whole, context = kinds.whole,
    batch = kinds.whole, steps = kinds.whole, evaluate_every = kinds.whole,
  }
end

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

--- The experiment called `name`.
-- @param settings {text =, layers =, width =, heads =, context =, batch =, steps =, layer_scale =, device =}, as
--   training.options gives them
function language_experiment.new(name, settings)
  local learned, held_out, content = load_text(settings)
  local on_device = {dtype = "i64", device = settings.device}
  local offsets = fp8.arange(0, settings.context, 1, on_device)

  local function build(precision)
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

    return run
  end

  return {
    name = name, unit = "bytes", build = build,
    metrics = {{name = "nats a byte", key = "validation", format = "%.4f"}},
    settings = {"layers", "width", "heads", "context", "batch", "steps", "layer_scale"}, content = {text = content},
  }
end

return language_experiment
