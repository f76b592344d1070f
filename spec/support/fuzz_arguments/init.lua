--- Random arguments for the fuzz spec, right and wrong.
local ffi = require "ffi"
local add_options = require "spec.support.fuzz_arguments.options"
local add_tensors = require "spec.support.fuzz_arguments.tensors"
local add_values = require "spec.support.fuzz_arguments.values"
local fp8 = require "fp8"
local lists = require "spec.support.fuzz_arguments.lists"

jit.off(true, true) -- compiled code would keep the tensors that these functions refer to

local dtypes, shapes, strings = lists.dtypes, lists.shapes, lists.strings

--- A source of arguments on one device.
-- @param random generator of support.random
-- @param pool_size how many tensors to choose from; then modules are made only as they are asked for. 40, and all of
--   them at once, if left out
return function(random, device, pool_size)
  local arguments = {}
  local pool, freed, layers = {}, nil, {}

  local function pick(list) return list[random(#list)] end

  local function copied(list)
    return {unpack(list)}
  end

  local function new_tensor()
    local dtype, shape = pick(dtypes), copied(pick(shapes))
    local x = (fp8.randn(shape, {device = device}) * 3):to(dtype)
    local way = random(12)
    if way == 1 and #shape >= 2 then return x:transpose(1, -1) end
    if way == 2 and #shape >= 1 and shape[#shape] > 1 then return x:narrow(-1, 2, shape[#shape] - 1) end
    if way == 3 and #shape < 8 then return x:unsqueeze(1):expand(3, unpack(shape)) end
    if way == 4 and #shape >= 1 and shape[1] > 0 then return x[shape[1]] end
    if way <= 7 and (dtype == "f32" or dtype == "f16" or dtype == "bf16") then return x:requires_grad_() end
    if way == 8 and dtype == "f32" then return x:requires_grad_() * 2 end
    return x
  end

  local on = {device = device}
  local new_layers = {
    function() return fp8.Linear(4, 3, on) end,
    function() return fp8.LinearMixed(4, 3, on) end,
    function() return fp8.LinearGlobal(4, 3, {device = device, native = true}) end,
    function() return fp8.nn.Sequential(fp8.Linear(4, 4, on), fp8.nn.ReLU()) end,
    function() return fp8.nn.MLP(4, 3, {device = device, dropout = 0.5}) end,
    function() return fp8.nn.GatedMLP(4, 3, {device = device, activation = "gelu"}) end,
    function() return fp8.nn.Sequential(fp8.nn.LayerNorm(4, on), fp8.nn.RMSNorm(4, on), fp8.nn.LayerScale(4, on)) end,
    function() return fp8.nn.Sequential(fp8.nn.BatchNorm1d(4, on), fp8.nn.GroupNorm(2, 4, on)) end,
    function() return fp8.nn.Conv1d(3, 2, 3, {device = device, recipe = "mixed"}) end,
  }

  -- The module of this number, made when it is first asked for.
  local function layer(number)
    layers[number] = layers[number] or new_layers[number]()
    return layers[number]
  end

  --- New tensors and modules in place of all earlier ones.
  function arguments.renew()
    for i = 1, pool_size or 40 do pool[i] = new_tensor() end
    fp8.scope(function() freed = fp8.zeros(2) end)
    layers = {}
    for number = 1, pool_size and 0 or #new_layers do layer(number) end
  end

  local makers = {}
  local function make(kind) return makers[kind]() end
  local source = {random = random, device = device, pick = pick, make = make, copied = copied}
  for _, add in ipairs {add_values, add_tensors, add_options} do add(makers, source) end

  --- A tensor, most often of the dtype that most operations take.
  function makers.tensor()
    if random(50) == 1 then return freed end
    for _ = 1, 3 do
      local x = pick(pool)
      local ok, dtype = pcall(function() return x.dtype end)
      if ok and dtype == "f32" then return x end
    end
    return pick(pool)
  end

  function makers.layer() return layer(random(#new_layers)) end

  function makers.parameters()
    return pick {
      make "layer":parameters(), {make "tensor"}, {}, make "layer", {{parameters = make "layer", lr = make "number"}},
      {{params = make "layer"}}, {{params = make "layer", use_muon = false}},
    }
  end

  function makers.state()
    local module = make "layer":requires_grad_() -- another call may have frozen it
    return pick {module:state_dict(), {}, {weight = make "tensor"}, fp8.optim.SGD(module):state_dict()}
  end

  --- What a checkpoint is of; often the parts of the one at checkpoint_path.
  function makers.parts()
    local model = random(2) == 1 and layer(1) or make "layer"
    model:requires_grad_() -- another call may have frozen it
    local parts = {model = model, optimizer = random(2) == 1 and fp8.optim.AdamW(model) or nil}
    if random(4) == 1 then parts[pick {"model", "optimizer", "step", "extra"}] = make "any" end
    return parts
  end

  function makers.layers()
    local list = {}
    for i = 1, random(4) - 1 do list[random(2) == 1 and i or pick(strings)] = make "layer" end
    return list
  end

  function makers.tensor_file() return random(4) == 1 and pick(strings) or arguments.tensor_path end
  function makers.checkpoint_file() return random(4) == 1 and pick(strings) or arguments.checkpoint_path end
  function makers.idx_file() return random(4) == 1 and pick(strings) or arguments.idx_path end

  function makers.callback()
    local kept = make "tensor"
    return pick {
      function(...) return ... end,
      function() return kept end,
      function() return kept + kept end,
      function() return {fp8.zeros(3), make "any"} end,
      function() error("on purpose", 0) end,
    }
  end

  function makers.odd()
    return pick {
      io.stdout, newproxy(true), ffi.new "int[3]", ffi.new("int64_t", 5), coroutine.create(print), setmetatable({}, {
        __index = function() error("no index", 0) end,
      }), setmetatable({}, {__call = function() end}), fp8, {{{{{{{{{{1}}}}}}}}}}, {[1.5] = 1}, {1, nil, 3}, freed,
    }
  end

  local any = {
    "tensor", "tensor", "index", "map", "number", "small", "dimension", "boolean", "dtype", "device", "string", "none",
    "sizes", "list", "options", "nested", "layer", "callback", "odd", "size",
  }

  function makers.any() return make(pick(any)) end

  --- Arguments for a list of kinds, some of them changed, and how many.
  function arguments.list(kinds)
    local values, count = {}, #kinds
    for i, kind in ipairs(kinds) do values[i] = make(kind) end
    if random(10) <= 4 then
      local change = random(4)
      if change == 1 and count > 0 then
        count = count - 1
      elseif change == 2 then
        count = count + 1
        values[count] = make "any"
      elseif count > 0 then
        values[random(count)] = make "any"
      end
    end
    return values, count
  end

  arguments.pick, arguments.make = pick, make
  arguments.renew()
  return arguments
end
