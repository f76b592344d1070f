--- Everything that scripts can call, and what it takes.
local core = require "fp8.core"
local fp8 = require "fp8"

local public = {}

-- What functions take, by their name or the last part of it; those not listed get anything.
local kinds_of = {}
for names, kinds in ([[
  sum mean prod max min argmax argmin logsumexp any all core.norm: tensor dimensions boolean
  norm: tensor norm dimensions boolean
  cumsum cumprod cumsum_ cumprod_ cummax cummin logcumsumexp softmin: tensor dimension
  diff: tensor small dimension
  atan asin acos sinh cosh exp2 frac logsigmoid mish softsign relu6: tensor
  asinh acosh atanh selu hardsigmoid hardswish bernoulli: tensor
  atan_ asin_ acos_ sinh_ cosh_ exp2_ frac_ asinh_ acosh_ atanh_ selu_ logical_not_: tensor
  fmod_ copysign_ xlogy_ heaviside_ eq_ ne_ lt_ le_ gt_ ge_ logical_and_ logical_or_ logical_xor_: tensor tensor
  celu_ clamp_min_ clamp_max_: tensor number
  clip_ hardtanh_: tensor number number
  logit_: tensor fraction
  nan_to_num_: tensor number number number
  celu: tensor number
  fmod copysign xlogy inner: tensor tensor
  logit: tensor fraction
  glu: tensor dimension
  prelu: tensor vector
  rot90: tensor dimension dimensions
  unflatten: tensor dimension sizes
  tensor_split: tensor small dimension
  cov: matrix small
  corrcoef: matrix
  trapezoid: tensor number dimension
  logspace: number number small number fitting_options
  randperm: small
  triu_indices tril_indices: small small dimension
  LeakyReLU ELU CELU Softplus: number
  PReLU: small number
  clip hardtanh: tensor number number
  clamp_min clamp_max: tensor number
  nan_to_num: tensor number number number
  concat: list dimension
  hstack vstack: list
  moveaxis: tensor dimension dimension
  isin: tensor tensor
  normalize: tensor norm dimension small
  cosine_similarity: tensor tensor dimension small
  nansum nanmean amax amin aminmax: tensor dimensions boolean
  nanmedian: tensor dimension boolean
  expand_as view_as reshape_as type_as kron logaddexp heaviside: tensor tensor
  cross: signals signals two
  tensordot: across across small
  cdist: matrix matrix norm
  mm: matrix square
  trace: matrix
  diagonal: tensor dimension dimension dimension
  repeat_interleave: tensor small dimension
  put put_: tensor index tensor boolean
  sort argsort: tensor dimension boolean boolean
  core.sort core.cumsum core.cumprod: tensor dimension boolean
  msort: tensor
  topk: tensor small dimension boolean boolean
  kthvalue: tensor small dimension boolean
  median: tensor dimension boolean
  quantile: tensor fraction dimension boolean
  var std var_mean std_mean: tensor dimensions deviation_options
  isclose allclose: tensor tensor small small boolean
  equal: tensor tensor
  add sub mul div pow maximum minimum eq ne lt le gt ge add_ sub_ mul_ div_ copy_: tensor tensor
  __add __sub __mul __div __pow __concat matmul: tensor tensor
  tanh_backward sigmoid_backward sin_backward relu_backward: tensor tensor
  gelu_backward gelu_tanh_backward silu_backward: tensor tensor
  neg abs exp log sqrt rsqrt sin tanh sigmoid relu gelu gelu_tanh silu matrices __unm __len __tostring: tensor
  sign floor ceil round trunc expm1 log2 log10 log1p cos tan erf square reciprocal: tensor
  isnan isinf isfinite logical_not: tensor
  remainder atan2 hypot logical_and logical_or logical_xor: tensor tensor
  expm1_backward log2_backward log10_backward log1p_backward cos_backward tan_backward erf_backward: tensor tensor
  neg_ abs_ sign_ floor_ ceil_ round_ trunc_ exp_ expm1_ log_ log2_ log10_ log1p_ sqrt_ rsqrt_ sin_ cos_ tan_: tensor
  tanh_ erf_ sigmoid_ relu_ silu_ gelu_ gelu_tanh_ square_ reciprocal_: tensor
  pow_ remainder_ atan2_ hypot_ maximum_ minimum_: tensor tensor
  leaky_relu elu softplus leaky_relu_ elu_ softplus_: tensor number
  clamp_: tensor number number
  masked_fill_: tensor tensor number
  addcmul_ addcdiv_: tensor tensor tensor value_options
  lerp_: tensor tensor number
  addcmul addcdiv: tensor tensor tensor value_options
  lerp: tensor tensor number
  promoted: dtype dtype
  t item totable contiguous clone detach backward float half bfloat16 cpu: tensor
  fill_: tensor number
  where: tensor tensor tensor
  masked_fill: tensor tensor number
  clamp: tensor number number
  softmax log_softmax squeeze unsqueeze size: tensor dimension
  softmax_backward: tensor tensor dimension boolean
  fp8.cross_entropy: logits targets loss_options
  mse_loss l1_loss smooth_l1_loss huber_loss kl_div: logits logits element_loss_options
  binary_cross_entropy_with_logits: logits logits element_loss_options
  nll_loss: logits targets element_loss_options
  normal_ uniform_: tensor number number
  bernoulli_: tensor fraction
  init.uniform_ init.normal_: parameter number number
  constant_: parameter number
  zeros_ ones_ eye_: parameter
  xavier_uniform_ xavier_normal_: parameter small
  kaiming_uniform_ kaiming_normal_: parameter small fan nonlinearity
  trunc_normal_: parameter number small dimension small
  calculate_gain: nonlinearity small
  core.cross_entropy: logits targets loss_rule losses boolean
  linear_cross_entropy: logits parameter targets loss_options
  cross_entropy_backward: logits targets statistics losses loss_rule
  scale_: tensor scale
  matmul_add_: parameter logits matrix
  layer_norm: logits features features small
  core.batch_norm: across features features small
  rms_norm: logits features small
  normalize_backward: normalize_fields
  attention_backward: attention_fields
  dropout: tensor fraction
  Dropout: fraction
  embedding: parameter targets embedding_options
  attention: heads heads heads attention_options
  core.attention: fused_heads fused_heads fused_heads small boolean score_mask
  self_attention: packed small attention_options
  attention_softmax_: heads small boolean boolean
  alibi_slopes: small fitting_options
  rotary_embedding: tensor rotary_options
  rotate: heads dimension small small boolean boolean
  recurrent_step: gates gates hidden_state
  recurrent_step_backward: gates hidden_state hidden_state hidden_state hidden_state
  RotaryEmbedding: small fitting_rotary_options
  KeyValueCache: none
  GRU LSTM: small small recurrent_options
  GRUCell LSTMCell: small small fitting_layer_options
  attend: packed call_options
  recur: heads small recurrent_options
  triangle_matmul: heads across boolean
  attention_softmax_backward_: heads heads small boolean
  cat stack: list dimension
  chunk split: tensor small dimension
  unbind: tensor dimension
  movedim swapaxes swapdims: tensor dimension dimension
  tile: tensor small small
  flip: tensor dimension
  roll: tensor dimension dimension
  triu tril: matrix dimension
  diag: tensor dimension
  outer dot: vector vector
  mv: matrix vector
  bmm: heads across
  addmm: matrix matrix square product_options
  baddbmm: scale heads across product_options
  eye: small small fitting_options
  linspace: dimension number small fitting_options
  one_hot: index small
  meshgrid: vectors
  unfold: images small window_options
  windows: tensor dimension small small
  fold: columns five_by_six kernel_side window_options
  pad: tensor amounts pad_mode
  max_pool2d avg_pool2d: images small pool_options
  max_pool1d avg_pool1d: signals small pool_options
  adaptive_avg_pool2d adaptive_max_pool2d: images small
  adaptive_avg_pool1d adaptive_max_pool1d: signals small
  conv2d: images kernel features window_options
  conv1d: signals signal_kernel features window_options
  unfold_patches: images4 boolean two two one one one one side side side side
  fold_patches: columns image_sizes two two one one one one zero zero zero zero
  pool: images4 pool_rule boolean two two small small one one one one one one
  pool_backward: pooled pooled_positions image_sizes pool_rule boolean two two two two one one zero zero zero zero
  convolution: images4 kernel features one two two one one one one zero zero zero zero
  convolution_backward: convolved images4 kernel one boolean dtype two two one one one one zero zero zero zero
  Conv2d Conv1d: small small small convolution_options
  MaxPool1d MaxPool2d AvgPool1d AvgPool2d: small pool_options
  AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d: small
  BatchNorm1d BatchNorm2d InstanceNorm1d InstanceNorm2d: small fitting_layer_options
  GroupNorm: small small fitting_layer_options
  index_select gather: tensor dimension index
  nonzero argwhere: tensor
  count_nonzero: tensor dimensions
  masked_select: tensor tensor
  unique unique_consecutive: tensor unique_options
  searchsorted bucketize: vector tensor search_options
  core.searchsorted: vector tensor boolean
  histogram: tensor bins histogram_options
  core.histogram: tensor vector
  histc: tensor small dimension small
  bincount: targets losses small
  core.bincount: targets small
  multinomial: losses small boolean
  take: tensor index
  take_along_dim: logits positions dimension
  masked_scatter masked_scatter_: logits mask logits
  core.index_add: three_by_four dimension targets logits
  index_add index_copy index_add_ index_copy_: logits dimension targets logits
  index_fill index_fill_: logits dimension targets number
  index_put index_put_: logits index_list number boolean
  scatter scatter_add scatter_ scatter_add_: logits dimension positions logits
  scatter_reduce scatter_reduce_: logits dimension positions logits scatter_rule
  rows: tensor
  einsum: equation matrix square
  view reshape permute expand: tensor sizes
  transpose flatten: tensor dimension dimension
  narrow: tensor dimension small small
  select: tensor dimension small
  zeros_like ones_like empty_like rand_like randn_like: tensor fitting_options
  full_like: tensor number fitting_options
  to: tensor dtype
  requires_grad_ set_requires_grad: tensor boolean
  zeros ones empty rand randn: sizes fitting_options
  full: sizes number fitting_options
  tensor: nested fitting_options
  arange: dimension small small fitting_options
  randint: dimension number sizes fitting_options
  create_map: boolean small small small
  create_dynamic_map: boolean small small
  create_linear_map: boolean small
  fp8.create_float_map: small small float_options
  core.create_float_map: small small small boolean boolean
  code_bits: codes format_name packing
  fp8.hadamard: tensor transform_length signs
  core.hadamard: tensor transform_length boolean string
  quantize_blockwise: tensor map blocksize
  dequantize_blockwise fp8.dequantize: codes quantized_state
  fp8.quantize: tensor map
  quantizer: planned_operand
  core.quantize: tensor quantizer outputs quantize_options
  core.quantize_activated: logits logits_or_none activation quantizer outputs quantize_options history_or_none boolean
  core.quantize_cross_entropy: logits targets loss_rule losses quantizer outputs quantize_options
  core.quantize_both_ways: tensor quantizer quantizer dtype
  core.quantize_values: tensor none none quantizer transform_length boolean none quantizer
  core.draw_signs: transform_length
  core.dequantize: codes scale quantizer dtype
  delayed_scale: tensor history quantizer boolean
  fitted_scale: tensor quantizer
  convert: layer recipe_or_names filter_or_step
  fp8.recipe: recipe recipe_changes
  with: layer string callback callback
  finally: callback callback tensor
  core.scope: callback tensor callback
  promote: tensor
  core.commit: field_changes field_count tensor_pairs tensor_pairs
  compare: row tensor tensor scale quantizer
  compare_quantized: row tensor quantizer none dtype
  analyze: tensor analyze_options
  fp8.watch watch_run: layer watch_options
  sensitivity: layer labelled recipe_or_names sensitivity_options
  measure: layer recipe_or_names sensitivity_options
  fp8.recipe: recipe
  find: layer callback
  scaled_matmul: codes8 scale codes8 scale dtype scaled_options
  scaled_matmul_add_: codes_sum codes8 scale codes8 scale
  scales_runs: tensor
  matmul_mixed matmul_global: matrix tensor options
  Linear LinearMixed LinearGlobal: small small options
  LayerNorm RMSNorm LayerScale: small fitting_layer_options
  Embedding MultiHeadAttention MLP GatedMLP TransformerBlock: small small fitting_layer_options
  GELU ReLU SiLU Tanh Sigmoid Identity SELU ReLU6 Mish Softsign LogSigmoid Hardswish Hardsigmoid: none
  Softmax LogSoftmax: dimension
  Flatten: dimension dimension
  ModuleList ModuleDict: layers
  Sequential: layer callback
  SGD Adam AdamW StableAdamW Lion Muon: parameters optimizer_options
  update: batches field_changes field_count
  new_live_step: device
  update_words: batch
  store_step: live rule step small
  optim.clip_grad_norm: parameters norm
  core.clip_grad_norm: list norm
  cosine_schedule linear_schedule constant_schedule warmup_stable_decay_schedule step_schedule: schedule
  dtype_called: dtype
  load: tensor_file options
  read_idx: idx_file options
  save: string state
  checkpoint.save: string parts
  checkpoint.load: checkpoint_file parts
  checkpoint.read: checkpoint_file
  batches walk: list options
  DataParallel: layer options
  no_grad scope recompute: callback tensor small
  memory_report: callback
  gradcheck: callback across options
  accumulate: tensor tensor
  Function: definition
  memory reset_peak_memory synchronize set_default_device device_name event: device
  event_record: event
  event_elapsed: event event
  set_default_dtype: dtype
  manual_seed: number small
  permutation: small small
  __index: logits key
  __newindex: logits key number
  train_step forward: layer matrix
  optimize: parameters optimizer_options
  apply: definition tensor
  differentiate: tensor tensor
  load_state_dict: layer state
  extend: layer string
  named_modules parameters named_parameters state_dict train eval zero_grad children description: layer
]]):gmatch "([^:\n]+): ([^\n]+)" do
  local list = {}
  for kind in kinds:gmatch "%S+" do table.insert(list, kind) end
  for name in names:gmatch "%S+" do kinds_of[name] = list end
end

-- What takes nothing.
for name in ([[
  fp8.is_deterministic cuda.device_count cuda.is_available distributed.init distributed.is_initialized
  distributed.rank distributed.size distributed.local_rank distributed.device distributed.barrier
]]):gmatch "%S+" do
  kinds_of[name] = {}
end
kinds_of["fp8.set_deterministic"] = {"boolean"}

local excluded = {
  -- They change what errors and devices are.
  ["core.set_backend_loader"] = true, ["core.set_source_prefix"] = true, ["core.set_public_names"] = true,
  ["core.backend_open"] = true, ["core.distributed_open"] = true, -- runs the code of the library that it is given
  ["core.set_autograd"] = true, -- what the tape itself writes
  ["core.raise"] = true, -- raises any error
  ["fp8.help"] = true, -- prints
  ["data.fashion_mnist"] = true, -- reads 45 MB each time
  ["core.watch_interrupts"] = true, ["core.wait_for_input"] = true, -- take Ctrl-C, and wait for a key
  ["methods.data"] = true, ["core.data"] = true, -- give pointers, which nothing can check
  ["methods.to_dlpack"] = true, ["fp8.to_dlpack"] = true, ["core.to_dlpack"] = true,
  ["core.from_data"] = true, ["core.from_dlpack"] = true, -- take them
}

--- What objects do that public functions return.
local uses = {
  train_step = function(layer, x)
    layer(x):sum():backward()
    layer:zero_grad()
  end,
  optimize = function(parameters, options)
    local optimizer = fp8.optim.AdamW(parameters, options)
    for _, parameter in ipairs(optimizer.parameters) do parameter.grad = fp8.zeros_like(parameter) end
    optimizer:step()
    optimizer:load_state_dict(optimizer:state_dict())
    optimizer:zero_grad()
  end,
  watch_run = function(layer, options)
    local watcher = fp8.watch(layer, options)
    fp8.watch.find(layer, function() return layer(fp8.ones(2, 4, {device = layer:parameters()[1].device})) end)
    for _ = 1, 3 do watcher:step() end
    watcher:rows()
    watcher:first_bad()
    tostring(watcher)
    watcher:close()
  end,
  measure = function(layer, recipe, options)
    local x = fp8.ones(2, 4, {device = layer:parameters()[1].device})
    tostring(fp8.sensitivity(layer, function() return layer(x):sum() end, recipe, options))
  end,
  apply = function(definition, x)
    local y = fp8.Function(definition)(x)
    y:sum():backward()
  end,
  differentiate = function(x, y)
    local z = x * y + x:reshape(-1):softmax(1):max() - y:t():contiguous():exp():sum(1):mean()
    z:backward(z, {retain_graph = true})
    z:sum():backward()
  end,
  attend = function(x, options)
    local block = fp8.nn.TransformerBlock(12, 2, {device = x.device, kv_heads = 1, rotary = {interleaved = true}})
    local cache = fp8.nn.KeyValueCache()
    fp8.no_grad(function()
      for _ = 1, 2 do block(x, {cache = cache}) end
    end)
    cache:length()
    tostring(cache)
    block(x, options):sum():backward()
  end,
  recur = function(x, hidden, options)
    for _, class in ipairs {"GRU", "LSTM"} do
      local layer = fp8.nn[class](4, hidden, options)
      local y, states = layer(x)
      y:sum():backward()
      layer(x, states)
    end
  end,
  walk = function(tensors, options)
    for batch in fp8.data.batches(tensors, options) do batch:totable() end
  end,
}

--- A list of {name, function}, in an order that is always the same.
function public.functions()
  local list = {}
  local function add(prefix, functions)
    for name, f in pairs(functions) do
      local full = prefix .. "." .. tostring(name)
      local callable = type(f) == "function" or (type(f) == "table" and getmetatable(f) and getmetatable(f).__call)
      if callable and not excluded[full] then table.insert(list, {full, f}) end
    end
  end
  -- Loaded when first used.
  for _, name in ipairs {
    "Linear", "LinearMixed", "LinearGlobal", "convert", "load", "save", "checkpoint", "analyze", "watch", "sensitivity",
    "gradcheck",
  } do
    assert(fp8[name])
  end
  add("fp8", fp8)
  add("cuda", fp8.cuda)
  add("watch", fp8.watch)
  add("nn", fp8.nn)
  add("init", fp8.nn.init)
  add("optim", fp8.optim)
  add("data", fp8.data)
  add("distributed", fp8.distributed)
  add("checkpoint", fp8.checkpoint)
  add("methods", require "fp8.tensor")
  add("core", core)
  add("metatable", debug.getmetatable(fp8.zeros(1)))
  add("module", fp8.nn.Module)
  add("uses", uses)
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

--- The kinds of arguments (fuzz_arguments) that the function called `name` takes.
function public.kinds_of(name)
  return kinds_of[name] or kinds_of[name:match "[^.]+$"] or {"tensor", "any", "any"}
end

return public
