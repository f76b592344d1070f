--- Random arguments for the fuzz spec, right and wrong. Sizes are small or far too large: one between would be granted.
local ffi = require "ffi"
local core = require "fp8.core"
local fp8 = require "fp8"
local sorted_pairs = require("spec.support").sorted_pairs

jit.off(true, true) -- compiled code would keep the tensors that these functions refer to

local dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}
local shapes = {
  {}, {0}, {1}, {3}, {4}, {3, 4}, {4, 3}, {4, 4}, {1, 4}, {3, 1}, {2, 0}, {2, 3, 4}, {2, 4, 3}, {1, 3, 1},
  {2, 1, 3, 4}, {256}, {2, 70}, {1, 1, 1, 1, 2, 1, 1, 2},
}
local whole = {0, 1, 2, 3, 4, 5, -1, -2, -3, -4, 2 ^ 45, 2 ^ 53, -2 ^ 53, 2 ^ 62, 2 ^ 63}
local numbers = {0.5, -0.0, 1.5, 1e300, -1e300, 1e-300, 0 / 0, math.huge, -math.huge, 64, 128, 4096}
local integers = {
  5LL, 9007199254740993LL, -0x7fffffffffffffffLL - 1, 7ULL, 0xffffffffffffffffULL, ffi.new "int64_t[1]",
}
local strings = {
  "", "x", "1", "\0", "cpu", "cpu:0", "cuda:99", "f64", "nearest", "stochastic", "none", "mean", "sum", "weight",
  "grad", "shape", "%s%n%d", "tensor", "row", "block", ("long "):rep(1000), "\255\254", "1.weight",
  "/nowhere/at.all", "inf", "nan", "-1", "dtype",
}

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

  function makers.matrix()
    return fp8.randn(random(4), 4, {device = device})
  end

  function makers.index()
    local last = random(10) == 1 and 9 or 2
    local shape = random(2) == 1 and {random(4)} or copied(pick(shapes))
    return fp8.randint(0, last, shape, {device = device, dtype = pick {"i64", "i32", "u8"}})
  end

  function makers.map()
    return pick {
      fp8.create_map(), fp8.create_map(true, 4, 3, 8), fp8.create_dynamic_map(), "e4m3", "e5m2", fp8.randn(256),
      fp8.zeros(256), "e2m1", "int8", "nf4",
    }
  end
  function makers.format_name() return pick {"e2m1", "int4", "e3m2", "nf4", "e4m3", "e9"} end
  function makers.transform_length() return pick {16, 32, 64, 128, 16, 3, 0} end
  function makers.signs()
    local signs = {}
    for i = 1, pick {16, 32, 3} do signs[i] = pick {1, -1} end
    return pick {signs, false} or nil
  end
  function makers.float_options()
    return pick {{}, {bias = random(9)}, {infinity = true}, {signed = false}, {bias = "3"}, {bits = 3}}
  end
  function makers.packing() return pick {{}, {packed = true}, {packed = 1}} end

  function makers.number() return pick(random(8) == 1 and integers or random(3) == 1 and numbers or whole) end
  function makers.small() return random(4) end
  function makers.dimension() return random(5) - 3 end
  function makers.boolean() return random(2) == 1 end
  function makers.dtype() return pick(dtypes) end
  function makers.device() return random(3) == 1 and pick(strings) or device end
  function makers.rounding() return pick {"nearest", "stochastic"} end
  function makers.blocksize() return pick {64, 128, 4096, 1, 7, 2 ^ 53, 0, -1} end
  function makers.side() return random(3) == 1 and pick(whole) or random(5) end
  function makers.blocks() return random(2) == 1 and make "blocksize" or {make "side", make "side"} end
  function makers.scale_rounding() return pick {"none", "power_of_two", "mx"} end
  function makers.history() return fp8.rand(random(4), {device = device}) end
  function makers.filter() return random(2) == 1 and function(name) return #name > 0 end or nil end

  function makers.filter_or_step() return make(pick {"filter", "small", "any"}) end
  function makers.recipe_or_names()
    if random(2) == 1 then return make "recipe" end
    return {
      default = make(pick {"recipe", "boolean"}), ["*"] = random(3) == 1 and make(pick {"recipe", "any"}) or nil,
      until_step = random(2) == 1 and make "small" or nil, after = random(3) == 1 and make "recipe_or_names" or nil,
    }
  end
  function makers.labelled()
    if random(4) == 1 then return make(pick {"callback", "list", "any"}) end
    return {fp8.randn(2, 4, {device = device}), fp8.zeros(2, {dtype = "i64", device = device})}
  end
  function makers.sensitivity_options()
    return pick {
      {}, {filter = make "filter", by = pick {"gradient", "output", "loss"}}, {by = make "any"}, make "options",
    }
  end

  function makers.operand()
    local operand = {format = make "map", scale = pick {"tensor", "row", "column", "block", make "blocks"}}
    if random(3) == 1 then operand.scale_rounding = make "scale_rounding" end
    if random(3) == 1 then operand.history = make "size" end
    return operand
  end

  --- What core functions take of an operand, and other tables of fields.
  function makers.planned_operand()
    local operand = {format = make "map"}
    if random(2) == 1 then operand.blocksize = make "blocks" end
    if random(3) == 1 then operand.rounding = make "rounding" end
    if random(3) == 1 then operand.scale_rounding = make "scale_rounding" end
    if random(6) == 1 then operand.candidates = {1, 1.5, 0.5} end
    if random(8) == 1 then operand.root_mean_square, operand.mean_magnitude = 2, -0.5 end
    if random(12) == 1 then operand.largest_scale = 256 end
    local field = pick {
      "format", "blocksize", "rounding", "scale_rounding", "candidates", "root_mean_square", "mean_magnitude",
      "largest_scale",
    }
    if random(10) == 1 then operand[field] = make "any" end
    return operand
  end

  function makers.quantizer()
    local _, quantizer = pcall(core.quantizer, make "planned_operand")
    return quantizer
  end

  local function fields(kinds)
    local made = {}
    for name, kind in sorted_pairs(kinds) do made[name] = make(random(20) == 1 and "any" or kind) end
    return made
  end

  function makers.outputs()
    return pick {
      "codes scale", "values", "scale sum values", "transposed scale", "codes transposed sum", "", "codes codes", "x",
    }
  end

  function makers.quantize_options()
    local options = random(2) == 1 and fields {dtype = "dtype", sum_dtype = "dtype"} or nil
    if options and random(4) == 1 then options.known = make "scale" end
    if options and random(8) == 1 then options.repeats = make "number" end
    return options
  end

  function makers.activation() return pick {"relu", "gelu", "gelu_tanh", "silu", "exp"} end
  function makers.logits_or_none() return random(2) == 1 and make "logits" or nil end
  function makers.history_or_none() return random(2) == 1 and make "history" or nil end

  function makers.scaled_options() return random(2) == 1 and fields {fast = "boolean"} or nil end

  function makers.normalize_fields()
    if random(3) == 1 then -- of channels, which a pair and one each are right for
      local x = make "across"
      return {
        dy = make(pick {"across", "across", "tensor"}), x = x, mean = fp8.randn(4, 2, {device = device}),
        inverse = make(pick {"features", "losses"}), weight = make "features", by_channel = true,
        want_x = make "boolean", bias_dtype = make "dtype",
      }
    end
    return fields {
      dy = "logits", x = "logits", mean = "losses", inverse = "losses", weight = "features", want_x = "boolean",
      want_weight = "boolean", bias_dtype = "dtype",
    }
  end

  function makers.attention_fields()
    return fields {
      q = "heads", k = "heads", v = "heads", scale = "small", causal = "boolean", mask = "score_mask",
      y = "heads", log_sums = "losses", dy = "heads", dq = "heads", dk = "heads", dv = "heads",
    }
  end

  function makers.recipe_changes()
    return pick {{rounding = "stochastic"}, {input = make "operand"}, {forward = "full"}, {inputs = 1}, {}}
  end

  function makers.recipe()
    local names = {}
    for name in pairs(fp8.recipes) do names[#names + 1] = name end
    table.sort(names)
    if random(3) > 1 then return pick(names) end
    local recipe = {}
    for _, field in ipairs {"input", "weight", "grad_output"} do recipe[field] = make "operand" end
    if random(2) == 1 then recipe.input_grad = {weight = make "operand"} end
    recipe.weight_grad = pick {"full", "quantized", {input = make "operand"}}
    return recipe
  end

  function makers.string() return pick(strings) end
  function makers.none() return nil end
  function makers.size() return random(4) == 1 and pick(whole) or random(4) end

  function makers.sizes()
    local list = copied(pick(shapes))
    if random(3) == 1 then list[random(math.min(#list + 1, 9))] = make "size" end
    return list
  end

  function makers.dimensions()
    if random(3) == 1 then return nil end
    return random(2) == 1 and make "dimension" or {make "dimension", make "dimension"}
  end

  function makers.list()
    local list, x = {}, make "tensor"
    for i = 1, random(3) do list[i] = random(3) == 1 and make "tensor" or x end
    return list
  end

  function makers.options()
    local options = {}
    for _, name in ipairs {
      "dtype", "device", "requires_grad", "saturate", "retain_graph", "reduction", "rounding", "native", "bias", "lr",
      "batch", "seed", "shuffle", "master_weights", "f64", "scale", "format", "input", "weight_grad", "recipe",
      "momentum", "step",
    } do
      if random(20) == 1 then options[name] = make(pick {"dtype", "device", "boolean", "any", "small"}) end
    end
    if random(6) == 1 then options.recipe = make "recipe" end
    return options
  end

  function makers.fitting_options()
    return pick {
      {}, {device = device}, {dtype = make "dtype", device = device}, {device = device, requires_grad = true},
    }
  end

  function makers.vector() return fp8.randn(4, {device = device, requires_grad = random(2) == 1}) end
  function makers.square() return fp8.randn(4, 4, {device = device, requires_grad = random(2) == 1}) end
  function makers.vectors() return {make "vector", make(pick {"vector", "vector", "any"})} end
  function makers.value_options() return pick {{}, {value = make "small"}, make "options"} end
  function makers.product_options()
    return pick {{}, {alpha = make "small"}, {beta = make "number"}, make "options"}
  end

  function makers.deviation_options()
    return pick {{}, {correction = make "number"}, {keepdim = make "boolean"}, make "options"}
  end

  function makers.unique_options()
    return pick {{}, {return_inverse = make "boolean", return_counts = make "boolean"}, make "options"}
  end
  function makers.search_options() return pick {{}, {right = make "boolean"}, make "options"} end
  function makers.bins() return random(2) == 1 and make "vector" or make "size" end
  function makers.histogram_options()
    return pick {
      {}, {range = {make "dimension", make "number"}}, {weight = make "tensor", density = true}, make "options",
    }
  end

  function makers.row() return fp8.zeros(11, {dtype = "i64", device = device}) end

  function makers.analyze_options()
    local formats = {pick {"e4m3", "e5m2", "e4m3_map", "dynamic", "linear"}, make "map"}
    if random(3) == 1 then formats[pick {2, "mine", "shape"}] = make "any" end
    return pick {
      {blocks = make "boolean"}, {formats = formats},
      {formats = formats, blocks = true, scales = {pick {"tensor", "row", "block", 3, {2, 2}}}},
      {formats = {{format = make "map", scale = make "any"}}}, {scales = make "any"}, make "options", nil,
    }
  end

  function makers.watch_options()
    return pick {
      {}, {every = make "small"}, {every = 1, recipe = "global", blocks = true}, {recipe = make "any"}, make "options",
    }
  end

  function makers.step()
    return {lr = 0.1, momentum = make "small" - 1, step = 1, nesterov = make "boolean",
      rounding = pick {"nearest", "stochastic"}}
  end
  function makers.rule() return pick {"sgd", "adamw", "adam", "stable_adamw", "lion"} end
  function makers.optimizer_options()
    local state = {
      format = make(pick {"map", "any"}), second_format = pick {"e5m2", make "map"},
      blocksize = pick {64, make "number"}, smallest = make "small" - 1,
    }
    return pick {
      {}, {rounding = pick {"stochastic", make "any"}, master_weights = make "boolean"}, {state = make "any"},
      {ns_steps = make "small", adjust_lr_fn = pick {"match_rms_adamw", make "any"}, nesterov = make "boolean"},
      {state = state, momentum = 0.5}, {state = {format = pick {"e4m3", "e5m2"}, smallest = 0}}, make "options",
    }
  end
  function makers.norm() return random(4) == 1 and make "number" or random(4) - 1 end
  function makers.live() return random(8) == 1 and make "tensor" or core.new_live_step(device) end

  --- Parameters with gradients and moments, now and then without some of these, with masters, or with codes and scales.
  function makers.update_list()
    local list = {}
    for i = 1, random(3) do
      for k = 1, 7 do list[7 * i - 7 + k] = k < 5 and make "parameter" end
      if random(3) == 1 then list[7 * i - 2] = make(pick {"parameter", "tensor", "any"}) or false end
      if random(2) == 1 then list[7 * i - 3] = false end
      if random(3) == 1 then
        for k = 3, 4 do
          list[7 * i - 7 + k] = list[7 * i - 7 + k] and make(pick {"codes", "codes", "codes8", "any"}) or false
          list[7 * i - 7 + k + 3] = list[7 * i - 7 + k] and make(pick {"one_scale", "one_scale", "scale"})
        end
      end
    end
    return list
  end
  function makers.one_scale() return fp8.rand(1, {device = device}) end
  function makers.moment_format()
    if random(8) == 1 then return make(pick {"any", "planned_operand"}) end
    return core.quantizer {format = pick {"e4m3", "e5m2", fp8.create_dynamic_map()}, blocksize = pick {64, 256, 3}}
  end

  function makers.event() return random(8) == 1 and make "any" or fp8.event(device):record() end

  --- What core.update and core.commit take.
  function makers.batch() return make "batches"[1] end
  function makers.batches()
    local batches = {}
    for i = 1, random(2) do
      batches[i] = {
        rule = make "rule", list = make "update_list", settings = make "step",
        live = random(3) == 1 and make "live" or nil,
      }
      if random(2) == 1 then batches[i].first_format = make "moment_format" end
      if random(2) == 1 then batches[i].second_format = make "moment_format" end
    end
    return batches
  end
  function makers.field_changes() return {{}, "a", make "any", {a = 1}, "a", nil, {}, 1, make "tensor"} end
  function makers.field_count() return random(8) == 1 and make "number" or random(4) - 1 end
  function makers.tensor_pairs()
    local pairs_list = {}
    for i = 1, 2 * random(3) do pairs_list[i] = random(30) == 1 and make "any" or make "parameter" end
    return pairs_list
  end

  function makers.schedule()
    local warmup = make(pick {"small", "any"})
    return pick {
      {lr = make "small", steps = 4 + make "small", warmup = warmup, final = make "none"},
      {lr = make "small", steps = 8, warmup = warmup, decay = make(pick {"small", "any"})},
      {lr = make "small", every = make(pick {"small", "any"}), factor = make(pick {"small", "none"}), warmup = warmup},
      {lr = make "small", warmup = warmup},
    }
  end
  function makers.nested() return pick {{1, 2}, {{1}, {2}}, {{}, {}}, {}, {{1, 2}, {3}}, {1, "2"}, {{{1}}}} end
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

  function makers.quantized_state()
    local _, state = fp8.quantize_blockwise(fp8.randn(3, 4, {device = device}), fp8.create_map(), 64)
    if random(2) == 1 then state[pick {"absmax", "map", "blocksize", "dtype"}] = make "any" end
    return state
  end

  --- Operands of scaled_matmul and of the optimizer steps.
  function makers.codes_sum() return fp8.zeros(random(3), random(3), {device = device}) end
  function makers.codes8() return fp8.randn(random(3), 4, {device = device}):to(pick {"e4m3", "e5m2"}) end
  function makers.scale() return fp8.rand(random(2), {device = device}) end
  function makers.parameter() return fp8.rand(3, 4, {device = device}) end

  function makers.logits() return fp8.randn(3, 4, {device = device}) end
  function makers.targets()
    return random(4) == 1 and make(pick {"index", "logits"}) or fp8.randint(0, 4, {3}, {device = device})
  end
  function makers.loss_rule()
    return random(2) == 1 and fields {weight = "losses", smoothing = "fraction", ignored = "number"} or nil
  end
  function makers.layers()
    local list = {}
    for i = 1, random(4) - 1 do list[random(2) == 1 and i or pick(strings)] = make "layer" end
    return list
  end
  function makers.fan() return pick {"fan_in", "fan_out", make "any"} end
  function makers.nonlinearity() return pick {"relu", "leaky_relu", "tanh", "selu", "linear", make "any"} end
  function makers.element_loss_options()
    local options = {reduction = pick {"mean", "sum", "none", "batchmean"}}
    for _, option in ipairs {"beta", "delta", "log_target", "weight", "pos_weight", "ignore_index"} do
      if random(8) == 1 then
        options[option] = make(option == "log_target" and "boolean" or option:find "weight" and "features" or "number")
      end
    end
    return options
  end

  function makers.loss_options()
    return random(2) == 1 and fields {
      ignore_index = "number", label_smoothing = "fraction", class_weight = "losses", weight = "losses",
      rows = "small",
    } or nil
  end
  function makers.losses() return fp8.rand(3, {device = device}) end
  function makers.statistics() return fp8.rand(3, 2, {device = device}) end
  function makers.features() return random(3) == 1 and make "none" or fp8.rand(4, {device = device}) end
  function makers.across() return fp8.randn(2, 4, 5, {device = device, requires_grad = random(2) == 1}) end
  function makers.heads() return fp8.randn(2, 3, 4, {device = device, requires_grad = random(2) == 1}) end
  function makers.fused_heads() return fp8.randn(2, pick {1, 2}, 3, 32, {device = device}) end
  function makers.turned_heads() return fp8.randn(2, 4, 3, {device = device}) end
  function makers.packed() return fp8.randn(2, 3, 12, {device = device, requires_grad = random(2) == 1}) end
  function makers.fraction() return pick {0, 0.5, 0.9, random(), make "number"} end
  function makers.attention_options()
    return pick {
      {}, {causal = true}, {scale = make "number"}, {dropout = 0.5}, {causal = make "any"}, {mask = make "any"},
      {mask = make "score_mask"}, {mask = make "score_mask", causal = true, dropout = 0.5}, {enable_gqa = true},
      {kv_heads = make "small", rotary = make "fitting_rotary_options"}, {kv_heads = make "any"},
      {recipe = make "attention_recipe"}, {recipe = make "attention_recipe", causal = true, dropout = 0.5},
    }
  end
  function makers.attention_recipe()
    local recipe = {}
    for _, name in ipairs {"q", "k", "v", "probabilities"} do
      if random(2) == 1 then recipe[name] = make "operand" end
    end
    return random(10) == 1 and make "any" or recipe
  end
  function makers.embedding_options() return pick {{}, {recipe = {rows = make "operand"}}, {recipe = make "any"}} end
  function makers.score_mask()
    local shape = pick {{3}, {3, 3}, {1, 3}, {2, 1, 3}, {2, 1, 3, 3}, copied(pick(shapes))}
    local options = {device = device, requires_grad = random(2) == 1}
    return random(2) == 1 and fp8.randint(0, 2, shape, {dtype = "u8", device = device}) or fp8.randn(shape, options)
  end
  function makers.rotary_options()
    return pick {
      {}, {base = make "number"}, {offset = make "number"}, {interleaved = true}, {dimension = make "dimension"},
      make "options",
    }
  end
  function makers.fitting_rotary_options() return pick {{}, {base = make "number"}, {interleaved = true}} end
  function makers.call_options()
    return pick {
      {}, {mask = make "score_mask"}, {key_padding_mask = fp8.zeros(2, 3, {dtype = "u8", device = device})},
      {key_padding_mask = make "score_mask", mask = make "score_mask"}, {cache = make "any"},
      {cache = fp8.nn.KeyValueCache()}, make "options",
    }
  end
  function makers.recurrent_options()
    return pick {
      {device = device}, {device = device, bidirectional = true, num_layers = 2, dropout = 0.5},
      {device = device, batch_first = true, bias = false}, {num_layers = make "any"}, {recipe = make "recipe"},
      make "options",
    }
  end
  function makers.gates() return fp8.randn(2, pick {12, 12, 16, 16, 9}, {device = device}) end
  function makers.hidden_state() return random(6) == 1 and make "any" or fp8.randn(2, 4, {device = device}) end
  function makers.fitting_layer_options() return pick {{device = device}, {dtype = make "dtype", device = device}} end
  --- Images, patches and what goes with them.
  function makers.images4() return fp8.randn(2, 3, 5, 6, {device = device, requires_grad = random(2) == 1}) end
  function makers.images() return random(2) == 1 and make "images4" or fp8.randn(3, 5, 6, {device = device}) end
  function makers.signals() return fp8.randn(2, 3, 5, {device = device, requires_grad = random(2) == 1}) end
  function makers.kernel() return fp8.randn(4, 3, 2, 2, {device = device, requires_grad = random(2) == 1}) end
  function makers.signal_kernel() return fp8.randn(4, 3, 2, {device = device, requires_grad = random(2) == 1}) end
  function makers.columns() return fp8.randn(2, 12, 20, {device = device}) end
  function makers.convolved() return fp8.randn(2, 4, 4, 5, {device = device}) end
  function makers.pooled() return fp8.randn(2, 3, 2, 3, {device = device}) end
  function makers.pooled_positions()
    local last = random(8) == 1 and 99 or 30
    return random(4) > 1 and fp8.randint(0, last, {2, 3, 2, 3}, {device = device, dtype = "i64"}) or nil
  end
  function makers.image_sizes() return {2, 3, 5, 6} end
  function makers.five_by_six() return random(8) == 1 and make "any" or {5, 6} end
  function makers.kernel_side() return random(8) == 1 and make "side" or {2, 2} end
  function makers.zero() return 0 end
  function makers.one() return 1 end
  function makers.two() return 2 end
  function makers.pool_rule() return pick {"max", "mean", "padded_mean", 3, make "any"} end
  function makers.pad_mode() return pick {"constant", "reflect", "replicate", "circular", make "any"} end
  function makers.amounts()
    local list = {}
    for i = 1, 2 * random(2) do list[i] = random(8) == 1 and make "side" or random(4) - 2 end
    return list
  end

  local function options_of(names)
    local options = {}
    for _, name in ipairs(names) do
      local kind = random(8) == 1 and "any" or name:find "_" and "boolean" or "side"
      if random(4) == 1 then options[name] = make(kind) end
    end
    return options
  end

  function makers.window_options() return options_of {"stride", "dilation"} end
  function makers.pool_options()
    return options_of {"stride", "padding", "dilation", "ceil_mode", "return_indices", "count_include_pad"}
  end
  function makers.convolution_options()
    local options = options_of {"stride", "padding"}
    options.device, options.groups = device, random(4) == 1 and make "small" or nil
    if random(3) == 1 then options.recipe = make "recipe" end
    return options
  end

  function makers.three_by_four() return {3, 4} end
  function makers.positions() return random(4) == 1 and make "index" or fp8.randint(0, 3, {3, 4}, {device = device}) end

  function makers.mask() return fp8.randint(0, 2, {3, 4}, {dtype = "u8", device = device}) end
  function makers.index_list()
    local list = {}
    for i = 1, random(2) do list[i] = random(4) == 1 and make "index" or fp8.randint(0, 3, {2}, {device = device}) end
    return list
  end
  function makers.scatter_rule() return pick {"sum", "prod", "amax", "amin", make "string"} end
  function makers.equation()
    return pick {"ij,jk->ik", "ij,jk", "...i,i...->...", "ii,jj->", "ab,cd->abcd", "i.j", "ij,kl", make "string"}
  end
  function makers.key()
    return pick {
      make "string", make "number", random(3), {random(3)}, {{}, {1, random(4)}}, {{1, random(3), random(3)}, -1},
      make "mask", make "index", make "tensor", make "sizes",
    }
  end

  function makers.tensor_file() return random(4) == 1 and pick(strings) or arguments.tensor_path end
  function makers.checkpoint_file() return random(4) == 1 and pick(strings) or arguments.checkpoint_path end
  function makers.idx_file() return random(4) == 1 and pick(strings) or arguments.idx_path end

  function makers.codes() return fp8.randint(0, 256, {3, 4}, {dtype = "u8", device = device}) end

  function makers.definition()
    return pick {
      {forward = function(_, x) return x * 2 end, backward = function(_, g) return g end}, {forward = print}, {},
      {forward = function() return nil end, backward = print, name = make "any"},
    }
  end

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
