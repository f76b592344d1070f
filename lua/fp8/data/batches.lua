--- Batches of rows, shuffled by a generator of their own.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local permutation = require "fp8.data.permutation"

local raise = core.raise

local defaults = {batch = 64, shuffle = false, drop_last = false, seed = 0, rank = 0, ranks = 1}
local known_options = {batch = "number", shuffle = "boolean", drop_last = "boolean", seed = "number", rank = "number",
  ranks = "number"}

local function drawn_seed()
  return core.item(core.randint(0, 2^31, {1}, {dtype = "i64", device = "cpu"}))
end

local function read_options(options)
  options = check_options("batches", options, known_options)
  local settings = {}
  for name, default in pairs(defaults) do settings[name] = default end
  for name, value in pairs(options) do settings[name] = value end
  if settings.shuffle and not options.seed then settings.seed = drawn_seed() end
  for name, least in pairs {batch = 1, seed = 0, rank = 0, ranks = 1} do
    local value = settings[name]
    if not is_whole(value, least) then
      raise(("batches: option %s must be a whole number of at least %d, got %s"):format(name, least, value))
    end
  end
  if settings.rank >= settings.ranks then
    raise(("batches: option rank must be below the %d ranks, got %d"):format(settings.ranks, settings.rank))
  end
  return settings
end

-- The mean over a batch is the mean of its shares' means only if those are equal.
local function check_shares(rows, settings)
  local last = settings.drop_last and 0 or rows % settings.batch
  for name, length in pairs {batch = settings.batch, ["last batch"] = last} do
    if length % settings.ranks ~= 0 then
      raise(("batches: the %s of %d rows can't be shared equally by %d ranks%s"):format(name, length, settings.ranks,
        name == "batch" and "" or "; drop_last = true leaves it out"))
    end
  end
end

local function check_tensors(tensors)
  if type(tensors) ~= "table" or #tensors == 0 then raise("batches: a list of tensors is needed") end
  local rows
  for i = 1, #tensors do
    if not core.is_tensor(tensors[i]) then
      raise(("batches: tensor %d must be a tensor, got %s"):format(i, type(tensors[i])))
    elseif core.rank(tensors[i]) == 0 then
      raise(("batches: tensor %d has no dimensions"):format(i))
    end
    local own = core.size(tensors[i], 1)
    rows = rows or own
    if own ~= rows then raise(("batches: tensors 1 and %d have %d and %d rows"):format(i, rows, own)) end
  end
  return rows
end

--- for x, y in fp8.data.batches({images, labels}, {batch = 128, shuffle = true, seed = epoch}) do … end
--
-- One pass over the rows of tensors, which may be on any device; the batches are where their tensors are. The same seed
-- gives the same order everywhere; without one the order comes from fp8's generator, which fp8.manual_seed sets.
-- @param tensors list of tensors with the same size of dimension 1
-- Several processes (fp8.distributed) each take their share of every batch, rank 0 the first rows, so that together
-- they go through the same batches in the same order whatever their number:
--
--     fp8.data.batches(tensors, {batch = 128, rank = fp8.distributed.rank(), ranks = fp8.distributed.size()})
--
-- @param options {batch = 64 rows, shuffle = false, seed =, drop_last = false: whether a last short batch is left out,
--   rank = 0, ranks = 1}
-- @return an iterator that gives one batch of each tensor
--   local sums = {}
--   for x in fp8.data.batches({fp8.arange(5)}, {batch = 2}) do table.insert(sums, x:sum():item()) end
--   sums --> {1, 5, 4}
return function(tensors, options)
  local rows, settings = check_tensors(tensors), read_options(options)
  check_shares(rows, settings)
  local order = {} -- by device
  if settings.shuffle then
    local positions = permutation(rows, settings.seed)
    for i = 1, #tensors do
      local device = core.device(tensors[i])
      order[device] = order[device] or core.to(positions, {device = device})
    end
  end
  local start, stop = 1, settings.drop_last and rows - rows % settings.batch or rows
  local function next_batch()
    if start > stop then return nil end
    local whole, batch = math.min(settings.batch, stop - start + 1), {}
    local length = whole / settings.ranks
    local first = start + settings.rank * length
    for i = 1, #tensors do
      local positions = order[core.device(tensors[i])]
      if positions then
        batch[i] = core.index_select(tensors[i], 1, core.narrow(positions, 1, first, length))
      else
        batch[i] = core.narrow(tensors[i], 1, first, length)
      end
    end
    start = start + whole
    return unpack(batch)
  end
  jit.off(next_batch) -- compiled code would keep the tensors alive (nn/module.lua)
  return next_batch
end
