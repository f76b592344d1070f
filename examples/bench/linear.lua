--- The linear layers against the bare products that they are made of: forward, backward and both, eager and, on a GPU,
-- replayed from a graph. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local fp8 = require "fp8"
local core = require "fp8.core"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/linear.lua [options]
  --device NAME    cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype LIST     of inputs and weights: f32, f16, bf16 (default bf16; on the CPU f32,bf16)
  --layers LIST    linear, mixed, global, mixed_native, global_native (default these), rowwise,
                   rowwise_high_precision_weight_grad, blocks, mx, mxfp8, mxfp6, mxfp4, nvfp4,
                   nvfp4_four_over_six, quartet
  --shapes LIST    "rows,in,out;rows,in,out;…" (default five shapes on a GPU, the two smallest on the CPU)
  --steps N        samples of a measurement, whose median is printed (default 50)
  --eager          only eager steps
  --graph          only steps replayed from a graph
  --sustained      without the rest that a GPU has before every sample: a long load lowers its clock
  --cached-weight  eager steps leave the weight unchanged, as when gradients are accumulated
  --help           this text

Times are in microseconds; × is the ratio to the bare products in the rows above. Backward is both less forward. MiB is
the peak of a step's memory: weight, bias, gradients and whatever is kept, without x and dy.
]]

-- The layers by the names of the command line: class, options, and the products that it is made of.
local layers = {
  linear = {title = "Linear", products = "full"},
  mixed = {title = "LinearMixed", products = "full"},
  global = {title = "LinearGlobal", products = "full"},
  mixed_native = {title = "LinearMixed", native = true, products = "mixed"},
  global_native = {title = "LinearGlobal", native = true, products = "global"},
  rowwise = {title = "Linear", recipe = "rowwise", products = "rows"},
  rowwise_high_precision_weight_grad = {
    title = "Linear", recipe = "rowwise_high_precision_weight_grad", short = "rowwise, hp", products = "mixed",
  },
  blocks = {title = "Linear", recipe = "blocks", products = "blocks"},
}
-- Whose products are those of values.
for _, name in ipairs {"mx", "mxfp8", "mxfp6", "mxfp4", "nvfp4", "nvfp4_four_over_six", "quartet"} do
  layers[name] = {title = "Linear", recipe = name, products = "full"}
end
layers.nvfp4_four_over_six.short = "four over six"
local all_layers = {"linear", "mixed", "global", "mixed_native", "global_native"}

local product_titles = {
  full = "%s products", mixed = "fp8 products, %s dW", global = "fp8 products", rows = "fp8 products, rows",
  blocks = "fp8 products, blocks",
}
local product_kinds = {"full", "mixed", "global", "rows", "blocks"}

local function read_shapes(text)
  local shapes = {}
  for part in text:gmatch("[^;%s]+") do
    local rows, inputs, outputs = part:match("^(%d+)[,x](%d+)[,x](%d+)$")
    rows, inputs, outputs = measure.whole(rows), measure.whole(inputs), measure.whole(outputs)
    if not (rows and inputs and outputs) then return nil end
    shapes[#shapes + 1] = {rows = rows, inputs = inputs, outputs = outputs}
  end
  return #shapes > 0 and shapes or nil
end

local cpu_shapes = "32,256,256;512,1024,1024"
local gpu_shapes = cpu_shapes .. ";4096,4096,4096;8192,4096,16384;8192,8192,8192"

local element_bytes = {f32 = 4, f16 = 2, bf16 = 2}

-- Inputs x and gradients dy of as many steps as exceed a GPU's L2 (on the CPU, its L2 too), so that none is still in a
-- cache when its turn comes again. Each is a slice of one tensor: thousands of them are made quickly. More than that
-- would only be work for the garbage collector.
local most_slices = 4096

local function make_pool(shape, dtype, device)
  local bytes = shape.rows * (shape.inputs + shape.outputs) * element_bytes[dtype]
  local count = math.max(2, math.ceil((device == "cpu" and 32e6 or 100e6) / bytes))
  count = math.min(count, most_slices)
  local options = {dtype = dtype, device = device}
  return {
    count = count,
    x = core.randn(count, shape.rows, shape.inputs, options),
    dy = core.randn(count, shape.rows, shape.outputs, options),
  }
end

local function slices(tensor, count)
  local list = {}
  for i = 1, count do list[i] = core.select(tensor, 1, i) end
  return list
end

-- Codes of a pool (count, n, m) and their scales, one a row or one for everything, as lists of `count`; with
-- `transposed`, also of the codes as (m, n).
local function coded(tensor, format, by_row)
  local count, n, m = unpack(core.shape(tensor))
  local quantizer = core.quantizer {format = format, blocksize = by_row and m or nil}
  local codes, scale = core.quantize(tensor, quantizer, "codes scale")
  local scales = {}
  for i = 1, count do scales[i] = by_row and core.narrow(scale, 1, 1 + (i - 1) * n, n) or scale end
  return slices(codes, count), scales, slices(core.contiguous(core.transpose(codes, 2, 3)), count)
end

-- The bare products, without bias, with every operand ready, and their results freed at once: forward(turn) and
-- both(turn).
local make_products = {}

function make_products.full(pool, weight)
  local x, dy, count = slices(pool.x, pool.count), slices(pool.dy, pool.count), pool.count
  local transposed, dy_transposed = core.transpose(weight, 1, 2), slices(core.transpose(pool.dy, 2, 3), count)
  local matmul, free = core.matmul, core.free
  local function forward(turn) free(matmul(x[turn % count + 1], transposed)) end
  local function both(turn)
    local i = turn % count + 1
    free(matmul(x[i], transposed))
    free(matmul(dy[i], weight))
    free(matmul(dy_transposed[i], x[i]))
  end
  return forward, both
end

-- FP8 products of mixed or global: what is summed over comes last in both operands. Where an operand has a scale a row,
-- the weight's is a vector too, since the hardware takes vectors on both sides or on neither.
local function fp8_products(pool, weight, by_row)
  local count, dtype = pool.count, core.dtype(weight)
  local outputs, inputs = unpack(core.shape(weight))
  local w, w_scale = core.quantize(weight, core.quantizer {format = "e4m3"}, "codes scale")
  local w_transposed = core.contiguous(core.transpose(w, 1, 2))
  local scale_out, scale_in = w_scale, w_scale
  if by_row then
    scale_out = core.contiguous(core.expand(w_scale, outputs))
    scale_in = core.contiguous(core.expand(w_scale, inputs))
  end
  local x, x_scale, x_transposed = coded(pool.x, "e4m3", by_row)
  local dy, dy_scale, dy_transposed = coded(pool.dy, "e5m2", by_row)
  local x_values, dy_values = slices(pool.x, count), slices(core.transpose(pool.dy, 2, 3), count)
  local scaled_matmul, matmul, free, fast = core.scaled_matmul, core.matmul, core.free, {fast = true}
  local function forward(turn)
    local i = turn % count + 1
    free(scaled_matmul(x[i], x_scale[i], w, scale_out, dtype, fast))
  end
  local function both(turn)
    local i = turn % count + 1
    forward(turn)
    free(scaled_matmul(dy[i], dy_scale[i], w_transposed, scale_in, dtype))
    if by_row then
      free(matmul(dy_values[i], x_values[i]))
    else
      free(scaled_matmul(dy_transposed[i], dy_scale[i], x_transposed[i], x_scale[i], dtype))
    end
  end
  return forward, both
end

function make_products.mixed(pool, weight) return fp8_products(pool, weight, true) end
function make_products.global(pool, weight) return fp8_products(pool, weight, false) end

-- FP8 products of operands with other codes along their columns than along their rows, and scales in the order that the
-- hardware takes.
local function products_both_ways(pool, weight, blocks_of, weight_blocks, by_runs)
  local count, dtype = pool.count, core.dtype(weight)
  local function quantizer(blocksize) return core.quantizer {format = "e4m3", blocksize = blocksize} end
  local function coded_both_ways(tensor, columns)
    local list = {}
    for i, x in ipairs(slices(tensor, count)) do
      local form = {}
      form.codes, form.scale, form.transposed, form.turned =
        core.quantize_both_ways(x, quantizer(blocks_of(columns)), quantizer(blocks_of(columns, true)))
      list[i] = form
    end
    return list
  end
  local outputs, inputs = unpack(core.shape(weight))
  local x, dy = coded_both_ways(pool.x, inputs), coded_both_ways(pool.dy, outputs)
  local w, w_scale = core.quantize(weight, quantizer(weight_blocks(inputs)), "codes scale")
  local w_transposed, turned = core.quantize(weight, quantizer(weight_blocks(inputs, true)), "transposed scale")
  if by_runs then
    w_scale = core.view(w_scale, {math.ceil(outputs / 128), math.ceil(inputs / 128)})
    turned = core.transpose(core.view(turned, {math.ceil(outputs / 128), math.ceil(inputs / 128)}), 1, 2)
  end
  local scaled_matmul, free, fast = core.scaled_matmul, core.free, {fast = true}
  local function forward(turn)
    local form = x[turn % count + 1]
    free(scaled_matmul(form.codes, form.scale, w, w_scale, dtype, fast))
  end
  local function both(turn)
    local left, right = dy[turn % count + 1], x[turn % count + 1]
    forward(turn)
    free(scaled_matmul(left.codes, left.scale, w_transposed, turned, dtype))
    free(scaled_matmul(left.transposed, left.turned, right.transposed, right.turned, dtype))
  end
  return forward, both
end

local function rows_or_columns(columns, turned) return turned and {2 ^ 52, 1} or columns end
local function runs(_, turned) return turned and {128, 1} or {1, 128} end
local function squares() return {128, 128} end

function make_products.rows(pool, weight)
  return products_both_ways(pool, weight, rows_or_columns, rows_or_columns)
end

function make_products.blocks(pool, weight) return products_both_ways(pool, weight, runs, squares, true) end

-- The steps of a layer: forward(turn), both(turn), and a function that drops the gradients.
local function layer_steps(layer, pool, options)
  local x, dy, count = slices(pool.x, pool.count), slices(pool.dy, pool.count), pool.count
  for i = 1, count do core.set_requires_grad(x[i], true) end
  local weight, bias = layer.weight, layer.bias
  -- Writing into a part of no elements counts as a change of the weight, which training changes in every step, and
  -- launches nothing.
  local nothing, fill = core.narrow(weight, 1, 1, 0), core.fill_
  local function change() if not options.cached_weight then fill(nothing, 0) end end
  local function drop(i) weight.grad, bias.grad, x[i].grad = nil, nil, nil end
  local function forward(turn)
    change()
    return layer(x[turn % count + 1])
  end
  local function both(turn)
    local i = turn % count + 1
    change()
    drop(i)
    layer(x[i]):backward(dy[i])
  end
  return forward, both, drop
end

-- Replays of `step`, from graphs of several turns in rotation.
local function replayed(step, pool, device)
  local graphs = {}
  for turn = 1, math.min(pool.count, 16) do
    graphs[turn] = fp8.cuda.graph(function() return step(turn) end, device)
  end
  return function(turn) graphs[turn % #graphs + 1]() end
end

local function times_of(forward, both, options)
  local first, all = measure.time(forward, options), measure.time(both, options)
  return {forward = first, backward = all - first, both = all}
end

local function print_row(title, mode, times, base, peak)
  local cells = {("%-22s %-6s"):format(title, mode)}
  for _, part in ipairs {"forward", "backward", "both"} do
    cells[#cells + 1] = (" %10.1f %5s"):format(times[part], base and ("%.2f"):format(times[part] / base[part]) or "")
  end
  cells[#cells + 1] = peak and (" %9.1f"):format(peak / 2^20) or ""
  print((table.concat(cells):gsub("%s+$", "")))
end

-- The most that a step allocates at once, with all that its layer keeps from step to step.
local function peak_memory(make_layer, pool, options)
  collectgarbage()
  collectgarbage()
  local before = fp8.memory(options.device).in_use
  local _, both, drop = layer_steps(make_layer(), pool, options)
  both(pool.count) -- this turn's slice is 1
  drop(1)
  collectgarbage()
  collectgarbage()
  fp8.reset_peak_memory(options.device)
  both(pool.count)
  return fp8.memory(options.device).peak - before
end

local function wanted_products(options)
  local wanted, list = {}, {}
  for _, name in ipairs(options.layers) do wanted[layers[name].products] = true end
  for _, kind in ipairs(product_kinds) do
    if wanted[kind] then list[#list + 1] = kind end
  end
  return list
end

local function bench_products(shape, pool, dtype, options, modes)
  local bases = {}
  for _, kind in ipairs(wanted_products(options)) do
    local weight = core.randn(shape.outputs, shape.inputs, {dtype = dtype, device = options.device})
    local forward, both = make_products[kind](pool, weight)
    bases[kind] = {}
    for _, mode in ipairs(modes) do
      local one, all = forward, both
      if mode == "graph" then one, all = replayed(one, pool, options.device), replayed(all, pool, options.device) end
      bases[kind][mode] = times_of(one, all, options)
      print_row(product_titles[kind]:format(dtype), mode, bases[kind][mode])
    end
  end
  return bases
end

local function bench_layer(entry, shape, pool, dtype, options, modes, bases)
  local function make_layer()
    return fp8[entry.title](shape.inputs, shape.outputs,
      {dtype = dtype, device = options.device, native = entry.native, recipe = entry.recipe})
  end
  local name = entry.native and "native" or entry.short or entry.recipe
  local title = name and entry.title .. " " .. name or entry.title
  local peak = peak_memory(make_layer, pool, options)
  local forward, both = layer_steps(make_layer(), pool, options)
  for _, mode in ipairs(modes) do
    local one, all = forward, both
    if mode == "graph" then one, all = replayed(one, pool, options.device), replayed(all, pool, options.device) end
    print_row(title, mode, times_of(one, all, options), bases[entry.products][mode], mode == modes[1] and peak or nil)
  end
end

local function bench_shape(shape, dtype, options, modes)
  print(("\n%d rows, %d in, %d out, %s%s"):format(shape.rows, shape.inputs, shape.outputs, dtype,
    options.cached_weight and ", weight unchanged" or ""))
  print(("%40s     ×   backward     ×       both     ×  peak MiB"):format("forward"))
  local pool = make_pool(shape, dtype, options.device)
  local bases = bench_products(shape, pool, dtype, options, modes)
  for _, name in ipairs(options.layers) do
    bench_layer(layers[name], shape, pool, dtype, options, modes, bases)
  end
end

measure.main(function()
  local options = measure.options(usage, {
    device = tostring, dtype = measure.names(element_bytes), layers = measure.names(layers), shapes = read_shapes,
    steps = measure.whole,
  }, {layers = all_layers, steps = 50, eager = false, graph = false, sustained = false, cached_weight = false})
  options.device = options.device or measure.default_device()
  local on_cpu = options.device == "cpu"
  options.shapes = options.shapes or read_shapes(on_cpu and cpu_shapes or gpu_shapes)
  options.dtype = options.dtype or (on_cpu and {"f32", "bf16"} or {"bf16"})
  options.samples, options.seconds = options.steps, on_cpu and 0.5 or 3
  local modes = {}
  if options.eager or not options.graph then modes[1] = "eager" end
  if options.graph or not (options.eager or on_cpu) then modes[#modes + 1] = "graph" end
  if options.graph and on_cpu then error("graphs are for CUDA devices", 0) end
  print(("%s; microseconds, medians of up to %d"):format(measure.device_name(options.device), options.samples))
  for _, shape in ipairs(options.shapes) do
    for _, dtype in ipairs(options.dtype) do bench_shape(shape, dtype, options, modes) end
  end
end)
