--- Subjects that are larger than a function: what fp8.help "recipes" and the like show.
--
-- Each has a line that says what it is about, then the text, or `header`, the file whose first comment is the text, and
-- `see`, names to ask for next.
local topics = {}

topics.tensors = {
  line = "making them, dtypes and devices, indices, what arithmetic does",
  [[
fp8.tensor {1, 2, 3}, fp8.zeros(2, 3), fp8.randn(2, 3, {dtype = "bf16", device = "cuda"}) and the like make tensors:
strided views of shared memory, of up to 8 dimensions.

dtypes   f32 f16 bf16 e4m3 e5m2 u8 i32 i64
devices  cpu, cuda, cuda:1

Every operation is a method and a function: x:exp() is fp8.exp(x); names and the order of arguments are PyTorch's.
+ - * / and ^ work, and broadcast. A name that ends in _ changes its tensor: x:add_(1). Dimensions and positions count
from 1, negative ones from the end; class labels, token ids and what argmax gives count from 0, as data does.

x.shape x.dtype x.device x.grad x.requires_grad; x[i] is a view of row i; x:item() is the number of a tensor of one
element, x:totable() nested tables, x:data() an FFI pointer.]],
  see = {"fp8.tensor", "x:to", "x:view", "fp8.set_default_device"},
}

topics.formats = {
  line = "number formats as data: maps, quantizing, float8 dtypes",
  [[
A map is 256 ascending values, the largest of which is 1: fp8.create_map(signed, exponent bits, precision bits, 8).
Quantizing takes the nearest value of x / absmax, blockwise or for the whole tensor:

  local e4m3 = fp8.create_map(true, 4, 3, 8)
  local codes, state = fp8.quantize_blockwise(x, e4m3, 64)
  local error = (fp8.dequantize_blockwise(codes, state) - x):abs():mean()

x:to "e4m3" and x:to "e5m2" are the hardware types, without a scale. print(map) shows range and steps, and fp8.analyze
compares formats on data of yours.]],
  see = {"fp8.create_map", "fp8.quantize_blockwise", "fp8.quantize", "fp8.analyze"},
}

topics.recipes = {
  line = "what a linear layer quantizes, and how: a table",
  header = "fp8/linear/recipes.lua",
  see = {"fp8.Linear", "fp8.recipes", "fp8.convert", "fp8.LinearMixed"},
}

topics.autograd = {
  line = "gradients: what is recorded, backward, functions of your own",
  [[
Operations on a tensor with requires_grad are recorded; loss:backward() adds the gradients to .grad of the leaves and
releases the record.

  local w = fp8.randn(3, {requires_grad = true})
  local loss = (w * w):sum()
  loss:backward()
  print(w.grad)

fp8.no_grad(f) runs f without recording; x:detach() cuts a tensor off; fp8.Function makes an operation with a derivative
of your own; fp8.recompute(f, …) keeps less and computes f twice.]],
  see = {"x:backward", "fp8.no_grad", "fp8.Function", "fp8.recompute"},
}

topics.memory = {
  line = "when tensors are freed, how much is in use",
  [[
Nobody has to call collectgarbage(): the bytes that tensors hold drive Lua's collector. fp8.scope(f) frees at once what
f made and did not return. fp8.memory(device) tells what is in use, the peak, and what is kept for the next tensors;
fp8.memory_report(f) what is kept for the backward pass, by operation. At the prompt _1 and _2 hold the last results;
:who lists tensors with their bytes, :reset forgets all.]],
  see = {"fp8.scope", "fp8.memory", "fp8.memory_report", "fp8.recompute"},
}

topics.training = {
  line = "modules, losses, optimizers, schedules, checkpoints",
  [[
  local model = fp8.nn.Sequential(fp8.LinearMixed(784, 256), fp8.nn.ReLU(), fp8.LinearMixed(256, 10))
  local optimizer = fp8.optim.AdamW(model, {lr = 0.001})
  for x, target in fp8.data.batches({images, labels}, {batch = 128, shuffle = true}) do
    optimizer:zero_grad()
    fp8.cross_entropy(model(x), target):backward()
    optimizer:step()
  end

fp8.nn.Module:extend(name) makes a class of modules; model:state_dict(), fp8.save and fp8.load keep weights,
fp8.checkpoint a whole run.]],
  see = {"fp8.nn", "fp8.optim", "fp8.cross_entropy", "fp8.checkpoint", "fp8.nn.Module"},
}

topics.watching = {
  line = "where the numbers break: analyze, watch, find, sensitivity",
  header = "fp8/watch/init.lua",
  see = {"fp8.analyze", "fp8.watch", "fp8.watch.find", "fp8.sensitivity"},
}

topics.graphs = {
  line = "a training step captured once and replayed, on a GPU",
  header = "fp8/graph.lua",
  see = {"fp8.cuda.graph", "fp8.event"},
}

topics.processes = {
  line = "several GPUs: ranks, collectives, data parallel training",
  header = "fp8/distributed/init.lua",
  see = {"fp8.distributed.init", "fp8.nn.DataParallel", "fp8.data.batches", "fp8.distributed.all_reduce_"},
}

topics.files = {
  line = "safetensors, NumPy's files, tables, pictures",
  [[
  fp8.save("model.safetensors", model:state_dict(), {note = "the first"})
  local tensors, metadata = fp8.load "model.safetensors"
  fp8.save("x.npy", x)                        -- NumPy: one array; x.npz has several, {compress = true} packs them
  fp8.save("losses.csv", losses, {names = {"step", "loss"}})
  fp8.save("weight.png", weight, {range = {-0.1, 0.1}})

The end of the name says what a file is; all others are safetensors files. Pictures are only written. A file appears
under its name when it is whole. fp8.checkpoint keeps a whole run.]],
  see = {"fp8.load", "fp8.save", "fp8.checkpoint", "fp8.data.read_idx"},
}

topics.embedding = {
  line = "fp8 in C programs, memory that other libraries have, fork",
  [[
A C program opens a Lua state, loads a script that says require "fp8", and calls it; examples/embedding is one. Arrays
of the program's become tensors without a copy, and tensors go to other libraries by DLPack:

  local x = fp8.from_data(ffi.cast("float *", pointer), {rows, columns}, "f32", owner)
  local m = x:to_dlpack()
  local y = fp8.from_dlpack(m)

Several Lua states share nothing; each is used by one thread at a time. A child process, by fork, can't go on with fp8
where its parent had begun to compute, and every call says so.]],
  see = {"fp8.from_data", "fp8.from_dlpack", "x:to_dlpack", "x:data"},
}

topics.prompt = {
  line = "what the prompt can do",
  [[
An expression shows its value; code; does not. `local` makes a variable that later lines see. A statement goes on in the
next line until it has an end. _1 is the last result, _2 the one before.

?name, name?    help; fp8.help() lists topics
Tab             completes globals, fields, methods, options inside of a call, files inside of a string
Ctrl-C          interrupts what runs, or drops the line; variables stay
:help           the commands: :time :who :trace :history :reset :quit; exit ends the session, too

A long call of fp8 that makes new tensors (elementwise, random numbers, sorts, attention, large products) is given up
on Ctrl-C, and so is waiting for a GPU, which goes on with what it has begun; a call that changes a tensor in place, and
any other, is done first. Code that is typed is interpreted, so that Ctrl-C reaches it; functions of files are compiled.
FP8_HISTORY names the file of the history (~/.fp8_history); NO_COLOR switches colours off.]],
  see = {"fp8.help", "fp8.text", "fp8.set_print_options"},
}

return topics
