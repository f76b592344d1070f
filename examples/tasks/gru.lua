--- A GRU that learns to predict the next byte of a text, and continues it. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options, read_text = require "fp8", require "options", require "text"
local kinds, nn = options.kinds, fp8.nn
local settings = options.read("gru",
  "usage: luajit examples/tasks/gru.lua [--text FILE] [--steps N] [--width N] [--sample N] [--device NAME]\n",
  {text = kinds.path, steps = kinds.whole, width = kinds.whole, sample = kinds.count, device = kinds.device},
  {steps = 300, width = 256, sample = 200, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local batch, length = 32, 64
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local text, window = read_text(settings.text, settings.device), fp8.arange(length + 1, {dtype = "i64"})
local embedding, gru = nn.Embedding(256, settings.width), nn.GRU(settings.width, settings.width, {batch_first = true})
local head = fp8.Linear(settings.width, 256)
local optimizer = fp8.optim.AdamW(nn.ModuleList {embedding, gru, head}, {lr = 0.003})

for step = 1, settings.steps do
  local starts = fp8.randint(0, #text - length, {batch, 1})
  local rows = text:index_select(1, (starts + window):view(-1)):view(batch, length + 1)
  optimizer:zero_grad()
  local output = gru(embedding(rows:narrow(2, 1, length)))
  local loss = fp8.cross_entropy(head(output):view(-1, 256), rows:narrow(2, 2, length):reshape(-1))
  loss:backward()
  fp8.optim.clip_grad_norm(optimizer.parameters, 1)
  optimizer:step()
  if step % 50 == 0 or step == settings.steps then print(("step %d: %.3f nats a byte"):format(step, loss:item())) end
end

fp8.no_grad(function()
  local bytes, output, state = {}, gru(embedding(text:narrow(1, 1, length):view(1, length)))
  for i = 1, settings.sample do
    local logits = head(output:select(2, -1)) / 0.7
    local noise = -fp8.rand(1, 256):clamp(1e-20, 1):log():neg():log() -- the largest is a draw by the probabilities
    local byte = (logits + noise):argmax(-1)
    bytes[i] = string.char(byte:item())
    output, state = gru(embedding(byte:view(1, 1)), state)
  end
  print((table.concat(bytes):gsub("[^\n\32-\126]", "?")))
end)
