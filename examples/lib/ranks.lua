--- What the examples do where mpirun has started several processes: each trains with its share of every batch, and the
-- first one prints and writes files.
local fp8 = require "fp8"

local rank, size = fp8.distributed.init()

local ranks = {rank = rank, size = size, is_first = rank == 0}

--- To be called once the options are read: settings.device "cuda" becomes a GPU of this rank's own.
function ranks.begin(settings)
  if settings.device == "cuda" then settings.device = fp8.distributed.device() end
  if settings.batch and settings.batch % size ~= 0 then
    error(("a batch of %d can't be shared equally by %d ranks"):format(settings.batch, size), 0)
  end
  if rank == 0 then return end
  _G.print = function() end
  io.output "/dev/null"
  settings.csv, settings.watch_csv = nil, nil
end

--- How much of a batch is a rank's.
function ranks.share_of(batch) return batch / size end

--- This rank's rows of what belongs to a whole batch.
function ranks.share(tensor)
  local count = #tensor / size
  return tensor:narrow(1, rank * count + 1, count)
end

--- The mean over all ranks of a list of numbers.
function ranks.mean(values)
  if size == 1 or #values == 0 then return values end
  return fp8.distributed.all_reduce_(fp8.tensor(values, {dtype = "f32", device = "cpu"}), "mean"):totable()
end

--- Has the gradients of a model become means over all ranks, from here on.
function ranks.join(model)
  if size > 1 then fp8.nn.DataParallel(model) end
end

return ranks
