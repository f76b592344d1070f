--- fp8.checkpoint.load, into a model with histories and its optimizer, and fp8.checkpoint.save of them.
local fp8 = require "fp8"
local compare = require "spec.fuzz.compare"
local mutations = require "spec.fuzz.mutations"
local safetensors = require "spec.fuzz.readers.safetensors"

fp8.manual_seed(1)
local model = fp8.nn.Sequential(fp8.LinearMixed(3, 2), fp8.nn.ReLU(),
  fp8.Linear(2, 2, {bias = false, recipe = {
    input = {format = "e4m3", scale = "tensor", history = 2}, weight = {format = "e4m3", scale = "tensor"},
    grad_output = {format = "e5m2", scale = "tensor"},
  }}))
local optimizer = fp8.optim.SGD(model, {momentum = 0.5})
local parts = {model = model, optimizer = optimizer}

local words = {
  "__metadata__", "dtype", "shape", "data_offsets", "F32", "BF16", "F64", "U8", "I32", "I64", "kind", "step", "random",
  "extra", "recipes", "fp8 checkpoint 1", "fp8 checkpoint 2", "0", "1e3", "-1", "0x10", "9007199254740992",
  "[1,2]", "[1]", "[]", "{}", "null", "[null,1]", "[1,9007199254740992]",
  '{\\"a\\":null}', '{\\"a\\":1e999}', '{\\"a\\":[1,{\\"b\\":\\"c\\"}]}',
  "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "model.1.weight", "model.1.bias", "model.3.weight", "model.3.input_history",
  "optimizer.1.momentum_buffer", "optimizer.steps", "optimizer.settings", "optimizer.3.master", "other.1", "",
}

-- What a checkpoint changes, as plain values.
local function state()
  local seed, position = fp8.random_state()
  return {
    model = compare.texts(model:state_dict()), optimizer = compare.texts(optimizer:state_dict()),
    random = {seed, position},
  }
end

local function copies(tensors)
  local list = {}
  for name, tensor in pairs(tensors) do list[name] = tensor:clone() end
  return list
end

local first, first_model, first_optimizer = state(), copies(model:state_dict()), copies(optimizer:state_dict())

local function begin_again()
  model:load_state_dict(first_model)
  optimizer:load_state_dict(first_optimizer)
  fp8.manual_seed(first.random[1], first.random[2])
end

-- Into the model alone if the optimizer is what is missing, so that it is seen to be refused.
local function read(path)
  local ok, found = pcall(fp8.checkpoint.load, path, parts)
  if ok then return {found = found, path = path} end
  if found:find "has no optimizer$" then
    return {found = fp8.checkpoint.load(path, {model = model}), path = path}
  end
  error(found, 0)
end

-- The tensors of the file are those of the model and the optimizer now, but for the settings, which are text; and a
-- checkpoint of it all is read as the same again.
local function verify(read_before, _, path)
  local found, before = read_before.found, state()
  for name, text in pairs(compare.texts(fp8.load(read_before.path))) do
    local part, own = name:match "^(%a+)%.(.*)$"
    if name ~= "optimizer.settings" then compare.same(name, text, before[part][own]) end
  end
  rawset(model, "given_recipes", found.recipes and {recipes = found.recipes, phase = 1})
  fp8.checkpoint.save(path, {model = model, optimizer = optimizer, step = found.step, extra = found.extra})
  rawset(model, "given_recipes", nil)
  begin_again()
  compare.same("checkpoint", found, fp8.checkpoint.load(path, parts))
  compare.same("state", before, state())
  begin_again()
end

local kinds = {
  "load: FILE: tensor '…' has dtype F64, which is not supported; the option f64 = \"f32\" reads it as f32",
  "checkpoint.load: FILE is no checkpoint: its metadata does not say 'fp8 checkpoint 1'",
  "checkpoint.load: FILE: tensor '…' belongs to nothing",
  "checkpoint.load: FILE: its step can't be read",
  "checkpoint.load: FILE: its random can't be read",
  "checkpoint.load: FILE: its random state can't be read",
  "checkpoint.load: FILE: its extra can't be read",
  "checkpoint.load: FILE: its recipes can't be read",
  "checkpoint.load: FILE is of another …: it has no …, … here",
  "checkpoint.load: FILE is of another …: it has …, …, which is not here",
  "checkpoint.load: FILE is of another …: … is … there and … here",
  "checkpoint.load: FILE: settings are not what state_dict writes",
  "checkpoint.load: FILE: the state is that of …, not of SGD",
  "checkpoint.load: FILE: unknown option …",
  "checkpoint.load: FILE: option … must be a boolean, got …",
  "checkpoint.load: FILE: option … must be a finite number of at least 0, got …",
  "checkpoint.load: FILE: option rounding must be \"nearest\" or \"stochastic\", got …",
  "checkpoint.load: FILE: rounding = \"stochastic\" is instead of master_weights: one of the two",
  "checkpoint.load: FILE: settings of … groups, the optimizer has 1",
  "checkpoint.load: FILE: the settings lack …",
  "checkpoint.load: FILE: parameter … has … steps",
}
for _, kind in ipairs(safetensors.kinds) do kinds[#kinds + 1] = kind end

return {
  files = {
    "lua/fp8/files/checkpoint.lua", "lua/fp8/files/plain_text.lua", "lua/fp8/optim/state.lua",
    "lua/fp8/files/safetensors.lua", "lua/fp8/files/json.lua",
  },
  kinds = kinds,
  memory = function(bytes) return 2 * #bytes + 65536 end,
  read = read, verify = verify,
  refused = function() compare.same("state", first, state()) end,
  mutate = function(bytes, ...) return mutations.safetensors(bytes, words, {"extra", "random"}, ...) end,
}
