--- fp8.checkpoint: all that a training run needs to go on as if it had not stopped, in one safetensors file.
--
--   fp8.checkpoint.save("run.safetensors", {model = model, optimizer = optimizer, step = step, extra = {best = 0.91}})
--   local found = fp8.checkpoint.load("run.safetensors", {model = model, optimizer = optimizer})
--   print(found.step, found.extra.best)
--
-- Tensors are called as in the state_dict that they come from, after "model." or "optimizer."; the rest is JSON in the
-- metadata. Numbers survive to the last bit. What fp8.convert gave the model is remembered, too:
--
--   local found = fp8.checkpoint.read("run.safetensors")
--   fp8.convert(model, found.recipes, found.step)
--   fp8.checkpoint.load("run.safetensors", {model = model})
local changes = require "fp8.changes"
local core = require "fp8.core"
local files = require "fp8.files"
local is_whole = require "fp8.is_whole"
local paths = require "fp8.files.paths"
local plain_recipes = require "fp8.files.plain_recipes"
local plain_text = require "fp8.files.plain_text"
local shapes = require "fp8.shapes"
local Module = require "fp8.nn.module"

local raise = core.raise

local kind = "fp8 checkpoint 1" -- metadata `kind`; the number counts changes of the layout

local checkpoint = {}

local function check_parts(name, path, parts, fields)
  paths.check(name, path)
  if type(parts) ~= "table" then raise(("%s: the parts must be a table, got %s"):format(name, type(parts))) end
  for field in pairs(parts) do
    if not fields[field] then raise(("%s: unknown part %s"):format(name, tostring(field))) end
  end
  if not Module.is_module(parts.model) then
    raise(("%s: model must be a module, got %s"):format(name, type(parts.model)))
  end
  local optimizer = parts.optimizer
  if optimizer ~= nil and (type(optimizer) ~= "table" or type(optimizer.load_state_dict) ~= "function") then
    raise(("%s: optimizer must be an optimizer, got %s"):format(name, type(optimizer)))
  end
end

-- A seed as it is kept: an integer beyond 2^53 (int64_t) as the text of its digits.
local function kept_seed(seed)
  return type(seed) == "number" and seed or tostring(seed):match "^-?%d+"
end

-- The seed that was kept so; nil if the value is none.
local function seed_of(kept)
  if type(kept) == "number" then return kept == math.floor(kept) and math.abs(kept) <= 2^53 and kept or nil end
  local sign, digits = tostring(kept):match "^(%-?)(%d+)$"
  if not digits then return nil end
  local seed = 0LL
  for digit in digits:gmatch "." do seed = seed * 10 - tonumber(digit) end -- negative: there is one more of them
  if sign == "" then seed = -seed end
  return kept_seed(seed) == kept and seed or nil
end

-- Adds the tensors of a state_dict to a table, their names after a prefix.
local function add(tensors, state, prefix)
  for name, tensor in pairs(state) do tensors[prefix .. name] = tensor end
  return tensors
end

-- The state_dict again.
local function without(prefix, tensors)
  local state = {}
  for name, tensor in pairs(tensors) do state[name:sub(#prefix + 1)] = tensor end
  return state
end

local function encode(what, value)
  local text, reason = plain_text.encode(value)
  if not text then raise(("checkpoint.save: %s: %s"):format(what, reason)) end
  return text
end

-- fp8.distributed where this process is one of several.
local function joined()
  local distributed = package.loaded["fp8.distributed"]
  return distributed and distributed.is_initialized() and distributed.size() > 1 and distributed
end

--- Writes a checkpoint, at once as seen from outside: a process that is killed meanwhile leaves the one before. Of
-- several processes (fp8.distributed) all call it, the first one writes, and the others go on when it has; any number
-- of processes can go on from it.
-- @param path  of the file
-- @param parts {model = module, optimizer = or nil, step = number of steps done (0), extra = table of plain values:
--   strings, finite numbers, booleans, and tables of them with names or the numbers from 1}
--   local model = fp8.Linear(2, 2)
--   fp8.checkpoint.save(os.tmpname(), {model = model, step = 100, extra = {epoch = 2}}) --> nil
function checkpoint.save(path, parts)
  check_parts("checkpoint.save", path, parts, {model = true, optimizer = true, step = true, extra = true})
  local step, extra = parts.step, parts.extra
  if step ~= nil and not is_whole(step, 0) then
    raise("checkpoint.save: step must be a whole number of at least 0, got " .. tostring(step))
  end
  if extra ~= nil and type(extra) ~= "table" then
    raise("checkpoint.save: extra must be a table, got " .. type(extra))
  end
  local seed, position = core.random_state()
  -- After manual_seed with a position close to 2^53, and some draws.
  if not is_whole(position, 0) then
    raise "checkpoint.save: the random numbers are past position 2^53, which can't be kept"
  end
  local tensors = add({}, parts.model:state_dict(), "model.")
  if parts.optimizer then add(tensors, parts.optimizer:state_dict(), "optimizer.") end
  local given = rawget(parts.model, "given_recipes") -- nn/convert/init.lua
  local recipes = given and plain_recipes.plain(given.recipes)
  local metadata = {
    kind = kind, step = ("%d"):format(step or 0), random = encode("random", {kept_seed(seed), position}),
    extra = encode("extra", extra or {}), recipes = recipes and encode("recipes", recipes),
  }
  local distributed = joined()
  if not distributed or distributed.rank() == 0 then files.save_safetensors(path, tensors, metadata) end
  if distributed then distributed.barrier() end
end

-- The settings of an optimizer are text, and may be longer in one of the two.
local function describe(name, tensor)
  if name == "optimizer.settings" then return core.dtype(tensor) end
  return ("%s %s"):format(core.dtype(tensor), shapes.text(core.shape(tensor)))
end

-- An error that names the first tensor, by name, which only one of two tables has or which differs in shape or dtype.
local function check_tensors(path, part, expected, found)
  local names = {}
  for name in pairs(expected) do names[#names + 1] = name end
  for name in pairs(found) do
    if not expected[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local have = found[name] and describe(name, found[name])
    local need = expected[name] and describe(name, expected[name])
    if not have then
      raise(("checkpoint.load: %s is of another %s: it has no %s, %s here"):format(path, part, name, need))
    elseif not need then
      raise(("checkpoint.load: %s is of another %s: it has %s, %s, which is not here"):format(path, part, name,
        have))
    elseif have ~= need then
      raise(("checkpoint.load: %s is of another %s: %s is %s there and %s here"):format(path, part, name, have, need))
    end
  end
end

-- What a file holds: its tensors as {model =, optimizer =}, and what stood in the metadata.
-- @param where names the caller in errors
local function read(where, path)
  local all, metadata = files.load_safetensors(path)
  local function value_of(name)
    local value = metadata[name] and plain_text.decode(metadata[name])
    if type(value) ~= "table" then raise(("%s: %s: its %s can't be read"):format(where, path, name)) end
    return value
  end
  if metadata.kind ~= kind then
    raise(("%s: %s is no checkpoint: its metadata does not say '%s'"):format(where, path, kind))
  end
  local tensors = {model = {}, optimizer = {}}
  for name, tensor in pairs(all) do
    local part = tensors[name:match "^%a+" or ""]
    if not part then raise(("%s: %s: tensor '%s' belongs to nothing"):format(where, path, name)) end
    part[name] = tensor
  end
  local found = {step = tonumber(metadata.step), random = value_of "random", extra = value_of "extra"}
  if not is_whole(found.step, 0) then raise(("%s: %s: its step can't be read"):format(where, path)) end
  local seed, position = seed_of(found.random[1]), found.random[2]
  if not seed or not is_whole(position, 0) then
    raise(("%s: %s: its random state can't be read"):format(where, path))
  end
  found.random = {seed, position}
  if metadata.recipes then
    found.recipes = plain_recipes.recipes(value_of "recipes")
    if not found.recipes then raise(("%s: %s: its recipes can't be read"):format(where, path)) end
  end
  return tensors, found
end

-- What load_state_dict says of the state is about the file.
local function load_optimizer(path, optimizer, state)
  local ok, failure = pcall(optimizer.load_state_dict, optimizer, state)
  if ok then return end
  local reason = type(failure) == "string" and failure:match "load_state_dict: (.*)$"
  if reason then raise(("checkpoint.load: %s: %s"):format(path, reason)) end
  error(failure, 0)
end

local function load(path, parts)
  local tensors, found = read("checkpoint.load", path)
  check_tensors(path, "model", add({}, parts.model:state_dict(), "model."), tensors.model)
  if parts.optimizer then
    if not next(tensors.optimizer) then raise(("checkpoint.load: %s has no optimizer"):format(path)) end
    check_tensors(path, "optimizer", add({}, parts.optimizer:state_dict(), "optimizer."), tensors.optimizer)
    load_optimizer(path, parts.optimizer, without("optimizer.", tensors.optimizer))
  end
  parts.model:load_state_dict(without("model.", tensors.model))
  changes.seed(found.random[1], found.random[2])
  return {step = found.step, extra = found.extra, recipes = found.recipes}
end

--- What a checkpoint says, without a change to anything.
-- @return {step =, extra =, recipes = as fp8.convert gave them to the model, in the form of recipes by name; nil where
--   it gave none, or some with functions in them}
--   local path = os.tmpname()
--   fp8.checkpoint.save(path, {model = fp8.convert(fp8.Linear(2, 2), "mx"), step = 100})
--   fp8.checkpoint.read(path).recipes.default --> "mx"
function checkpoint.read(path)
  paths.check("checkpoint.read", path)
  local _, found = read("checkpoint.read", path)
  return {step = found.step, extra = found.extra, recipes = found.recipes}
end

--- Reads a checkpoint into a model, its optimizer and the generator of random numbers, after which training goes on
-- with the same numbers as if it had never stopped. (On a GPU products are the same bit for bit only with FP8_TUNE=0:
-- otherwise timing decides which algorithm computes them.) Nothing changes if anything is wrong.
-- @param path  of the file
-- @param parts {model = module, optimizer = or nil to leave that part of the file out}, with the same tensors as those
--   that were saved
-- @return {step =, extra =, recipes = as checkpoint.read gives them}
--   local path, model = os.tmpname(), fp8.Linear(2, 2)
--   local optimizer = fp8.optim.AdamW(model)
--   fp8.checkpoint.save(path, {model = model, optimizer = optimizer, step = 100})
--   fp8.checkpoint.load(path, {model = model, optimizer = optimizer}).step --> 100
function checkpoint.load(path, parts)
  check_parts("checkpoint.load", path, parts, {model = true, optimizer = true})
  return changes.together(load, path, parts)
end

return checkpoint
