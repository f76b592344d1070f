--- The group of processes that this one belongs to, and its library, which is loaded when a script joins the others.
local core = require "fp8.core"
local beside_core = require "fp8.beside_core"
local cuda = require "fp8.cuda"

local raise = core.raise

local group = {}

local members -- {rank =, size =, local_rank =, medium =, reduces =} once the group has been joined

-- Variables in which launchers say how many processes there are.
local launchers = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE", "SLURM_NTASKS"}

local function launched()
  for _, name in ipairs(launchers) do
    local count = tonumber(os.getenv(name) or "")
    if count and count > 1 then return name, count end
  end
end

local function open(variable, count)
  local path = beside_core "distributed"
  if not path then raise "init: fp8's core.so can't be looked up now" end
  local file = io.open(path)
  if not file then
    raise(("init: %s says that there are %d processes, but fp8 was built without MPI and NCCL (there is no %s)"):format(
      variable, count, path))
  end
  file:close()
  local opened, reason = core.distributed_open(path)
  if not opened then raise("init: " .. reason) end
end

--- Joins the others; where there are none, in a script that no launcher has started, nothing is loaded.
-- @param timeout in seconds
function group.join(timeout)
  local variable, count = launched()
  if not variable then
    members = members or {rank = 0, size = 1, local_rank = 0, medium = "none", reduces = true}
    return members
  end
  open(variable, count)
  local found, reason = core.distributed_start(timeout)
  if not found then raise("init: " .. reason) end
  members = found
  return members
end

--- {rank =, size =, local_rank =, medium =, reduces =}; an error where the group has not been joined.
-- @param name of the function, for errors
function group.of(name)
  return members or raise(name .. ": call fp8.distributed.init() first")
end

--- Whether it has been joined.
function group.is_joined() return members ~= nil end

--- Raises what has gone wrong between ranks.
function group.fail(name, reason)
  raise(("%s: rank %d of %d: %s"):format(name, members.rank, members.size, reason))
end

--- Raises it unless a call between ranks, whose results are the last arguments, was done.
function group.check(name, done, reason)
  if not done then group.fail(name, reason) end
end

--- The device of this rank: a GPU of its own where there are GPUs, one after the other on each machine; an error on the
-- ranks that have none left.
function group.device()
  local count = cuda.device_count()
  if count == 0 then return "cpu" end
  if members.local_rank >= count then
    group.fail("device", ("GPUs of this machine: %d, and each rank needs one of its own: start fewer ranks, "
      .. "or all on the CPU with CUDA_VISIBLE_DEVICES= "):format(count))
  end
  return ("cuda:%d"):format(members.local_rank)
end

return group
