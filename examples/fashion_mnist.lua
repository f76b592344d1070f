--- Trains the same network on Fashion-MNIST with each of the three linear layers, from the same weights and in the same
-- order, and compares them. Options: --help.
local ffi = require "ffi"
local fp8 = require "fp8"

ffi.cdef [[
int isatty(int descriptor);
int clock_gettime(int clock, void *time);
]]

local on_terminal = ffi.C.isatty(1) == 1

local usage = [[
usage: luajit examples/fashion_mnist.lua [options]
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype NAME    f32, f16 or bf16: dtype of the activations; weights stay f32 (default f32)
  --epochs N      passes over the 60,000 training images (default 5)
  --width N       features of the two hidden layers (default 256)
  --batch N       images in a batch (default 128)
  --lr X          learning rate of AdamW at the start; it falls to 0 (default 0.002)
  --seed N        of the weights and the order of the images (default 1)
  --layers LIST   which layers to train (default Linear,LinearMixed,LinearGlobal)
  --native        hardware formats e4m3 and e5m2 instead of bitsandbytes' maps
  --help          this text
]]

-- Ends with a message on standard error.
local function stop(message, ...)
  io.stderr:write("fashion_mnist: ", message:format(...), "\n")
  os.exit(1, true)
end

local function whole_number(text)
  local number = tonumber(text)
  return number and number >= 1 and number == math.floor(number) and number < 2^31 and number or nil
end

local function one_of(...)
  local allowed = {...}
  return function(text)
    for _, value in ipairs(allowed) do
      if text == value then return value end
    end
  end
end

local function layer_list(text)
  local layers = {}
  for name in text:gmatch("[^,]+") do
    if not one_of("Linear", "LinearMixed", "LinearGlobal")(name) then return nil end
    layers[#layers + 1] = name
  end
  return #layers > 0 and layers or nil
end

-- For each option: what turns its text into a value (nil if it is wrong), and what it has to be.
local readers = {
  device = {tostring, "a device"},
  dtype = {one_of("f32", "f16", "bf16"), "f32, f16 or bf16"},
  epochs = {whole_number, "a whole number of at least 1"},
  width = {whole_number, "a whole number of at least 1"},
  batch = {whole_number, "a whole number of at least 1"},
  seed = {whole_number, "a whole number of at least 1"},
  lr = {
    function(text)
      local number = tonumber(text)
      return number and number > 0 and number < math.huge and number or nil
    end,
    "a positive number",
  },
  layers = {layer_list, "a list of Linear, LinearMixed and LinearGlobal"},
}

local function read_options(arguments)
  local options = {
    dtype = "f32", epochs = 5, width = 256, batch = 128, lr = 0.002, seed = 1, native = false,
    layers = {"Linear", "LinearMixed", "LinearGlobal"},
  }
  local position = 1
  while arguments[position] do
    local argument = arguments[position]
    local name, value = argument:match("^%-%-(%w+)=(.*)$")
    name = name or argument:match("^%-%-(%w+)$")
    if name == "help" then
      io.write(usage)
      os.exit(0, true)
    elseif name == "native" and not value then
      options.native = true
    elseif name and readers[name] then
      if not value then
        position = position + 1
        value = arguments[position] or stop("option --%s needs a value; --help lists the options", name)
      end
      options[name] = readers[name][1](value)
      if options[name] == nil then stop("option --%s must be %s, got '%s'", name, readers[name][2], value) end
    else
      stop("unknown option '%s'; --help lists the options", argument)
    end
    position = position + 1
  end
  options.device = options.device or (fp8.cuda.is_available() and "cuda" or "cpu")
  return options
end

-- Grey values from 0 to 255 as numbers of mean 0 and deviation 1 over the training images.
local function normalized(images, dtype) return ((images:float() / 255 - 0.2860) / 0.3530):to(dtype) end

local function build_model(layer, options)
  fp8.manual_seed(options.seed)
  local settings = {device = options.device, native = layer ~= "Linear" and options.native or nil}
  local function linear(inputs, outputs) return fp8[layer](inputs, outputs, settings) end
  return fp8.nn.Sequential(
    linear(784, options.width), fp8.nn.ReLU(),
    linear(options.width, options.width), fp8.nn.ReLU(),
    linear(options.width, 10))
end

-- The share of images that the model puts in their class.
local function accuracy(model, data, options)
  local right = 0
  fp8.no_grad(function()
    for images, labels in fp8.data.batches({data.images, data.labels}, {batch = 1000}) do
      right = right + fp8.scope(function()
        return model(normalized(images, options.dtype)):argmax(-1):eq(labels):sum():item()
      end)
    end
  end)
  return right / #data.labels
end

-- A line that is drawn over on a terminal, and printed once an epoch elsewhere.
local function report(layer, epoch, epochs, done, loss)
  if on_terminal then
    local filled = math.floor(done * 30)
    io.write(("\r%-12s epoch %d/%d [%s%s] %3d%%  loss %.3f "):format(layer, epoch, epochs, ("="):rep(filled),
      (" "):rep(30 - filled), done * 100, loss))
    if done == 1 then io.write("\n") end
  elseif done == 1 then
    io.write(("%-12s epoch %d/%d  loss %.3f\n"):format(layer, epoch, epochs, loss))
  end
  io.flush()
end

-- Seconds of a clock that only goes forward.
local function seconds_now()
  local monotonic, time = 1, ffi.new("struct { long seconds, nanoseconds; }")
  ffi.C.clock_gettime(monotonic, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) * 1e-9
end

local function train(layer, train_data, options)
  local model = build_model(layer, options)
  local optimizer = fp8.optim.AdamW(model, {lr = options.lr})
  local batches = math.ceil(#train_data.labels / options.batch)
  local report_every = math.max(1, math.floor(batches / 30))
  for epoch = 1, options.epochs do
    local batch = 0
    for images, labels in fp8.data.batches({train_data.images, train_data.labels},
      {batch = options.batch, shuffle = true, seed = options.seed * 1000 + epoch}) do
      batch = batch + 1
      optimizer.lr = options.lr * (1 - ((epoch - 1) * batches + batch - 1) / (options.epochs * batches))
      local loss = fp8.scope(function()
        optimizer:zero_grad()
        local loss = fp8.cross_entropy(model(normalized(images, options.dtype)), labels)
        loss:backward()
        optimizer:step()
        return loss:detach()
      end)
      if batch % report_every == 0 or batch == batches then
        report(layer, epoch, options.epochs, batch / batches, loss:item())
      end
    end
  end
  return model
end

local function load_data(split, device)
  local images, labels = fp8.data.fashion_mnist(split, {device = device})
  return {images = images, labels = labels}
end

local function main()
  local options = read_options(arg)
  local train_data, test_data = load_data("train", options.device), load_data("test", options.device)
  print(("784-%d-%d-10 on %s in %s, %d epochs of %d images"):format(options.width, options.width, options.device,
    options.dtype, options.epochs, #train_data.labels))
  local rows = {}
  for _, layer in ipairs(options.layers) do
    local start = seconds_now()
    local model = train(layer, train_data, options)
    rows[#rows + 1] = ("%-12s  %12.2f%%  %7.1f"):format(layer, 100 * accuracy(model, test_data, options),
      seconds_now() - start)
  end
  print(("\n%-12s  %13s  %7s"):format("layer", "test accuracy", "seconds"))
  print(table.concat(rows, "\n"))
end

local ok, message = pcall(main)
if not ok then stop("%s", (tostring(message):gsub("^[^:]+:%d+: ", ""))) end
