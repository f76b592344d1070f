--- The perplexity of a language model on the last tenth of a text: e to the mean loss of a byte, which sees up to
-- `context` bytes before it. The model is trained on the rest first. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options, read_text = require "fp8", require "options", require "text"
local LanguageModel = require "language_model"

local kinds = options.kinds
local settings = options.read("perplexity",
  "usage: luajit examples/tasks/perplexity.lua [--text FILE] [--steps N] [--width N] [--device NAME]\n",
  {text = kinds.path, steps = kinds.whole, width = kinds.whole, device = kinds.device},
  {steps = 200, width = 128, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local batch, context = 16, 64
fp8.set_default_device(settings.device)
fp8.manual_seed(1)
local text, window = read_text(settings.text, settings.device), fp8.arange(context + 1, {dtype = "i64"})
local model = LanguageModel {vocabulary = 256, context = context, layers = 2, width = settings.width, heads = 4}
local optimizer = fp8.optim.AdamW(model, {lr = 0.002})
local trained = math.floor(#text * 0.9)
for _ = 1, settings.steps do
  local starts = fp8.randint(0, trained - context, {batch, 1})
  local rows = text:index_select(1, (starts + window):view(-1)):view(batch, context + 1)
  optimizer:zero_grad()
  model:loss(rows:narrow(2, 1, context), rows:narrow(2, 2, context):contiguous()):backward()
  optimizer:step()
end

model:eval()
local total, count, stride = 0, 0, context / 2
for first = trained, #text - context, stride do
  total = total + fp8.no_grad(fp8.scope, function()
    local bytes = text:narrow(1, first, context + 1)
    local logits = model(bytes:narrow(1, 1, context):view(1, context))
    -- What the window before had already is not counted again: every byte has at least half of the context.
    return fp8.cross_entropy(logits:narrow(1, stride + 1, stride), bytes:narrow(1, stride + 2, stride),
      {reduction = "sum"}):item()
  end)
  count = count + stride
end
print(("perplexity %.3f, %.3f bits a byte, over %d bytes"):format(math.exp(total / count),
  total / count / math.log(2), count))
