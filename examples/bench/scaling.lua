--- A model of a data-parallel training step on more GPUs than there are to measure on: bytes, latency and overlap, from
-- rates measured on one and two GPUs and published ones for the rest. Prints the tables of NOTES.md. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path

local options = require "options"

local usage = [[
usage: luajit examples/bench/scaling.lua [options]
  --tokens N       of a GPU and step (default 32768, 16384 and 8192 for 124M, 1.5B and 7B)
  --node N         GPUs of a machine (default 8)
  --gpus LIST      how many GPUs (default 8,64,512)
  --help           this text
]]

local function numbers(text)
  local list = {}
  for word in text:gmatch "[^,]+" do
    local number = options.whole(word)
    if not number then return nil end
    list[#list + 1] = number
  end
  return #list > 0 and list or nil
end

local settings = options.read("scaling", usage, {
  tokens = options.kinds.whole, node = options.kinds.whole, gpus = {numbers, "whole numbers"},
}, {node = 8, gpus = {8, 64, 512}})

-- Rates. Bytes a second and seconds.
local rates = {
  -- Measured on one H100 (NOTES.md, "A GPT-2 step"): the bf16 step without its optimizer, of 124M and of 355M; that of
  -- larger models is taken to be that of 355M.
  operations = {small = 470e12, large = 496e12},
  memory = 2.98e12, -- a copy, bytes read and written
  -- Measured on machines of eight H100 and two (NOTES.md, "Several GPUs"): NCCL's bus bandwidth at 1 GiB without NVLink
  -- SHARP, and the shares of it that 25 MiB and 249 MB reach; from 512 MiB on it is taken to be all.
  machine = 361e9, bucket_share = 0.71, small_share = 0.73,
  -- NVIDIA/nccl-tests, issue 290: 46 to 48 GB/s of each network adapter of 400 Gb/s; issue 309: 366 GB/s of bus
  -- bandwidth on four machines of eight GPUs and eight adapters.
  adapter = 46e9,
  -- NCCL's model of itself (src/graph/tuning.cc): a step of a ring over NVLink and over a network, protocol Simple, and
  -- a level of a tree, LL128.
  ring_step = {machine = 3.4e-6, network = 9.6e-6}, tree_level = {machine = 1.2e-6, network = 8.5e-6}, base = 8.4e-6,
  -- Measured on two GPUs (NOTES.md): how much longer the backward pass takes for a second that gradients need to travel
  -- beside it, in buckets.
  beside = 2.4,
}

local models = {
  {name = "124M", layers = 12, width = 768, tokens = 32768, rate = "small"},
  {name = "1.5B", layers = 48, width = 1600, tokens = 16384, rate = "large"},
  {name = "7B", layers = 32, width = 4096, tokens = 8192, rate = "large"},
}

local context, vocabulary = 1024, 50304
local bucket = 25 * 2^20
local parcel = 2^28 -- bytes of whole weights that travel at once: distributed/shard.lua
local channels = 16 -- of NCCL, among which the tensors of a group are dealt out: not measured

-- Elements of each parameter, as a GPT-2 has them: matrices of the blocks, and others.
local function parameters_of(model)
  local w, matrices, others = model.width, {}, {vocabulary * model.width, context * model.width}
  for _ = 1, model.layers do
    for _, count in ipairs {3 * w * w, w * w, 4 * w * w, 4 * w * w} do matrices[#matrices + 1] = count end
    for _, count in ipairs {3 * w, w, 4 * w, w, w, w, w, w} do others[#others + 1] = count end
  end
  return matrices, others
end

local function sum(list)
  local total = 0
  for _, count in ipairs(list) do total = total + count end
  return total
end

-- What the rank that keeps most has, where each parameter goes to the one that has least, the largest first.
local function largest_share(list, gpus)
  local sorted, loads = {unpack(list)}, {}
  table.sort(sorted, function(a, b) return a > b end)
  for i = 1, gpus do loads[i] = 0 end
  for _, count in ipairs(sorted) do
    local least = 1
    for i = 2, gpus do
      if loads[i] < loads[least] then least = i end
    end
    loads[least] = loads[least] + count
  end
  return math.max(unpack(loads))
end

-- Bus bandwidth, and latency of an all-reduce: a ring in a machine, trees over several.
local function network(gpus)
  local node = math.min(gpus, settings.node)
  local machines = math.ceil(gpus / node)
  if machines == 1 then return rates.machine, rates.base + 2 * (gpus - 1) * rates.ring_step.machine end
  local levels = math.log(machines) / math.log(2)
  return math.min(rates.machine, node * rates.adapter),
    rates.base + 2 * ((node - 1) * rates.tree_level.machine + levels * rates.tree_level.network)
end

-- Seconds until the first piece of what one rank sends to all has gone through the ring, and of what it gets from all.
local function ring_latency(gpus)
  local machines = math.ceil(gpus / settings.node)
  return rates.base + (gpus - machines) * rates.ring_step.machine + (machines - 1) * rates.ring_step.network
end

-- Times of a step in seconds, and bytes. `way` is "all" for states on every rank, "shard" or "codes".
local function step_of(model, gpus, way, tokens)
  local matrices, others = parameters_of(model)
  local in_codes, rest = sum(matrices), sum(others)
  local count = in_codes + rest
  local bandwidth, latency = network(gpus)
  local operations = 6 * (in_codes + vocabulary * model.width) * tokens +
    model.layers * 6 * model.width * context * tokens
  local result = {compute = operations / rates.operations[model.rate]}

  -- Gradients, 2 bytes each: in one bucket after the backward pass, or in several beside it, of which the last, with
  -- the embedding, comes after it.
  local function all_reduce(bytes, share)
    share = share or bytes < 2^29 and rates.small_share or 1
    return 2 * (gpus - 1) / gpus * bytes / (bandwidth * share) + latency
  end
  local last = 2 * others[1] + 2 * others[2]
  local buckets = math.ceil((2 * count - last) / bucket)
  local beside = buckets * all_reduce((2 * count - last) / buckets, rates.bucket_share)
  local backward = result.compute * 2 / 3
  local overlapped = math.max(beside - backward, 0) + math.min(beside, backward) * rates.beside + all_reduce(last)
  result.gradients = math.min(overlapped, all_reduce(2 * count))

  -- Parts of all matrices and embeddings, from where they are: gradients to the rank that keeps them, then weights to
  -- all. In a ring every GPU sends or receives all but its own.
  local tensors = #matrices + 2
  local parts = (gpus - 1) / gpus * 2 * count / (bandwidth * (2 * count < 2^29 and rates.small_share or 1)) +
    math.ceil(tensors / channels) * ring_latency(gpus)
  if way == "shard" then result.gradients = parts end

  -- AdamW: 30 bytes a parameter that is kept, clipping 6 of each whose mean gradient is there.
  local all = {unpack(matrices)}
  for _, n in ipairs(others) do all[#all + 1] = n end
  local kept = way == "all" and count or way == "shard" and count / gpus or largest_share(all, gpus)
  result.optimizer = (30 * kept + 6 * (way == "shard" and kept or count)) / rates.memory
  result.bytes = 4 * count + 12 * kept

  -- Weights, with nothing to travel beside: codes come from the rank that keeps them as a whole.
  result.weights = way == "shard" and parts or 0
  if way == "codes" then
    local bytes = in_codes + 2 * rest
    result.weights = (gpus - 1) / gpus * bytes / bandwidth + math.ceil(bytes / parcel) * ring_latency(gpus)
    -- A rank quantizes what it keeps and decodes the rest; the layers quantize all anyway.
    result.weights = result.weights + 3 * in_codes / rates.memory
  end
  result.step = result.compute + result.gradients + result.optimizer + result.weights
  return result
end

local function alone_on(model, tokens)
  local alone = step_of(model, 1, "all", tokens)
  return alone.compute + alone.optimizer
end

-- The fewest tokens of a GPU, a power of two, with which a step takes at most 1 / 0.9 of what it takes alone.
local function fewest_tokens(model, gpus, way)
  local tokens = 256
  local function share() return alone_on(model, tokens) / step_of(model, gpus, way, tokens).step end
  while tokens < 2^30 and share() < 0.9 do tokens = tokens * 2 end
  return tokens
end

options.main("scaling", function()
  print(("%-5s %5s %-6s %8s %10s %10s %8s %8s %6s %7s %9s"):format("model", "GPUs", "states", "compute", "gradients",
    "optimizer", "weights", "step ms", "of 1", "GiB", "batch 90%"))
  for _, model in ipairs(models) do
    for _, gpus in ipairs(settings.gpus) do
      for _, way in ipairs {"all", "shard", "codes"} do
        local tokens = settings.tokens or model.tokens
        local s = step_of(model, gpus, way, tokens)
        print(("%-5s %5d %-6s %8.1f %10.2f %10.2f %8.2f %8.1f %5.1f%% %7.1f %8.2fM"):format(model.name, gpus, way,
          s.compute * 1e3, s.gradients * 1e3, s.optimizer * 1e3, s.weights * 1e3, s.step * 1e3,
          100 * alone_on(model, tokens) / s.step, s.bytes / 2^30, fewest_tokens(model, gpus, way) * gpus / 2^20))
      end
    end
  end
end)
