--- What the ranks of one run (fp8.distributed) have recorded, each of its share of the batches, as if of all of them:
-- counts and sums are added, and of largest numbers the largest counts. Weights, which all have, are rank 0's.
local core = require "fp8.core"
local ffi = require "ffi"
local comparison = require "fp8.watch.compare"

local ranks = {}

--- fp8.distributed where this process is one of several, or nil.
function ranks.joined()
  local distributed = package.loaded["fp8.distributed"]
  return distributed and distributed.is_initialized() and distributed.size() > 1 and distributed or nil
end

--- Whether each rank has values of its own of what an entry is about.
function ranks.differ(entry) return not entry.tensor:find "^weight" end

-- Two maxima; NaN stays.
local function largest(a, b) return (a ~= a or a > b) and a or b end

-- Adds what one rank has to what those before it had.
local function add(total, row)
  if row.nonfinite > 0 and total.nonfinite == 0 then total.first_nonfinite = total.count + row.first_nonfinite end
  for _, field in ipairs {
    "count", "zeros", "nonfinite", "underflow", "saturated", "sum", "square_sum", "error_square_sum",
  } do
    total[field] = total[field] + row[field]
  end
  total.absmax = largest(total.absmax, row.absmax)
  total.relative_error = largest(total.relative_error, row.relative_error)
end

-- The same of the part for blocks (blocks.lua): how many, how many are dominated, and quantiles, of which the least and
-- the largest are those of all, and the others means of the ranks'.
local function add_blocks(total, row, count)
  local before, more = tonumber(total[0]), tonumber(row[0])
  if more == 0 then return end
  for i = 2, count - 1 do
    local one, other = tonumber(total[i]), tonumber(row[i])
    local mean = (one * before + other * more) / (before + more)
    if before > 0 and i == 2 then mean = math.min(one, other) end
    if before > 0 and i == count - 1 then mean = math.max(one, other) end
    total[i] = math.floor(mean + 0.5)
  end
  total[0], total[1] = total[0] + row[0], total[1] + row[1]
end

--- Rows of recorded steps, as all ranks have them, as one; all call this.
-- @param rows    on the CPU (steps, entries, words)
-- @param entries of the watcher
function ranks.merge(distributed, rows, entries)
  local size, count, words = distributed.size(), core.numel(rows), core.size(rows, 3)
  local gathered = distributed.all_gather(rows)
  local data = ffi.cast("int64_t *", core.data(gathered))
  for rank = 1, size - 1 do
    for place = 0, count - 1, words do
      if ranks.differ(entries[place / words % #entries + 1]) then
        local total, row = data + place, data + rank * count + place
        add(comparison.row_of(total), comparison.row_of(row))
        if words > comparison.words then
          add_blocks(total + comparison.words, row + comparison.words, words - comparison.words)
        end
      end
    end
  end
  return core.clone(core.narrow(gathered, 1, 1, core.size(rows, 1)))
end

--- The shape of an entry's tensor on all ranks together.
function ranks.shape(distributed, entry, shape)
  if not ranks.differ(entry) or #shape == 0 then return shape end
  local whole = {unpack(shape)}
  whole[1] = whole[1] * distributed.size()
  return whole
end

return ranks
