--- Random tables of options and fields, recipes and rules, right and wrong.
local core = require "fp8.core"
local fp8 = require "fp8"
local sorted_pairs = require("spec.support").sorted_pairs

jit.off(true, true) -- init.lua says why

--- Adds makers to those by kind.
-- @param source what init.lua makes them with
return function(makers, source)
  local random, device, pick, make = source.random, source.device, source.pick, source.make

  function makers.float_options()
    return pick {{}, {bias = random(9)}, {infinity = true}, {signed = false}, {bias = "3"}, {bits = 3}}
  end

  function makers.packing() return pick {{}, {packed = true}, {packed = 1}} end
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

  function makers.histogram_options()
    return pick {
      {}, {range = {make "dimension", make "number"}}, {weight = make "tensor", density = true}, make "options",
    }
  end

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
  function makers.field_changes() return {{}, "a", make "any", {a = 1}, "a", nil, {}, 1, make "tensor"} end

  function makers.schedule()
    local warmup = make(pick {"small", "any"})
    return pick {
      {lr = make "small", steps = 4 + make "small", warmup = warmup, final = make "none"},
      {lr = make "small", steps = 8, warmup = warmup, decay = make(pick {"small", "any"})},
      {lr = make "small", every = make(pick {"small", "any"}), factor = make(pick {"small", "none"}), warmup = warmup},
      {lr = make "small", warmup = warmup},
    }
  end

  function makers.loss_rule()
    return random(2) == 1 and fields {weight = "losses", smoothing = "fraction", ignored = "number"} or nil
  end

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

  function makers.fitting_layer_options() return pick {{device = device}, {dtype = make "dtype", device = device}} end
  function makers.pool_rule() return pick {"max", "mean", "padded_mean", 3, make "any"} end

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

  function makers.scatter_rule() return pick {"sum", "prod", "amax", "amin", make "string"} end

  function makers.definition()
    return pick {
      {forward = function(_, x) return x * 2 end, backward = function(_, g) return g end}, {forward = print}, {},
      {forward = function() return nil end, backward = print, name = make "any"},
    }
  end
end
