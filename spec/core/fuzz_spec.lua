-- Random calls of everything that is public, with right and wrong arguments, and files with random damage: nothing but
-- results, and errors that are strings and point at the caller; no crash, no hang, and all memory back in the end.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"
local new_arguments = require "spec.support.fuzz_arguments"

local calls = tonumber(os.getenv "FP8_FUZZ_CALLS") or 20000
local files = tonumber(os.getenv "FP8_FUZZ_FILES") or 2000

-- What functions take, by their name or the last part of it; those not listed get anything.
local kinds_of = {}
for names, kinds in ([[
  sum mean prod max min argmax argmin logsumexp any all core.norm: tensor dimensions boolean
  norm: tensor norm dimensions boolean
  var std: tensor dimensions deviation_options
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
  cross_entropy: logits targets
  cross_entropy_backward: logits targets statistics losses
  layer_norm: logits features features small
  rms_norm: logits features small
  normalize_backward: normalize_fields
  attention_backward: attention_fields
  dropout: tensor fraction
  Dropout: fraction
  embedding: parameter targets
  attention: heads heads heads attention_options
  self_attention: packed small attention_options
  attention_softmax_: heads small boolean
  triangle_matmul: heads heads boolean
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
  bmm: heads heads
  addmm: matrix matrix square product_options
  baddbmm: tensor heads heads product_options
  eye: small small fitting_options
  linspace: dimension number small fitting_options
  one_hot: index small
  meshgrid: vectors
  index_select gather: tensor dimension index
  index_add: three_by_four dimension targets logits
  scatter_add: three_by_four dimension positions logits
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
  quantize_blockwise: tensor map blocksize
  dequantize_blockwise fp8.dequantize: codes quantized_state
  fp8.quantize: tensor map
  quantizer: planned_operand
  core.quantize: tensor quantizer outputs quantize_options
  core.dequantize: codes scale quantizer dtype
  delayed_scale: tensor history quantizer boolean
  convert: layer recipe filter
  compare: row tensor tensor scale quantizer
  compare_quantized: row tensor quantizer none dtype
  analyze: tensor analyze_options
  fp8.watch watch_run: layer watch_options
  find: layer callback
  scaled_matmul: codes8 scale codes8 scale dtype scaled_options
  matmul_mixed matmul_global: matrix tensor options
  Linear LinearMixed LinearGlobal: small small options
  LayerNorm RMSNorm LayerScale: small fitting_layer_options
  Embedding MultiHeadAttention MLP TransformerBlock: small small fitting_layer_options
  GELU ReLU SiLU: none
  Sequential: layer callback
  SGD AdamW StableAdamW: parameters options
  update check_update: rule update_list step
  new_live_step: device
  store_step: live rule step
  optim.clip_grad_norm: parameters norm
  core.clip_grad_norm: list norm
  cosine_schedule linear_schedule: schedule
  load: tensor_file options
  read_idx: idx_file options
  save: string state
  checkpoint.save: string parts
  checkpoint.load: checkpoint_file parts
  batches walk: list options
  no_grad scope: callback tensor small
  Function: definition
  memory reset_peak_memory synchronize set_default_device: device
  set_default_dtype: dtype
  manual_seed: number small
  permutation: small small
  __index: tensor string
  __newindex: tensor string tensor
  train_step forward: layer matrix
  optimize: parameters options
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

local excluded = {
  ["core.set_backend_loader"] = true, ["core.set_source_prefix"] = true, -- they change what errors and devices are
  ["core.backend_open"] = true, -- runs the code of the library that it is given
  ["core.set_autograd"] = true, -- what the tape itself writes
  ["core.raise"] = true, -- raises any error
  ["data.fashion_mnist"] = true, -- reads 45 MB each time
  ["methods.data"] = true, ["core.data"] = true, -- give pointers, which nothing can check
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
  apply = function(definition, x)
    local y = fp8.Function(definition)(x)
    y:sum():backward()
  end,
  differentiate = function(x, y)
    local z = x * y + x:reshape(-1):softmax(1):max() - y:t():contiguous():exp():sum(1):mean()
    z:backward(z, {retain_graph = true})
    z:sum():backward()
  end,
  walk = function(tensors, options)
    for batch in fp8.data.batches(tensors, options) do batch:totable() end
  end,
}

--- A list of {name, function}, in an order that is always the same.
local function public_functions()
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
    "Linear", "LinearMixed", "LinearGlobal", "convert", "load", "save", "checkpoint", "analyze", "watch",
  } do
    assert(fp8[name])
  end
  add("fp8", fp8)
  add("cuda", fp8.cuda)
  add("watch", fp8.watch)
  add("nn", fp8.nn)
  add("optim", fp8.optim)
  add("data", fp8.data)
  add("checkpoint", fp8.checkpoint)
  add("methods", require "fp8.tensor")
  add("core", core)
  add("metatable", debug.getmetatable(fp8.zeros(1)))
  add("module", fp8.nn.Module)
  add("uses", uses)
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local at_a_line = "^[./]*spec/%l+/fuzz_%l+%.lua:%d+: "
local here = debug.getinfo(1, "S").short_src .. ":"

--- Calls f, and notes in `wrong` any error that is no string or does not point at this file.
local function call(name, f, values, count, wrong)
  local ok, message = pcall(function()
    local first = f(unpack(values, 1, count))
    if core.is_tensor(first) and name ~= "metatable.__gc" then
      -- What comes out must be whole: all elements can be read.
      if pcall(core.numel, first) and core.numel(first) <= 4096 then core.totable(first) end
    end
    return nil
  end)
  if ok then return true end
  if type(message) ~= "string" then
    wrong[name] = "the error is a " .. type(message)
  elseif not message:find(at_a_line) and message ~= "on purpose" and message ~= "no index" then
    wrong[name] = message:sub(1, 300)
  end
  return false
end

--- Calls the functions in turn. Returns the set of names that succeeded, how many calls did, and the wrong errors.
local function call_all(functions, arguments, path)
  local worked, succeeded, wrong = {}, 0, {}
  for i = 1, calls do
    if i % 100 == 0 then arguments.renew() end
    local name, f = unpack(functions[(i - 1) % #functions + 1])
    local last = name:match "[^.]+$"
    local values, count = arguments.list(kinds_of[name] or kinds_of[last] or {"tensor", "any", "any"})
    if name:find "^module%." then values[1], count = arguments.make "layer", math.max(count, 1) end
    -- Writes nowhere else.
    if name:find "%.save$" and type(values[1]) == "string" then values[1] = path end
    local start = os.clock()
    if call(name, f, values, count, wrong) then
      succeeded = succeeded + 1
      worked[name] = true
    end
    assert(os.clock() - start < 5, name .. " took more than 5 seconds")
    if last == "scope_end" then arguments.renew() end -- it may have freed those in use
    if last == "graph_begin" then collectgarbage() end -- ends the capture, in which no random arguments can be made
    if last == "set_default_device" then core.set_default_device "cpu" end
    if last == "set_default_dtype" then core.set_default_dtype "f32" end
  end
  while pcall(core.scope_end, {}) do end -- luacheck: ignore
  return worked, succeeded, wrong
end

support.each_device(function(device)
  describe("A public function", function()
    it(("survives %d random calls"):format(calls), function()
      local functions = public_functions()
      assert.is_true(#functions > 200)
      local path, tensor_path, idx_path, checkpoint_path = os.tmpname(), os.tmpname(), os.tmpname(), os.tmpname()
      fp8.save(tensor_path, {x = fp8.zeros(2)})
      support.write_file(idx_path, "\0\0\8\1\0\0\0\3abc")
      local layer = fp8.Linear(4, 3, {device = device})
      fp8.checkpoint.save(checkpoint_path, {model = layer, optimizer = fp8.optim.AdamW(layer), extra = {1}})
      for _ = 1, 3 do collectgarbage() end
      local before = core.memory(device).in_use
      core.reset_peak_memory(device)
      local arguments = new_arguments(support.random(1), device)
      arguments.tensor_path, arguments.idx_path, arguments.checkpoint_path = tensor_path, idx_path, checkpoint_path
      local worked, succeeded, wrong = call_all(functions, arguments, path)
      for _, name in ipairs {path, tensor_path, idx_path, checkpoint_path} do os.remove(name) end
      assert.same({}, wrong)
      local count = 0
      for _ in pairs(worked) do count = count + 1 end
      local text = "%d of %d calls succeeded, %d of %d functions at least once"
      assert.is_true(count > 0.9 * #functions, text:format(succeeded, calls, count, #functions))
      assert.is_true(core.memory(device).peak - before < 2 ^ 30)
      arguments = nil -- luacheck: ignore
      for _ = 1, 3 do collectgarbage() end
      assert.is_true(core.memory(device).in_use <= before)
    end)
  end)
end)

--- A copy of `text` with random bytes changed, inserted, removed or repeated.
local function mutated(text, random)
  for _ = 1, random(4) do
    local at, way, length = random(#text + 1), random(7), random(8)
    local head, tail = text:sub(1, at - 1), text:sub(at)
    if way == 1 then
      text = head .. string.char(random(256) - 1) .. tail:sub(2)
    elseif way == 2 then
      text = head .. tail:sub(1 + length)
    elseif way == 3 then
      text = head .. tail:sub(1, length) .. tail
    elseif way == 4 then
      text = head
    elseif way == 5 then
      local digits = {"0", "9", "-1", "99999999999999999999", "1e9", "4294967295", "0.5", "null", "[", "}", '"', "\0"}
      local from, to = text:find("%d+", at)
      if from then text = text:sub(1, from - 1) .. digits[random(#digits)] .. text:sub(to + 1) end
    elseif way == 6 then
      text = head .. ("\255"):rep(length) .. tail:sub(1 + length)
    else
      local other = random(#text + 1)
      text = head .. text:sub(other, other + length) .. tail
    end
  end
  return text
end

describe("A damaged file", function()
  --- Reads many damaged forms of the texts with `read`, which gives a table of tensors.
  local function survive(texts, count, read)
    local random = support.random(1)
    collectgarbage()
    collectgarbage()
    local before, path, refused = core.memory("cpu").in_use, os.tmpname(), 0
    for i = 1, count do
      support.write_file(path, mutated(texts[i % #texts + 1], random))
      local ok, result = pcall(read, path)
      if ok then
        for name, tensor in pairs(result) do
          assert.equal("string", type(name))
          if tensor:numel() <= 65536 then tensor:totable() end
        end
      else
        assert.equal("string", type(result))
        assert.equal(here, result:sub(1, #here))
        refused = refused + 1
      end
    end
    os.remove(path)
    assert.is_true(refused > count / 2)
    for _ = 1, 3 do collectgarbage() end
    assert.is_true(core.memory("cpu").in_use <= before)
  end

  it(("of safetensors is read or refused, %d times"):format(files), function()
    local path = os.tmpname()
    fp8.save(path, {a = fp8.zeros(3, 4), b = fp8.ones(2, {dtype = "i64"}), c = fp8.zeros(0, 3)}, {note = "text"})
    local texts = {support.read_file(support.fixture "dtypes.safetensors"), support.read_file(path)}
    os.remove(path)
    survive(texts, files, function(file)
      local tensors = fp8.load(file, {f64 = "f32"})
      return tensors
    end)
  end)

  it(("of idx data is read or refused, %d times"):format(files / 2), function()
    local zlib = require "zlib"
    local text = "\0\0\8\2\0\0\0\3\0\0\0\4" .. ("x"):rep(12)
    local floats = "\0\0\13\1\0\0\0\2" .. ("\63\128\0\0"):rep(2)
    survive({text, zlib.deflate(9, 31)(text, "finish"), floats}, files / 2, function(file)
      local x = fp8.data.read_idx(file)
      return {x = x}
    end)
  end)
end)
