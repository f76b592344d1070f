--- fp8.sensitivity: which layers of a model a recipe harms most.
local check_options = require "fp8.check_options"
local comparison = require "fp8.watch.compare"
local computable = require "fp8.computable"
local core = require "fp8.core"
local cross_entropy = require "fp8.ops.cross_entropy"
local distance = require "fp8.watch.distance"
local layers = require "fp8.nn.convert.layers"
local number_text = require "fp8.number_text"
local shapes = require "fp8.shapes"
local trial = require "fp8.watch.trial"

local raise = core.raise

local own_options = {filter = true, by = "string"}

-- What rows may be sorted by: how bad what is measured of a pass is.
local orders = {
  gradient = function(measured) return measured.gradient_error end,
  output = function(measured) return measured.output_error end,
  loss = function(measured) return math.abs(measured.loss_change) end,
}

local function read_options(options)
  options = check_options("sensitivity", options, own_options)
  local by = options.by or "gradient"
  if not orders[by] then raise(("sensitivity: option by must be gradient, output or loss, got %s"):format(by)) end
  return by, options.filter
end

-- A function that returns the loss, of a function or a batch.
local function loss_function(model, batch)
  if type(batch) == "function" then return batch end
  if type(batch) ~= "table" or not (core.is_tensor(batch[1]) and core.is_tensor(batch[2])) or #batch ~= 2 then
    raise("sensitivity: a function that returns the loss is needed, or a batch {inputs, labels}, got " .. type(batch))
  end
  return function() return cross_entropy(model(batch[1]), batch[2]) end
end

-- --- what is measured ---

local function check_same(what, x, v)
  if core.fits(v, core.shape(x), core.dtype(x)) then return end
  raise(("sensitivity: the %s was %s of shape %s, and now is %s of shape %s"):format(what, core.dtype(x),
    shapes.text(core.shape(x)), core.dtype(v), shapes.text(core.shape(v))))
end

local function zeros_like(x) return core.zeros(core.shape(x), {dtype = core.dtype(x), device = core.device(x)}) end

-- The error and the cosine of the gradients of all leaves together. One that a pass does not reach is 0.
local function compare_gradients(base, found)
  local sums = distance.new()
  for leaf, gradient in pairs(base) do distance.add(sums, gradient, found[leaf] or zeros_like(gradient)) end
  for leaf, gradient in pairs(found) do
    if not base[leaf] then distance.add(sums, zeros_like(gradient), gradient) end
  end
  return distance.read(sums)
end

jit.off(compare_gradients) -- nn/module.lua says why

local function compare_outputs(base, found)
  if not (base and found and computable[core.dtype(base)]) then return nil, nil end
  check_same("output", base, found)
  local sums = distance.new()
  distance.add(sums, base, found)
  return distance.read(sums)
end

-- What a pass gave beside the one in full precision.
local function measure(base, found)
  local measured = {loss = found.loss, loss_change = found.loss - base.loss}
  measured.output_error, measured.output_cosine = compare_outputs(base.output, found.output)
  measured.gradient_error, measured.gradient_cosine = compare_gradients(base.gradients, found.gradients)
  return measured
end

-- --- the table ---

local Sensitivity = {}
Sensitivity.__index = Sensitivity

-- Worst first: what is not a number, then the largest; equals in the order of the layers.
local function sort(rows, by)
  local badness, position = {}, {}
  for i, row in ipairs(rows) do
    local value = orders[by](row.alone) or 0
    badness[row], position[row] = value == value and value or math.huge, i
  end
  table.sort(rows, function(a, b)
    if badness[a] ~= badness[b] then return badness[a] > badness[b] end
    return position[a] < position[b]
  end)
end

local columns = {
  {"loss", function(measured) return number_text("%+.3g", measured.loss_change) end},
  {"output", function(measured) return measured.output_error and number_text("%.3g", measured.output_error) or "-" end},
  {"gradient", function(measured) return number_text("%.3g", measured.gradient_error) end},
  {"cosine", function(measured) return number_text("%.4f", measured.gradient_cosine) end},
}

local function text(self, count)
  local rows = {{"layer"}}
  for _, place in ipairs {"alone", "others"} do
    for i, column in ipairs(columns) do table.insert(rows[1], i == 1 and place .. ": " .. column[1] or column[1]) end
  end
  for i = 1, math.min(count, #self) do
    local cells = {self[i].layer}
    for _, place in ipairs {"alone", "others"} do
      for _, column in ipairs(columns) do cells[#cells + 1] = column[2](self[i][place]) end
    end
    rows[#rows + 1] = cells
  end
  local title = "loss %s in full precision, %s by the recipe: relative error of the output %s, of the gradient %s\n"
  return title:format(number_text("%.4f", self.loss), number_text("%.4f", self.all.loss), columns[2][2](self.all),
    columns[3][2](self.all)) .. table.concat(comparison.align(rows, 1), "\n")
end

--- tostring(result): the table.
function Sensitivity:__tostring() return text(self, math.huge) end

--- Prints the table, or its first `count` rows.
function Sensitivity:print(count)
  if count ~= nil and type(count) ~= "number" then
    raise("print: the number of rows must be a number, got " .. type(count))
  end
  print(text(self, count or math.huge))
end

--- Tells which linear layers and convolutions of a model a recipe harms most, and so which to keep in full precision:
-- what changes when one layer alone computes by it, and when all others do.
--
--   local result = fp8.sensitivity(model, {images, labels}, "mxfp4")
--   print(result)
--   fp8.convert(model, {default = "mxfp4", [result[1].layer] = false})
--
-- A row is {layer = its name, alone =, others =}, worst first; result.loss is the loss with plain products in all of
-- these layers, and result.all, alone and others are {loss =, loss_change = from that, output_error =, output_cosine =,
-- gradient_error =, gradient_cosine =}: the relative error ‖x - v‖ / ‖x‖ of the model's output, and of the gradients of
-- all parameters as one vector, and the cosines between them. What is not finite gives NaN, which is worst.
--
-- It takes a forward and a backward pass for each row and column, with the same random numbers, and two more. Delayed
-- scaling takes the scale of the pass itself. Layers that the filter leaves out, or the recipe in full, compute as they
-- do now. The model, its gradients, the states of optimizers and the random numbers are left as they were. On a GPU the
-- passes are eager: a graph of each would have to be captured, which takes longer than one pass does.
-- @param model   a module
-- @param batch   {inputs, labels}, whose loss is fp8.cross_entropy(model(inputs), labels); or a function without
--   arguments that computes the loss and returns it, and the output as a second value if that is not what the model
--   returned in its last call. It calls neither backward nor an optimizer
-- @param recipe  as fp8.convert takes it; recipes by name as they are at the first step, with rows for the attention
--   and the embeddings that they name
-- @param options {filter = function(name, layer), as fp8.convert takes it, by = what of the layer alone sorts the rows:
--   "gradient" (if left out), "output" or "loss"}
--   local model = fp8.nn.Sequential(fp8.Linear(16, 16), fp8.nn.ReLU(), fp8.Linear(16, 4))
--   local result = fp8.sensitivity(model, {fp8.randn(8, 16), fp8.randint(0, 4, {8})}, "global")
--   #result --> 2
--   result.all.gradient_error > 0 --> true
return function(model, batch, recipe, options)
  local by, filter = read_options(options)
  layers.check("sensitivity", model, filter)
  local f, found = loss_function(model, batch), {}
  for _, entry in ipairs(layers.planned("sensitivity", model, recipe, filter)) do
    if entry.plan then found[#found + 1] = entry end
  end
  if #found == 0 then raise "sensitivity: the recipe is for none of the model's layers" end
  local passes = trial.new(model, f, found)
  local base = trial.run(passes, {}, function(first) return first end)
  local function measured(plans)
    return trial.run(passes, plans, function(pass) return measure(base, pass) end)
  end
  local all = {}
  for _, entry in ipairs(found) do all[entry.layer] = entry.plan end
  local result = setmetatable({loss = base.loss, all = measured(all)}, Sensitivity)
  for i, entry in ipairs(found) do
    local others = {}
    for layer, plan in pairs(all) do others[layer] = plan end
    others[entry.layer] = nil
    result[i] = {
      layer = entry.name == "" and model.class_name or entry.name,
      alone = measured {[entry.layer] = entry.plan}, others = measured(others),
    }
  end
  sort(result, by)
  return result
end
