--- fp8.load of tables of numbers, and fp8.save of what it gives.
local fp8 = require "fp8"
local compare = require "spec.fuzz.compare"

local function read(path)
  assert(os.rename(path, path .. ".csv"))
  local tensor, names = fp8.load(path .. ".csv")
  return {tensor = tensor, names = names}
end

local function verify(found, _, path)
  path = path .. ".csv"
  if found.tensor:numel() == 0 and not found.names then return end
  fp8.save(path, found.tensor, {names = found.names})
  local tensor, names = fp8.load(path)
  compare.same("names", found.names, names)
  -- A NaN may have other bits.
  local same = tensor:eq(found.tensor):logical_or(tensor:isnan():logical_and(found.tensor:isnan()))
  compare.same("shape", table.concat(found.tensor.shape, "x"), table.concat(tensor.shape, "x"))
  compare.same("numbers are the same", 1, tensor:numel() == 0 and 1 or same:min():item())
end

local pieces = {
  ",", "\n", "\r\n", '"', '""', "1", "-2.5", "1e5", "nan", "-inf", "name", " ", "#", "\0", ".", "e", "+", "1e-45",
  "3.5e38",
}

local function mutate(bytes, longest, random, mutate_bytes)
  if random(3) == 1 then return mutate_bytes(bytes, longest) end
  local place = random(#bytes + 1)
  return (bytes:sub(1, place - 1) .. pieces[random(#pieces)] .. bytes:sub(place + random(3) - 1)):sub(1, longest)
end

local kinds = {}
for kind in ([[
there are no rows
row … has a zero byte: this is no text
row … has a carriage return inside
row …: a quote is not closed
row …: there is text after a quote
row … has … columns, the first one has …
row …, column …: … is not a number
]]):gmatch "[^\n]+" do kinds[#kinds + 1] = "load: FILE.csv: " .. kind end

return {
  files = {"lua/fp8/files/csv.lua"},
  kinds = kinds,
  memory = function(bytes) return 8 * #bytes + 64 end,
  read = read, verify = verify, mutate = mutate,
}
