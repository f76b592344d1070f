--- Recipes, as layers, fp8.convert and the products take them. An input is text:
--
--   WHERE IN OUT VALUE: who takes it, the sizes of a layer, and what it is given
--
-- in words with spaces between them. A value is a word, or { KEY VALUE KEY VALUE … }. Words are numbers, true, false,
-- nil, $self (the table around it), those of `special`, and else strings; every text says something.
local fp8 = require "fp8"
local compare = require "spec.fuzz.compare"
local mutations = require "spec.fuzz.mutations"
local published = require "fp8.linear.published"

local largest_size = 80

local map = fp8.create_map(true, 4, 3, 8)
local with_nan = map:clone()
with_nan:narrow(1, 128, 1):fill_(0 / 0)
local gone
fp8.scope(function() gone = fp8.zeros(256) end)

local special = {
  ["$map"] = map, ["$unsigned"] = fp8.create_map(false, 4, 4, 8), ["$half"] = map:to "f16", ["$nan"] = with_nan,
  ["$gone"] = gone, ["$descending"] = -map, ["$ones"] = fp8.ones(256), ["$short"] = fp8.zeros(255),
  ["$square"] = map:view(16, 16), ["$u8"] = fp8.zeros(256):to "u8", ["$grad"] = map:clone():requires_grad_(),
  ["$strided"] = fp8.zeros(256, 2):select(2, 1), ["$function"] = function() end, ["$int64"] = 4LL,
  ["$inf"] = math.huge, ["$zero"] = "e4m3\0",
  ["$raises"] = setmetatable({}, {__index = function() error("on purpose", 0) end}),
  ["$indexed"] = setmetatable({}, {__index = {format = "e4m3", scale = "row", 2, 2}}),
}
local names = {}
for name in pairs(fp8.recipes) do
  names[#names + 1] = name
  special["$" .. name] = fp8.recipes[name]
end
table.sort(names)
special["true"], special["false"] = true, false

local formats = {
  "e4m3", "e5m2", "e2m1", "int8", "nf4", "$map", "$unsigned", "$half", "$nan", "$gone", "$descending", "$ones",
  "$short", "$square", "$u8",
  "$grad", "$strided", "$zero", "8", "nil",
}
local scales = {
  "tensor", "row", "column", "block", "1", "16", "128", "9007199254740991", "9007199254740992", "0", "1.5",
  "{ 1 1 2 16 }", "{ 1 128 2 128 }", "{ 1 9007199254740991 2 1 }", "{ 1 4 }", "{ 1 0 2 4 }", "{ 1 4 2 4 3 4 }",
  "$indexed", "mixed", "nil",
}
local operands = {
  "{ format e4m3 scale row }", "{ format e5m2 scale column }", "{ format $map scale 64 }",
  "{ format e4m3 scale tensor }", "{ format e4m3 scale tensor history 2 }",
  "{ format e5m2 scale { 1 1 2 32 } scale_rounding mx }", "full",
  "{ format e2m1 scale { 1 1 2 16 } scale_rounding e4m3 second_scale tensor }",
  "{ format int4 scale row hadamard 16 signs random }", "{ format e2m1 scale row candidates { 1 1 2 1.5 } mask true }",
  "{ format int4 scale tensor range { root_mean_square 2 } smooth column }",
  "{ format e4m3 scale column from forward }", "{ format e4m3 scale row across 16 }", "{ }", "$self", "row", "nil",
}
local recipes = {"false", "nil", "nowhere", "$self", "$function"}

-- What the fields of recipes and of options can have, the wrong included.
local choices = {
  format = formats, scale = scales, blocksize = scales, grad_blocksize = scales,
  scale_rounding = {"none", "power_of_two", "mx", "ceil", "even", "rceil", "e4m3", "up", "true", "nil"},
  second_scale = {"none", "tensor", "row", "column", "nil"}, headroom = {"2", "0.5", "0", "nan", "nil"},
  constant_scale = {"1", "0.125", "-1", "row", "nil"}, hadamard = {"16", "32", "64", "128", "17", "nil"},
  signs = {"random", "step", "{ 1 1 2 -1 }", "fixed", "nil"},
  range = {"{ root_mean_square 2 }", "{ mean_magnitude 1 root_mean_square -1 }", "{ }", "{ mean 1 }", "2", "nil"},
  candidates = {"{ 1 1 2 1.5 }", "{ 1 2 }", "{ }", "{ 1 0 }", "{ 1 nan }", "2", "nil"},
  largest_scale = {"256", "449", "0", "row", "nil"}, smooth = {"row", "column", "tensor", "nil"},
  across = {"16", "128", "17", "nil"}, from = {"forward", "codes", "nil"}, mask = {"true", "false", "1", "nil"},
  history = {"1", "2", "16", "1048576", "1048577", "0", "1.5", "tensor", "nil"},
  input = operands, weight = operands, grad_output = operands,
  input_grad = {
    "{ weight { format e4m3 scale column } }", "{ grad_output { format e5m2 scale row } }", "{ input nil }", "full",
    "nil",
  },
  weight_grad = {
    "full", "quantized", "{ }", "{ grad_output { format e4m3 scale column } }",
    "{ input { format e5m2 scale 64 } }",
  },
  rounding = {"nearest", "stochastic", "up", "{ }", "nil"}, recipe = recipes, native = {"true", "false", "nil", "1"},
  default = {"false", "mx", "$mixed", "{ }", "$self"}, ["*"] = {"false", "global", "$delayed", "1"},
  keep = operands,
  tokens = {"{ rows { format e4m3 scale row } }", "{ rows full }", "{ rows $self }", "false", "{ }"},
  attention = {
    "{ q { format e4m3 scale row } v { format $map scale tensor } }", "{ probabilities { format int8 scale column } }",
    "{ k { format e4m3 scale tensor history 2 } }", "false", "$self",
  },
  head = {"mx", "{ }", "{ q full }"},
  optimizer_state = {"{ format e4m3 smallest 0 }", "{ format $map blocksize 64 }", "f32"},
  until_step = {"1", "3", "0", "1.5", "1e308", "mx"},
  after = {"false", "mixed", "{ default mx }", "{ default mx until_step 9 }", "$self"},
  bias = {"true", "false", "$self"}, dtype = {"f32", "f16", "bf16", "e4m3"}, device = {"cpu", "nowhere", "1"},
}
for _, name in ipairs(names) do recipes[#recipes + 1], recipes[#recipes + 2] = name, "$" .. name end

local words = {
  "linear", "mixed", "global", "convert", "network", "matmul_mixed", "matmul_global", "{", "{", "{", "}", "}", "}",
  "-1", "0.5", "1e308", "nan", "$raises", "$int64", "$inf", "$function", "$self",
}
for word, values in pairs(choices) do
  words[#words + 1] = word
  for _, value in ipairs(values) do words[#words + 1] = value end
end
table.sort(words)

-- The value that begins at list[position], and the position after it.
local function parse(list, position, around)
  local word = list[position]
  if word == "$self" then return around, position + 1 end
  if word ~= "{" then
    if special[word] ~= nil then return special[word], position + 1 end
    if word == "nil" then return nil, position + 1 end
    return tonumber(word) or word, position + 1
  end
  local made = {}
  position = position + 1
  while list[position] and list[position] ~= "}" do
    local key = tonumber(list[position]) or list[position]
    if key ~= key then key = "nan" end
    position = position + 1
    if list[position] == nil or list[position] == "}" then break end
    made[key], position = parse(list, position, made)
  end
  return made, position + 1
end

local function size_of(word)
  local size = tonumber(word)
  return size and size >= 1 and math.floor(math.min(size, largest_size)) or 4
end

local function product(multiply)
  return function(in_features, out_features, value)
    return multiply(fp8.randn(3, in_features), fp8.randn(in_features, out_features), value)
  end
end

-- What a network with attention and an embedding computes that is given recipes by name.
local function network(_, _, value)
  local model = fp8.nn.ModuleDict {
    tokens = fp8.nn.Embedding(5, 8), attention = fp8.nn.MultiHeadAttention(8, 2), head = fp8.nn.Linear(8, 5),
  }
  fp8.convert(model, value)
  local y = model.head(model.attention(model.tokens(fp8.tensor({{0, 1, 4}}, {dtype = "i64"}))))
  y:sum():backward()
  fp8.optim.AdamW(model):step()
  return y:detach()
end

local takers = {
  network = network,
  linear = function(in_features, out_features, value)
    return fp8.Linear(in_features, out_features, {recipe = value})
  end,
  mixed = function(in_features, out_features, value) return fp8.LinearMixed(in_features, out_features, value) end,
  global = function(in_features, out_features, value) return fp8.LinearGlobal(in_features, out_features, value) end,
  convert = function(in_features, out_features, value)
    return (fp8.convert(fp8.Linear(in_features, out_features), value))
  end,
  matmul_mixed = product(fp8.matmul_mixed), matmul_global = product(fp8.matmul_global),
}

local function read(path)
  local file, list = io.open(path, "rb"), {}
  for word in file:read("*a"):gmatch "%S+" do list[#list + 1] = word end
  file:close()
  fp8.manual_seed(1)
  return (takers[list[1]] or takers.linear)(size_of(list[2]), size_of(list[3]), (parse(list, 4)))
end

-- What a layer computes in a step of training and after it, as texts.
local function results_of(layer, in_features)
  fp8.manual_seed(2)
  local x = fp8.randn(3, in_features, {requires_grad = true}):to(layer.weight.dtype)
  x = x:detach():requires_grad_()
  layer:zero_grad()
  local y = layer(x)
  y:backward(fp8.randn(y.shape):to(y.dtype))
  layer:eval()
  return compare.texts {y = y, dx = x.grad, dw = layer.weight.grad, later = layer(x)}
end

-- A layer works, and so does a plain one that is given its recipe and its tensors. No published recipe has changed.
local function verify(made, _, path)
  for _, name in ipairs(names) do published.find("recipes", name) end
  if fp8.is_tensor(made) then return end
  local options = {bias = made.bias ~= nil, dtype = made.weight.dtype}
  local other = fp8.Linear(made.in_features, made.out_features, options)
  fp8.convert(other, made.recipe or false)
  fp8.save(path, made:state_dict())
  other:load_state_dict(fp8.load(path))
  assert(tostring(made):find "recipe" or not made.recipe)
  assert(not made.recipe or tostring(made):match "recipe:.*" == tostring(other):match "recipe:.*")
  compare.same("results", results_of(made, made.in_features), results_of(other, made.in_features))
end

local kinds = {"on purpose"} -- of $raises
for kind in ([[
recipe must be a table or the name of one, got …
recipe must be a table, the name of one, or false for plain products, got nil
recipe: unknown field …
recipe.…: unknown field …
recipe.….format must be a map (a tensor of 256 values) or one of e2m1, e2m3, e3m2, e4m3, e5m2, int4, int8, nf4, got …
recipe.….format: a map must be an f32 tensor of shape (256) on the CPU, got …
recipe.….format: this tensor was freed: it was made in a scope that has ended
recipe.….format: map: entry … is not finite
recipe.….format: map: entries … and … are not in ascending order
recipe.….scale must be "tensor", "row", "column", "block", a block length (…) or {rows, columns}, got …
recipe.….scale_rounding must be "none", "power_of_two", "mx", "ceil", "even", "rceil" or "e4m3", got …
recipe.….second_scale must be "none", "tensor" or "row", got …
recipe.….second_scale is for scale_rounding = "e4m3", got …
recipe.….second_scale: "row" is for a scale of {1, columns} or "row", got …
recipe.….headroom must be a number above 0 that float32 can hold, got …
recipe.….constant_scale must be a number above 0 that float32 can hold, got …
recipe.….headroom has no meaning beside scale_rounding = "e4m3"
recipe.….constant_scale has no meaning beside scale_rounding = "e4m3"
recipe.….constant_scale has no meaning beside a history
recipe.….range must be a table {root_mean_square =, mean_magnitude =}, got …
recipe.….range.… must be a number that float32 can hold, got …
recipe.….range must have root_mean_square, mean_magnitude or both, got neither
recipe.….candidates must be a list of 1 to 8 numbers above 0, got …
recipe.….largest_scale must be a number above 0 and at most 448, got …
recipe.….largest_scale has no meaning without second_scale
recipe.….range has no meaning beside …
recipe.….candidates has no meaning beside …
recipe.….smooth must be "row" or "column", got …
recipe.….smooth has no meaning beside …
recipe.….across must be 16, 32, 64 or 128, got …
recipe.….across has no meaning beside a history
recipe.….from must be "forward", got …
recipe.….mask must be a boolean, got …
recipe.….… is for …, not for this operand
recipe.….from has no meaning where … is full in the forward product
recipe.….mask has no meaning beside forward = "full"
recipe.….hadamard must be 16, 32, 64 or 128, got …
recipe.….hadamard has no meaning beside a history
recipe.….signs has no meaning without hadamard
recipe.….signs must be "random", "step" or a list of … times 1 or -1, got …
recipe.…: both operands of a product are transformed alike, got … of … and … of …
recipe.….history must be a whole number from 1 to 1048576, got …
recipe.….history is for scale = "tensor", got …
recipe.….history has no meaning beside scale_rounding = "e4m3"
recipe.….quantize must be a function, got …
recipe.….… has no meaning beside quantize = a function, which sees to everything
recipe.….accumulate must be "fast" or "accurate", got …
recipe.….rounding must be "nearest" or "stochastic", got …
recipe.… must be a table {…} or "full", got …
recipe.weight_grad must be a table {…} or "full" or "quantized", got …
recipe.rounding must be "nearest" or "stochastic", got …
there is no recipe '…' in fp8.recipes…
recipes by name need a default: …
no … is called …
recipe.keep must be a table {format =, scale =}, got …
recipe.keep.… has no meaning between the passes
recipe.keep has no meaning where the input of weight_grad has a history
recipe.….… has no meaning in attention
recipe.….… has no meaning in an embedding
optimizer_state: …
optimizer_state is for all steps: it belongs to the first table
… is called … and …, which say as much and differ
until_step must be a whole number of at least …, got …
the names of layers must be strings, got …
options must be a table, got …
unknown option …
option … must be f32, f16 or bf16, got …
option … must be a boolean, got …
option device: unknown device '…': it is cpu, cuda or cuda:N
option device: device name expected, got …
option native is for LinearMixed and LinearGlobal without option recipe
delayed scaling is for layers, which keep the history
]]):gmatch "[^\n]+" do kinds[#kinds + 1] = "…: " .. kind end

return {
  files = {
    "lua/fp8/linear/recipe_check/init.lua", "lua/fp8/linear/recipe_check/operand.lua",
    "lua/fp8/linear/recipe_check/scale.lua", "lua/fp8/linear/recipe_check/transform.lua",
    "lua/fp8/linear/recipe_copies.lua", "lua/fp8/linear/published.lua", "lua/fp8/linear/plan.lua",
    "lua/fp8/linear/matmul.lua", "lua/fp8/nn/convert/init.lua", "lua/fp8/nn/convert/by_name.lua",
    "lua/fp8/nn/convert/layers.lua", "lua/fp8/nn/linear.lua",
  },
  kinds = kinds,
  memory = function() return 2 ^ 26 end,
  read = read, verify = verify,
  mutate = function(bytes, longest, random, mutate_bytes)
    if random(16) == 1 then return mutate_bytes(bytes, longest) end
    return mutations.words(bytes, words, choices, random)
  end,
}
