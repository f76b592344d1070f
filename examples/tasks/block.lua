--- A block of today's language models by hand: RMSNorm, rotary embedding, shared heads of keys and values,
-- and SwiGLU. It learns to predict the next byte of a text. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options, read_text = require "fp8", require "options", require "text"
local kinds, nn = options.kinds, fp8.nn
local settings = options.read("block",
  "usage: luajit examples/tasks/block.lua [--text FILE] [--steps N] [--width N] [--device NAME]\n",
  {text = kinds.path, steps = kinds.whole, width = kinds.whole, device = kinds.device},
  {steps = 300, width = 128, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local batch, length, heads, kv_heads, features = 16, 64, 4, 2, settings.width / 4
fp8.set_default_device(settings.device)
fp8.manual_seed(1)
local Block = nn.Module:extend "Block"
function Block:init(width)
  self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
  self.qkv, self.out = fp8.Linear(width, (heads + 2 * kv_heads) * features, false), fp8.Linear(width, width, false)
  self.gate_up, self.down = fp8.Linear(width, 6 * width, false), fp8.Linear(3 * width, width, false)
end
function Block:forward(x)
  local all = self.qkv(self.norm1(x)):view(batch, length, -1, features):transpose(2, 3)
  local q, k, v = unpack(all:split({heads, kv_heads, kv_heads}, 2))
  local y = fp8.attention(fp8.rotary_embedding(q), fp8.rotary_embedding(k), v, {causal = true, enable_gqa = true})
  x = x + self.out(y:transpose(2, 3):reshape(batch, length, -1))
  local gate, up = unpack(self.gate_up(self.norm2(x)):chunk(2, -1))
  return x + self.down(gate:silu() * up)
end

local text, window = read_text(settings.text, settings.device), fp8.arange(length + 1, {dtype = "i64"})
local model = nn.Sequential(nn.Embedding(256, settings.width), Block(settings.width), Block(settings.width),
  nn.RMSNorm(settings.width), fp8.Linear(settings.width, 256))
local optimizer = fp8.optim.AdamW(model, {lr = 0.002})
for step = 1, settings.steps do
  local starts = fp8.randint(0, #text - length, {batch, 1})
  local rows = text:index_select(1, (starts + window):view(-1)):view(batch, length + 1)
  optimizer:zero_grad()
  local loss = fp8.cross_entropy(model(rows:narrow(2, 1, length)):view(-1, 256), rows:narrow(2, 2, length):reshape(-1))
  loss:backward()
  optimizer:step()
  if step % 50 == 0 or step == settings.steps then print(("step %d: %.3f nats a byte"):format(step, loss:item())) end
end
