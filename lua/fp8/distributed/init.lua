--- fp8.distributed: several processes, each with its share of the work and its GPU, that mpirun has started.
--
--     mpirun -n 2 luajit train.lua
--
-- On the CPU MPI computes, on GPUs NCCL. All ranks call the same functions, with tensors of the same shapes and dtypes.
-- Where they don't, where a rank has ended, and where one does not come within the timeout, every rank gets an error
-- that names the call and the rank; after the last two nothing can be sent any more.
local check_options = require "fp8.check_options"
local collectives = require "fp8.distributed.collectives"
local core = require "fp8.core"
local group = require "fp8.distributed.group"

local distributed = {}

for name, f in pairs(collectives) do distributed[name] = f end

--- fp8.distributed.init{timeout = 60}: joins the processes that were started together: by mpirun, or, with NCCL, by
-- torchrun or Slurm. A script that was started alone is rank 0 of 1. May be called again, with another timeout.
-- @param options {timeout = 60 seconds, in which the others must come, here and in every later call}
-- @return rank, size
--   local rank, size = fp8.distributed.init()
--   size - rank --> 1
function distributed.init(options)
  local timeout = check_options("init", options, {timeout = "number"}).timeout or 60
  if not (timeout > 0 and timeout < 1e9) then
    core.raise(("init: option timeout must be a number of seconds above 0, got %s"):format(tostring(timeout)))
  end
  local members = group.join(timeout)
  return members.rank, members.size
end

--- The number of this process, from 0.
--   fp8.distributed.init()
--   fp8.distributed.rank() --> 0
function distributed.rank() return group.of("rank").rank end

--- How many processes there are.
--   fp8.distributed.init()
--   fp8.distributed.size() --> 1
function distributed.size() return group.of("size").size end

--- The number of this process among those on its machine, from 0.
--   fp8.distributed.init()
--   fp8.distributed.local_rank() --> 0
function distributed.local_rank() return group.of("local_rank").local_rank end

--- The device of this process: "cuda:0" for local rank 0 and so on, or "cpu" where there is no GPU.
--   fp8.distributed.init()
--   type(fp8.distributed.device()) --> "string"
function distributed.device()
  group.of "device"
  return group.device()
end

--- Whether fp8.distributed.init has been called.
--   fp8.distributed.init()
--   fp8.distributed.is_initialized() --> true
function distributed.is_initialized() return group.is_joined() end

return require("fp8.library")("fp8.distributed", distributed)
