--- Operations beside torch's (operations_peers.py), in two processes that take turns, so that whatever else the machine
-- does meets both alike. Options: --help.
local here = arg[0]:gsub("[^/\\]*$", "")
package.path = here .. "?.lua;" .. package.path

local fp8 = require "fp8"
local core = require "fp8.core"
local added_up = require "fp8.ops.index.added_up"
local batch_norm = require "fp8.ops.normalize.batch"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/operations.lua [options]
  --device NAME     cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --sizes LIST      of matrices (default 16384x8192,512x512, on the CPU 4096x4096,512x512)
  --dtype LIST      f32, f16, bf16 (default f32,bf16)
  --only LIST       operations, by the names of the table with _ for a space (default all)
  --rounds N        how often both are run (default 5, on a GPU 2)
  --seconds N       that an operation is measured in each round (default 0.05)
  --sets N          of inputs that take turns (default 2)
  --python NAME     an interpreter that has torch (default python3)
  --slower          only lines where fp8 takes more than 1.15 times as long
  --alone           measures what standard input asks for
  --help            this text

Each line: microseconds of a call, fp8's and torch's, and their ratio. On the CPU they are the least of all samples;
beside them stands the ratio of the processor time of all threads. On a GPU they are medians, without waiting between
calls, and the ratio beside them is of the time that the host takes for a call. OMP_NUM_THREADS says how many threads
both have on the CPU.
]]

-- By name, what is called. `i` has x and y (rows, columns), a mask u8, and integers `rows`, `places`; where `only` is
-- there, the operation is measured in that dtype alone. A method that is missing is left out of the table.
local operations = {
  {"add", function(i) return i.x:add(i.y) end},
  {"add number", function(i) return i.x:add(1) end},
  {"add row", function(i) return i.x:add(i.row) end},
  {"add column", function(i) return i.x:add(i.column) end},
  {"mul", function(i) return i.x:mul(i.y) end},
  {"div", function(i) return i.x:div(i.y) end},
  {"exp", function(i) return i.x:exp() end},
  {"log", function(i) return i.positive:log() end},
  {"sqrt", function(i) return i.positive:sqrt() end},
  {"sin", function(i) return i.x:sin() end},
  {"tanh", function(i) return i.x:tanh() end},
  {"gelu", function(i) return i.x:gelu() end},
  {"pow 3", function(i) return i.x:pow(3) end},
  {"where", function(i) return i.x:where(i.mask, i.y) end},
  {"gt", function(i) return i.x:gt(i.y) end},
  {"gt number", function(i) return i.x:gt(0) end},
  {"clamp", function(i) return i.x:clamp(-1, 1) end},
  {"cast", function(i) return i.x:to(i.x.dtype == "f32" and "bf16" or "f32") end},
  {"copy", function(i) return i.x:clone() end},
  {"copy transposed", function(i) return i.x:t():contiguous() end},
  {"cat first", function(i) return fp8.cat({i.x, i.y}, 1) end},
  {"cat last", function(i) return fp8.cat({i.x, i.y}, 2) end},
  {"index_select", function(i) return i.x:index_select(1, i.rows) end},
  {"index_select last", function(i) return i.x:index_select(2, i.columns) end},
  {"gradient of index_select", function(i) return core.index_add(core.shape(i.x), 1, i.rows, i.x, i.x.dtype) end},
  {"gather", function(i) return i.x:gather(2, i.places) end},
  {"gradient of gather", function(i) return added_up(core.shape(i.x), 2, i.places, i.x) end, only = "f32"},
  {"index_add", function(i) return i.x:index_add(1, i.rows, i.y) end},
  {"scatter_add", function(i) return i.x:scatter_add(2, i.places, i.y) end},
  {"softmax", function(i) return i.x:softmax(-1) end},
  {"softmax first", function(i) return i.x:softmax(1) end},
  {"log_softmax", function(i) return i.x:log_softmax(-1) end},
  {"layer_norm", function(i) return fp8.layer_norm(i.x, i.row, i.row) end},
  {"cumsum", function(i) return i.x:cumsum(-1) end},
  {"cumsum first", function(i) return i.x:cumsum(1) end},
  {"sort", function(i) return i.x:sort(-1) end},
  {"topk", function(i) return i.x:topk(10, -1) end},
  {"nonzero", function(i) return i.mask:nonzero() end, only = "f32"},
  {"masked_select", function(i) return i.x:masked_select(i.mask) end},
  {"conv2d 3x3", function(i) return fp8.conv2d(i.images, i.filters, nil, {padding = 1}) end},
  {"batch_norm", function(i) return batch_norm(i.images, i.shares, i.shares, 1e-5) end},
  {"gradients of batch_norm", function(i)
    local known = i.statistics
    local gradients = core.normalize_backward {
      by_channel = true, x = known.x, dy = known.dy, mean = known.mean, inverse = known.inverse, weight = i.shares,
      want_x = true, want_weight = true, bias_dtype = core.dtype(i.shares),
    }
    return gradients.x, gradients.weight, gradients.bias
  end},
  {"max_pool2d", function(i) return fp8.max_pool2d(i.images, 2) end},
}

for _, name in ipairs {"sum", "mean", "max", "argmax", "var", "norm"} do
  local p = name == "norm" and 2 or nil
  local function reduced(dimension)
    return function(i)
      if p then return i.x:norm(p, dimension) end
      return i.x[name](i.x, dimension)
    end
  end
  table.insert(operations, {name .. " last", reduced(-1)})
  table.insert(operations, {name .. " first", reduced(1)})
  table.insert(operations, {name .. " all", reduced(nil)})
end

local function option_name(name) return (name:gsub(" ", "_")) end

-- The inputs of operations on a matrix, each made when it is first asked for; the images have as many values.
local function inputs_of(rows, columns, dtype, device)
  local place = {dtype = dtype, device = device}
  local function integers(limit, ...) return fp8.randint(0, limit, {...}, {dtype = "i64", device = device}) end
  local channels = 64
  local side = math.min(56, math.max(8, math.floor(math.sqrt(rows * columns / channels))))
  local images = math.max(1, math.floor(rows * columns / (channels * side * side)))
  local makers = {
    x = function() return fp8.randn(rows, columns, place) end,
    y = function() return fp8.randn(rows, columns, place) end,
    positive = function(i) return i.x:abs() end,
    mask = function(i) return i.x:gt(0) end,
    row = function() return fp8.randn(columns, place) end,
    column = function() return fp8.randn(rows, 1, place) end,
    rows = function() return integers(rows, rows) end,
    columns = function() return integers(columns, columns) end,
    places = function() return integers(columns, rows, columns) end,
    images = function() return fp8.randn(images, channels, side, side, place) end,
    shares = function() return fp8.randn(channels, place) end, -- one a channel
    statistics = function(i)
      local x = i.images:view(images, channels, side * side)
      local _, mean, inverse = core.batch_norm(x, i.shares, i.shares, 1e-5)
      return {x = x, dy = i.images:roll(1):view(x.shape), mean = mean, inverse = inverse}
    end,
    filters = function() return fp8.randn(channels, channels, 3, 3, place) end,
  }
  return setmetatable({}, {__index = function(inputs, name)
    inputs[name] = makers[name](inputs)
    return rawget(inputs, name)
  end})
end

-- Microseconds of a call: of the device, and of the host (on the CPU, of all threads of the process).
local function time_on_cpu(call, seconds)
  call(1)
  local start = measure.now()
  call(2)
  local batch = math.max(1, math.floor(0.002 / (measure.now() - start)))
  local least, least_clock, samples = math.huge, math.huge, 0
  local stop = measure.now() + seconds
  while samples < 5 or measure.now() < stop do
    local clock
    start, clock = measure.now(), os.clock()
    for turn = 1, batch do call(turn) end
    least = math.min(least, (measure.now() - start) / batch)
    least_clock = math.min(least_clock, (os.clock() - clock) / batch)
    samples = samples + 1
  end
  return least * 1e6, least_clock * 1e6
end

local function time_on_gpu(call, seconds, device)
  for turn = 1, 4 do call(turn) end
  core.synchronize(device)
  local start = measure.now()
  for turn = 1, 4 do call(turn) end
  core.synchronize(device)
  local estimate = (measure.now() - start) / 4
  local batch = math.max(2, math.min(200, math.floor(0.005 / estimate)))
  local first, last = fp8.event(device), fp8.event(device)
  local times, hosts = {}, {}
  local stop = measure.now() + seconds
  while #times < 5 or measure.now() < stop do
    core.synchronize(device)
    first:record()
    start = measure.now()
    for turn = 1, batch do call(turn) end
    table.insert(hosts, (measure.now() - start) / batch * 1e6)
    last:record()
    core.synchronize(device)
    table.insert(times, first:elapsed(last) * 1000 / batch)
  end
  return measure.median(times), measure.median(hosts)
end

-- Answers requests from standard input, "name size dtype", each with a line of two times, or "none".
local function serve(settings)
  fp8.manual_seed(1)
  local by_name = {}
  for _, operation in ipairs(operations) do by_name[option_name(operation[1])] = operation[2] end
  -- Sets in turn: of two, nothing of the one is left in a GPU's second-level cache when it is read again.
  local sets, sets_of = {}, nil
  for request in io.lines() do
    local name, rows, columns, dtype = request:match "^(%S+) (%d+)x(%d+) (%S+)$"
    if sets_of ~= rows .. columns .. dtype then
      for _, set in ipairs(sets) do
        for _, value in pairs(set) do
          for _, tensor in pairs(core.is_tensor(value) and {value} or value) do core.free(tensor) end
        end
      end
      sets = {}
      for i = 1, settings.sets do sets[i] = inputs_of(tonumber(rows), tonumber(columns), dtype, settings.device) end
      sets_of = rows .. columns .. dtype
    end
    local f = by_name[name]
    local function call(turn) measure.free(f(sets[turn % #sets + 1])) end
    if pcall(call, 1) then
      local time = settings.device == "cpu" and time_on_cpu or time_on_gpu
      print(("%.3f %.3f"):format(time(call, settings.seconds, settings.device)))
    else
      print "none"
    end
  end
end

-- A process that answers requests: ask(request) gives {time, host}, or nil.
local function server(command)
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkfifo " .. path) == 0, "mkfifo failed")
  local requests = assert(io.popen(("%s > %s"):format(command, path), "w"))
  local answers = assert(io.open(path))
  os.remove(path)
  return function(request)
    requests:write(request, "\n")
    requests:flush()
    local answer = answers:read() or error(("'%s' has ended"):format(command), 0)
    local time, host = answer:match "^([%d.]+) ([%d.]+)$"
    return time and {tonumber(time), tonumber(host)}
  end
end

local function combine(runs, on_cpu)
  local result = {}
  for column = 1, 2 do
    local values = {}
    for _, run in ipairs(runs) do table.insert(values, run[column]) end
    result[column] = on_cpu and math.min(unpack(values)) or measure.median(values)
  end
  return result
end

local function print_table(settings, ask_fp8, ask_torch)
  local on_cpu = settings.device == "cpu"
  print(("%s; %s, %d rounds"):format(measure.device_name(settings.device),
    on_cpu and "the least of all samples" or "medians", settings.rounds))
  print(("%-24s %-11s %-5s %11s %11s %7s %9s"):format("operation", "size", "dtype", "fp8 µs", " torch µs", "ratio",
    on_cpu and "CPU ratio" or "host"))
  local lines, slower, faster = 0, 0, 0
  local function print_line(name, size, dtype)
    local request = ("%s %s %s"):format(option_name(name), size, dtype)
    local ours, theirs = {}, {}
    for _ = 1, settings.rounds do
      table.insert(theirs, ask_torch(request))
      table.insert(ours, ask_fp8(request))
      if #ours == 0 or #theirs == 0 then return end
    end
    local a, b = combine(ours, on_cpu), combine(theirs, on_cpu)
    local ratio = a[1] / b[1]
    lines = lines + 1
    if ratio > 1.15 then slower = slower + 1 end
    if ratio < 1 then faster = faster + 1 end
    if ratio > 1.15 or not settings.slower then
      print(("%-24s %-11s %-5s %10.1f %10.1f %7.2f %9.2f"):format(name, size, dtype, a[1], b[1], ratio, a[2] / b[2]))
    end
  end
  local chosen = {}
  for _, name in ipairs(settings.only or {}) do chosen[name] = true end
  for _, size in ipairs(settings.sizes) do
    for _, dtype in ipairs(settings.dtype) do
      for _, operation in ipairs(operations) do
        local name = operation[1]
        if (not settings.only or chosen[option_name(name)]) and (operation.only or dtype) == dtype then
          print_line(name, size, dtype)
        end
      end
    end
  end
  print(("%d lines: %d faster than torch, %d over 1.15 times as slow"):format(lines, faster, slower))
end

local function text(given) return given end

local function positive(given)
  local number = tonumber(given)
  return number and number > 0 and number or nil
end

local function sizes(given)
  local list = {}
  for size in given:gmatch "[^,]+" do
    if not size:match "^%d+x%d+$" then return nil end
    table.insert(list, size)
  end
  return #list > 0 and list or nil
end

measure.main(function()
  local names = {}
  for _, operation in ipairs(operations) do names[option_name(operation[1])] = true end
  local settings = measure.options(usage, {
    device = text, sizes = sizes, dtype = measure.names {f32 = true, f16 = true, bf16 = true},
    only = measure.names(names), rounds = measure.whole, seconds = positive, sets = measure.whole, python = text,
  }, {dtype = {"f32", "bf16"}, seconds = 0.05, sets = 2, python = "python3", slower = false, alone = false})
  settings.device = settings.device or measure.default_device()
  local on_cpu = settings.device == "cpu"
  settings.sizes = settings.sizes or {on_cpu and "4096x4096" or "16384x8192", "512x512"}
  settings.rounds = settings.rounds or (on_cpu and 5 or 2)
  if settings.alone then return serve(settings) end

  local shared = (" --device %s --seconds %g --sets %d"):format(settings.device, settings.seconds,
    settings.sets)
  print_table(settings, server(("luajit %s --alone%s"):format(arg[0], shared)),
    server(("%s %soperations_peers.py%s"):format(settings.python, here, shared)))
end)
