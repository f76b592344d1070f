--- What all ranks do together with tensors. Before anything is sent they agree on it (src/distributed/group.c).
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local group = require "fp8.distributed.group"
local is_whole = require "fp8.is_whole"
local shape_text = require("fp8.shapes").text

local raise = core.raise

local collectives = {}

local reductions = {sum = true, mean = true, max = true, min = true, product = true}

local function check_tensor(name, x)
  if not core.is_tensor(x) then raise(("%s: a tensor is needed, got %s"):format(name, type(x))) end
end

-- For a function whose result is not recorded: a gradient would be lost.
local function check_untracked(name, x)
  check_tensor(name, x)
  if autograd.needs_grad(x) then
    raise(name .. ": gradients don't pass from rank to rank; use fp8.no_grad or :detach()")
  end
end

local function check_rank(name, what, rank, members)
  if not is_whole(rank, 0) or rank >= members.size then
    raise(("%s: %s must be a rank from 0 to %d, got %s"):format(name, what, members.size - 1, tostring(rank)))
  end
end

local function check_reduction(name, reduction, x)
  if not reductions[reduction] then
    raise(('%s: the reduction must be "sum", "mean", "max", "min" or "product", got %s'):format(name,
      tostring(reduction)))
  end
  local dtype = core.dtype(x)
  local kind = core.dtypes[dtype].kind
  if kind == "float8" then
    raise(("%s: %s tensors are codes, whose scale may differ from rank to rank: reduce what they stand for, in f32, " ..
      "bf16 or f16"):format(name, dtype))
  elseif kind == "integer" and reduction == "mean" then
    raise(("%s: the mean of %s tensors is no integer; reduce to the sum"):format(name, dtype))
  end
end

local function describe(name, x, ...)
  local words = {...}
  words[#words + 1] = ("%s %s on %s"):format(core.dtype(x), shape_text(core.shape(x)), core.device(x):match "^%a+")
  return ("%s(%s)"):format(name, table.concat(words, ", "))
end

local function agree(name, call, rank) group.check(name, core.distributed_agree(call, rank)) end

-- `x` where the transfer takes it: contiguous, and on a GPU where nothing is computed on the CPU.
local function taken(x, members)
  local whole = core.contiguous(x)
  if members.reduces or core.device(x) ~= "cpu" then return whole end
  return core.to(whole, {device = group.device()})
end

-- Calls f(y, argument), y being x or a copy of it, which becomes x.
local function in_place(name, f, x, argument, members)
  local y = taken(x, members)
  group.check(name, f(y, argument))
  if y == x then return x end
  core.copy_(x, y)
  core.free(y)
  return x
end

--- fp8.distributed.all_reduce_(x, reduction): each element becomes the sum over all ranks, or its "mean", "max",
-- "min" or "product". Sums of bf16 and f16 tensors are float32 on the CPU, and as NCCL has them on GPUs. Float8
-- tensors are refused: their codes have scales.
-- @return x
--   fp8.distributed.init()
--   fp8.distributed.all_reduce_(fp8.ones(2)) --> {1, 1}
function collectives.all_reduce_(x, reduction)
  local name = "all_reduce_"
  local members = group.of(name)
  check_tensor(name, x)
  autograd.check_in_place(name, x)
  reduction = reduction or "sum"
  check_reduction(name, reduction, x)
  if members.size == 1 then return x end
  agree(name, describe(name, x, reduction))
  return in_place(name, core.distributed_all_reduce, x, reduction, members)
end

--- fp8.distributed.broadcast_(x, source): x becomes that of rank `source` (0), bit for bit, of any dtype.
-- @return x
--   fp8.distributed.init()
--   fp8.distributed.broadcast_(fp8.ones(2), 0) --> {1, 1}
function collectives.broadcast_(x, source)
  local name = "broadcast_"
  local members = group.of(name)
  check_tensor(name, x)
  autograd.check_in_place(name, x)
  source = source or 0
  check_rank(name, "the source", source, members)
  if members.size == 1 then return x end
  agree(name, describe(name, x, "from " .. source))
  return in_place(name, core.distributed_broadcast, x, source, members)
end

-- A new tensor like y, whose first dimension is `rows`, on the device that x is on.
local function gathered(name, f, x, rows, members, reduction)
  local y = taken(x, members)
  local shape = core.shape(y)
  shape[1] = rows
  local out = core.empty(shape, {dtype = core.dtype(y), device = core.device(y)})
  group.check(name, f(out, y, reduction))
  if y ~= x then core.free(y) end
  return core.device(out) == core.device(x) and out or core.to(out, {device = core.device(x)})
end

--- fp8.distributed.all_gather(x): the tensors of all ranks, in their order, joined along the first dimension, of any
-- dtype; numbers become a list.
-- @param x of the same shape on all ranks
--   fp8.distributed.init()
--   fp8.distributed.all_gather(fp8.tensor {1, 2}) --> {1, 2}
function collectives.all_gather(x)
  local name = "all_gather"
  local members = group.of(name)
  check_untracked(name, x)
  local rows = core.rank(x) == 0 and core.view(x, {1}) or x
  if members.size == 1 then return core.clone(rows) end
  agree(name, describe(name, x))
  return gathered(name, core.distributed_all_gather, rows, core.size(rows, 1) * members.size, members)
end

--- fp8.distributed.reduce_scatter(x, reduction): what all_reduce_ would make of x, of which each rank gets its share of
-- rows: rank 0 the first ones.
-- @param x whose first dimension is a multiple of the number of ranks
--   fp8.distributed.init()
--   fp8.distributed.reduce_scatter(fp8.tensor {1, 2}) --> {1, 2}
function collectives.reduce_scatter(x, reduction)
  local name = "reduce_scatter"
  local members = group.of(name)
  check_untracked(name, x)
  reduction = reduction or "sum"
  check_reduction(name, reduction, x)
  if core.rank(x) == 0 or core.size(x, 1) % members.size ~= 0 then
    raise(("%s: the first dimension must be a multiple of the %d ranks, the shape is %s"):format(name, members.size,
      shape_text(core.shape(x))))
  end
  if members.size == 1 then return core.clone(x) end
  agree(name, describe(name, x, reduction))
  return gathered(name, core.distributed_reduce_scatter, x, core.size(x, 1) / members.size, members, reduction)
end

local function check_other(name, what, rank, members)
  check_rank(name, what, rank, members)
  if rank == members.rank then raise(("%s: rank %d is this one"):format(name, rank)) end
end

-- Of both sides the same.
local function message(x, from, to)
  return ("%s from rank %d to rank %d"):format(describe("a message", x), from, to)
end

--- fp8.distributed.send(x, rank): sends x to another rank, which has to call recv_ with a tensor of its shape and
-- dtype.
--   local sent = pcall(fp8.distributed.send, fp8.ones(2), 1) -- there is no rank 1
--   sent --> false
function collectives.send(x, rank)
  local members = group.of "send"
  check_untracked("send", x)
  check_other("send", "the receiver", rank, members)
  agree("send", message(x, members.rank, rank), rank)
  local y = taken(x, members)
  group.check("send", core.distributed_send(y, rank))
  if y ~= x then core.free(y) end
end

--- fp8.distributed.recv_(x, rank): x becomes what another rank sends to this one.
-- @return x
--   local received = pcall(fp8.distributed.recv_, fp8.ones(2), 1) -- there is no rank 1
--   received --> false
function collectives.recv_(x, rank)
  local members = group.of "recv_"
  check_tensor("recv_", x)
  autograd.check_in_place("recv_", x)
  check_other("recv_", "the sender", rank, members)
  agree("recv_", message(x, rank, members.rank), rank)
  return in_place("recv_", core.distributed_receive, x, rank, members)
end

--- fp8.distributed.barrier(): waits until all ranks have called it.
--   fp8.distributed.init()
--   fp8.distributed.barrier() --> nil
function collectives.barrier()
  if group.of("barrier").size > 1 then agree("barrier", "barrier()") end
end

return collectives
