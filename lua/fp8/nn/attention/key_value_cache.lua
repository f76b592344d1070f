--- What attention keeps of earlier tokens, so that a text is continued without computing all of it again.
local autograd = require "fp8.autograd"
local core = require "fp8.core"
local shape_text = require("fp8.shapes").text

local raise = core.raise

local Cache = {}
Cache.__index = Cache

function Cache:__tostring() return ("KeyValueCache(%d positions)"):format(self:length()) end

-- A buffer (batch, heads, room, features) with the first positions of `before`, if that is given.
local function grown(x, before, length, room)
  local shape = core.shape(x)
  shape[3] = room
  local buffer = core.empty(shape, {dtype = core.dtype(x), device = core.device(x)})
  if before then
    local old, new = core.narrow(before, 3, 1, length), core.narrow(buffer, 3, 1, length)
    core.copy_(new, old)
    core.free(old)
    core.free(new)
  end
  core.keep(buffer) -- in whatever scope it is made
  return buffer
end

local function write(buffer, x, length)
  local place = core.narrow(buffer, 3, length + 1, core.size(x, 3))
  core.copy_(place, x)
  core.free(place)
end

local function check(entry, x)
  local kept, new = core.shape(entry.keys), core.shape(x)
  kept[3], new[3] = 0, 0
  if shape_text(kept) == shape_text(new) and core.dtype(x) == core.dtype(entry.keys) and
    core.device(x) == core.device(entry.keys) then
    return
  end
  raise(("KeyValueCache: keys are %s %s on %s, those before were %s %s on %s; position counts don't matter"):format(
    core.dtype(x), shape_text(new), core.device(x), core.dtype(entry.keys), shape_text(kept),
    core.device(entry.keys)))
end

--- cache:append(owner, keys, values): those of all positions so far, views (batch, heads, positions, features), of what
-- `owner`, an attention module, has; with these at the end. For fp8.no_grad: an error where they would need a gradient.
function Cache:append(owner, keys, values)
  if autograd.needs_grad(keys, values) then
    raise "KeyValueCache: earlier tokens get no gradients; continue a text inside fp8.no_grad"
  end
  local entry, count = self.entries[owner], core.size(keys, 3)
  local length, room = 0, 0
  if entry then
    check(entry, keys)
    length, room = entry.length, core.size(entry.keys, 3)
  end
  local total = length + count
  local kept = {keys = entry and entry.keys, values = entry and entry.values, length = total}
  if not entry or total > room then
    room = math.max(total, 2 * room)
    kept.keys, kept.values = grown(keys, kept.keys, length, room), grown(values, kept.values, length, room)
  end
  write(kept.keys, keys, length)
  write(kept.values, values, length)
  self.entries[owner] = kept
  return core.narrow(kept.keys, 3, 1, total), core.narrow(kept.values, 3, 1, total)
end

--- cache:length(): how many positions it has of what `owner` has, or, where none is given, the fewest that any module
-- has: before a step that is what all of them have, 0 in a new one.
function Cache:length(owner)
  if owner ~= nil then return self.entries[owner] and self.entries[owner].length or 0 end
  local fewest
  for _, entry in next, self.entries do fewest = math.min(fewest or entry.length, entry.length) end
  return fewest or 0
end

jit.off(Cache.length) -- nn/module.lua says why

--- fp8.nn.KeyValueCache(): an empty cache, for all attention modules of a model:
--
--   local cache, attention = fp8.nn.KeyValueCache(), fp8.nn.MultiHeadAttention(8, 2, {causal = true})
--   local y = fp8.no_grad(attention, fp8.randn(1, 5, 8), {cache = cache}) -- a prompt of 5 positions
--   for i = 1, 3 do
--     y = fp8.no_grad(attention, y:narrow(2, y:size(2), 1), {cache = cache}) -- one position each
--   end
--   cache:length() --> 8
--
-- One is of one text, or of a batch of texts of one length. It grows as it has to, to twice its room. After an error in
-- the middle of a step some modules have one position more than others: begin with a new cache.
return function(...)
  if select("#", ...) > 0 then raise "KeyValueCache: it takes no arguments" end
  return setmetatable({entries = {}}, Cache)
end
