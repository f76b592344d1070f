--- Sampling with top-k: a table of which byte follows which two in a text, and text drawn from the k likeliest.
-- Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options, read_text = require "fp8", require "options", require "text"

local kinds = options.kinds
local settings = options.read("sampling",
  "usage: luajit examples/tasks/sampling.lua [--text FILE] [--top N] [--temperature X] [--length N] [--device NAME]\n",
  {text = kinds.path, top = kinds.whole, temperature = kinds.positive, length = kinds.whole, device = kinds.device},
  {top = 10, temperature = 1, length = 300, device = fp8.cuda.is_available() and "cuda" or "cpu"})
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local text = read_text(settings.text, settings.device):to "i64"
local count = text:size(1)
local context = text:narrow(1, 1, count - 2) * 256 + text:narrow(1, 2, count - 2)
local following = (context * 256 + text:narrow(1, 3, count - 2)):bincount():float()

--- The counts of what follows two bytes, less what is not among the k most frequent.
local function likeliest(first, second)
  local row = fp8.zeros(256)
  local start = (first * 256 + second) * 256
  local known = math.max(0, math.min(256, following:size(1) - start))
  if known > 0 then row:narrow(1, 1, known):copy_(following:narrow(1, start + 1, known)) end
  local values, bytes = row:topk(math.min(settings.top, 256), 1)
  return values, bytes
end

local first, second = text[1]:item(), text[2]:item()
local drawn = {string.char(first, second)}
for i = 2, settings.length - 1 do
  local values, bytes = likeliest(first, second)
  if values:sum():item() == 0 then break end -- the text ends with these two
  local choice = (values ^ (1 / settings.temperature)):multinomial(1)
  first, second = second, bytes:index_select(1, choice):item()
  drawn[i] = string.char(second)
end
print((table.concat(drawn):gsub("[^\n\32-\126]", "?")))
