--- A training step of GPT-2 with 124 million parameters (Radford et al., 2019), or of another size, in several
-- precisions: tokens a second, peak memory, and with --profile where the time goes. Options: --help.
local here = arg[0]:gsub("[^/\\]*$", "")
package.path = here .. "?.lua;" .. here .. "../lib/?.lua;" .. package.path

local fp8 = require "fp8"
local LanguageModel = require "language_model"
local measure = require "measure"
local options = require "options"
local profile = require "gpt2_parts"
local stepping = require "stepping"
local timeline = require "timeline"

local usage = [[
usage: luajit examples/bench/gpt2.lua [options]                             (default on the GPU, on the CPU)
  --compare LIST   bf16, f16, f32, or recipes (default bf16,mixed,global,mixed_native,global_native)
  --dtype NAME     f32, f16 or bf16: of what a recipe does not quantize (default bf16)
  --convert PART   blocks, whose linear layers take a recipe, or all, the last layer too (default blocks)
  --layers N       transformer blocks (12, 2)
  --width N        features (768, 128)
  --heads N        of attention (12, 4)
  --context N      tokens of a sequence (1024, 64)
  --shortest N     another length in every step, from this to the context; no graph then (default: all of the context)
  --vocabulary N   different tokens (50304, 512)
  --batch N        sequences in a step, of all ranks together (32, 4)
  --rows N         tokens whose logits are in memory at once (default: what layer:cross_entropy takes)
  --recompute      the backward pass computes the blocks again instead of keeping what is in them
  --optimizer NAME adamw or stable_adamw (default adamw)
  --state NAME     what its moments are kept in: f32, 8bit (dynamic maps) or a format of fp8.formats (default f32)
  --rounding NAME  nearest, of float32 masters, or stochastic, without masters (default nearest)
  --clip X         largest norm of the gradient; 0 for any (default 1)
  --steps N        steps that are timed (30, 20)
  --warm-up N      steps before them, where all are timed together (3)
  --device NAME    cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --gradient-dtype NAME  what gradients are averaged over ranks in (default: that of the parameters)
  --bucket N       MiB of gradients that travel at once (default: 200)
  --no-averages    each rank goes on with its own gradients: a step without what averaging costs
  --timeline       print where the time of a step goes, and when gradients travel
  --shard          each rank keeps the optimizer's states of its part of the parameters, and gets mean gradients of it
  --codes          that, and weights travel as codes where the recipe allows it
  --sustained      time all steps together, without rests between them, as is done with several ranks
  --eager          on a GPU: no graph
  --profile        also time the parts of a step, one by one, and list what is kept for the backward pass
  --help           this text

Tokens are random, parameters have --dtype with float32 masters in the optimizer, and the embedding is the last layer's
weight. A step is all of it: gradients to zero, forward, backward, clipping, optimizer. CPU ms are those of all threads.
Peak memory is that of the model, the optimizer and the step; held is the most that tensors and what waits for the next
ones had of the device. Started by mpirun -n N, N ranks share each batch; the figures are of all ranks, the memory and
the CPU ms of rank 0.
]]

local kinds = options.kinds

local readers = {
  compare = {options.names(), "a list of names"}, dtype = {options.one_of("f32", "f16", "bf16"), "f32, f16 or bf16"},
  convert = {options.one_of("blocks", "all"), "blocks or all"},
  layers = kinds.whole, width = kinds.whole, heads = kinds.whole, context = kinds.whole, shortest = kinds.whole,
  vocabulary = kinds.whole, batch = kinds.whole, rows = kinds.whole,
  optimizer = {options.one_of("adamw", "stable_adamw"), "adamw or stable_adamw"},
  state = {options.one_of(unpack(stepping.state_names)), stepping.state_text},
  rounding = {options.one_of("nearest", "stochastic"), "nearest or stochastic"},
  clip = kinds.not_negative, steps = kinds.whole, warm_up = kinds.whole, device = kinds.device,
  gradient_dtype = {options.one_of("f32", "f16", "bf16"), "f32, f16 or bf16"}, bucket = kinds.positive,
}

local rank, ranks = fp8.distributed.init()
local print = rank == 0 and print or function() end

local gpu_sizes = {
  layers = 12, width = 768, heads = 12, context = 1024, vocabulary = 50304, batch = 32, steps = 30,
}
local cpu_sizes = {layers = 2, width = 128, heads = 4, context = 64, vocabulary = 512, batch = 4, steps = 20}

local plain = require "fp8.computable" -- the precisions without a recipe

local function read_options()
  local settings = options.read("gpt2", usage, readers, {
    compare = {"bf16", "mixed", "global", "mixed_native", "global_native"}, dtype = "bf16", convert = "blocks",
    optimizer = "adamw", clip = 1, warm_up = 3, eager = false, shard = false, codes = false,
    no_averages = false, timeline = false, sustained = false, profile = false, recompute = false,
    lr = 6e-4, beta2 = 0.95, weight_decay = 0.1,
  })
  settings.device = settings.device or measure.default_device()
  if settings.device == "cuda" then settings.device = fp8.distributed.device() end
  for name, value in pairs(settings.device == "cpu" and cpu_sizes or gpu_sizes) do
    settings[name] = settings[name] or value
  end
  if settings.batch % ranks ~= 0 then error(("--batch must be a multiple of the %d ranks"):format(ranks), 0) end
  settings.share = settings.batch / ranks
  settings.shard = settings.codes and "codes" or settings.shard
  settings.shortest = settings.shortest or settings.context
  if settings.shortest > settings.context then error("--shortest must be at most --context", 0) end
  settings.eager = settings.eager or settings.shortest < settings.context
  for _, name in ipairs(settings.compare) do
    if not plain[name] and not rawget(fp8.recipes, name) then error(("there is no precision '%s'"):format(name), 0) end
  end
  return settings
end

-- Operations of a step's products, forward and backward: 6 a weight and token, and of attention, where a token looks
-- back at half of the context on average, 2 products forward and 4 backward.
local function operations(settings)
  local length, width = (settings.shortest + settings.context) / 2, settings.width
  local tokens = settings.batch * length
  local weights = settings.layers * 12 * width ^ 2 + settings.vocabulary * width
  return 6 * weights * tokens + settings.layers * 6 * width * length * tokens
end

-- A function that takes a step, and the parts that the profile times by themselves.
local function make_training(precision, settings)
  fp8.manual_seed(1)
  local device, recipe = settings.device, rawget(fp8.recipes, precision)
  local dtype = recipe and settings.dtype or precision
  local model = LanguageModel {
    vocabulary = settings.vocabulary, context = settings.context, layers = settings.layers, width = settings.width,
    heads = settings.heads, tied = true, recompute = settings.recompute, dtype = dtype, device = device,
  }
  stepping.initialize(model, 0.02, settings.layers)
  stepping.convert(model, recipe, settings)
  local shared = ranks > 1 and fp8.nn.DataParallel(model, {
    gradient_dtype = settings.gradient_dtype, bucket = settings.bucket and math.ceil(settings.bucket * 2^20),
  })
  local optimizer = stepping.optimizer(model, settings)
  if settings.timeline then
    local update = optimizer.step
    rawset(optimizer, "step", function(...)
      update(...)
      timeline.finish()
    end)
  end
  fp8.manual_seed(2 + rank) -- the same tokens, whatever convert has drawn
  local shape, on_device = {settings.share, settings.context}, {dtype = "i64", device = device}
  local all_inputs, all_targets = fp8.zeros(shape, on_device), fp8.zeros(shape, on_device)
  local inputs, targets = all_inputs, all_targets
  local take_step = stepping.make({
    model = model,
    loss = function()
      if settings.timeline then timeline.begin() end
      return model:loss(inputs, targets, {rows = settings.rows})
    end,
    computed = settings.timeline and timeline.computed or nil,
  }, optimizer, settings)
  math.randomseed(1)
  local function step()
    if settings.timeline then timeline.before(device) end
    all_inputs:copy_(fp8.randint(0, settings.vocabulary, shape, on_device))
    all_targets:copy_(fp8.randint(0, settings.vocabulary, shape, on_device))
    if settings.shortest < settings.context then
      local length = math.random(settings.shortest, settings.context)
      inputs, targets = all_inputs:narrow(2, 1, length), all_targets:narrow(2, 1, length):contiguous()
    end
    if settings.timeline then timeline.ready() end
    local result
    if shared and settings.no_averages then result = shared:no_sync(take_step) else result = take_step() end
    if settings.timeline then timeline.after() end
    return result
  end
  local function loss() return model:loss(all_inputs, all_targets, {rows = settings.rows}) end
  return step, {dtype = dtype, recipe = recipe, model = model, optimizer = optimizer, loss = loss}
end

-- A step that also notes in most.held what the device holds after it, if that is more.
local function noting(step, most, device)
  return function()
    local loss, memory = step(), fp8.memory(device)
    most.held = math.max(most.held, memory.in_use + memory.cached)
    return loss
  end
end

-- Seconds of a step among as many on all ranks as the options say.
local function time_together(step, settings)
  for _ = 1, settings.warm_up do step() end
  local core = require "fp8.core"
  core.synchronize(settings.device)
  fp8.distributed.barrier()
  local start = measure.now()
  for _ = 1, settings.steps do step() end
  core.synchronize(settings.device)
  fp8.distributed.barrier()
  return (measure.now() - start) / settings.steps
end

-- Prints the figures of a precision; returns the parts, and the seconds of a step.
local function bench(precision, settings)
  fp8.reset_peak_memory(settings.device)
  local step, parts = make_training(precision, settings)
  local most = {held = 0}
  step = noting(step, most, settings.device)
  local loss = step():item() -- the first one captures
  local steps, start = 0, os.clock()
  local function counted()
    steps = steps + 1
    step()
  end
  local seconds = (ranks > 1 or settings.sustained) and time_together(counted, settings) or
    measure.time(counted, {device = settings.device, samples = settings.steps, seconds = 20}) * 1e-6
  local processor_seconds = (os.clock() - start) / steps
  local tokens = settings.batch * (settings.shortest + settings.context) / 2
  print(("%-16s %9.2f %9.2f %12.0f %9.1f %9.2f %9.2f   %.3f"):format(precision, seconds * 1e3, processor_seconds * 1e3,
    tokens / seconds, operations(settings) / seconds * 1e-12, fp8.memory(settings.device).peak / 2^30,
    most.held / 2^30, loss))
  if settings.timeline then timeline.show(print) end
  parts.model:zero_grad() -- whose memory is the graph's
  return parts, seconds
end

local function run(precision, settings)
  local parts, seconds = bench(precision, settings)
  collectgarbage() -- the graph of the step holds much memory
  if settings.profile then profile(parts, settings, seconds) end
end

measure.main(function()
  local settings = read_options()
  print(("%s%s; %d layers of width %d, context %d, vocabulary %d, batch %d; medians of %d"):format(
    ranks > 1 and ranks .. " x " or "", measure.device_name(settings.device), settings.layers, settings.width,
    settings.context, settings.vocabulary, settings.batch, settings.steps))
  print(("%-16s %9s %9s %12s %9s %9s %9s   %s"):format("precision", "ms a step", "CPU ms", "tokens/s", "TFLOP/s",
    "peak GiB", "held GiB", "first loss"))
  for _, precision in ipairs(settings.compare) do
    run(precision, settings)
    jit.flush() -- compiled code holds the functions that it was compiled for, and they the model
    collectgarbage()
    collectgarbage() -- what finalizers have left
  end
end)
