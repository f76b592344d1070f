--- Weights that travel as what their products take: codes, and one scale a weight. A rank that decodes them and
-- quantizes the result as the layer does gets the same codes, so that its products are those of the weights themselves.
local core = require "fp8.core"
local collectives = require "fp8.distributed.collectives"
local planning = require "fp8.linear.plan"
local parts = require "fp8.nn.parts"

local codes = {}

-- By parameter, {count =, the modules that have it as their weight}; nothing that keeps any of them.
local layers = setmetatable({}, {__mode = "k"})

--- Remembers which parameters of a model are the weights of which layers, and of nothing else.
function codes.know(model)
  local list, again = parts.list_tensors(model)
  local found = {}
  for _, entries in ipairs {list, again} do
    for _, entry in ipairs(entries) do
      local tensor = entry.owner[entry.field]
      found[tensor] = found[tensor] or {}
      table.insert(found[tensor], entry.field == "weight" and rawget(entry.owner, "plan") and entry.owner or false)
    end
  end
  for tensor, owners in pairs(found) do
    local known = setmetatable({count = #owners}, {__mode = "v"})
    for i, owner in ipairs(owners) do known[i] = owner or nil end
    layers[tensor] = known
  end
end

-- The operand that a layer takes its weight as, in both products; nil where it does not have codes with one scale that
-- follow from its values alone.
local function operand_of(layer)
  local plan = layer.plan
  local operand = plan and plan.forward.right
  if not operand or operand ~= plan.input_grad.right or operand.scale ~= "tensor" then return nil end
  return planning.is_bare(operand) and operand or nil
end

--- The operand as which alone a parameter is used, or nil.
function codes.operand_of(parameter)
  local known = layers[parameter]
  local operand
  for i = 1, known and known.count or 0 do
    local own = known[i] and operand_of(known[i])
    if not own or operand and operand.format ~= own.format then return nil end
    operand = operand or own
  end
  return operand
end

--- The dtype of its codes.
function codes.dtype_of(operand) return type(operand.format) == "string" and operand.format or "u8" end

--- What owners make of their weights, and the scales of all: one sum over ranks, in which others have 0, since a sum
-- keeps NaN.
-- @param list of {parameter =, operand =, owner =}, each of which gets codes = here, if it is this rank's
-- @return nothing; each entry gets scale =, a view
function codes.quantize(list, rank)
  local scales = core.zeros({#list}, {dtype = "f32", device = core.device(list[1].parameter)})
  for i, entry in ipairs(list) do
    if entry.owner == rank then
      local scale
      entry.codes, scale = core.quantize(entry.parameter, entry.operand.quantizer, "codes scale")
      core.copy_(core.narrow(scales, 1, i, 1), core.view(scale, {1}))
      core.free(scale)
    end
  end
  collectives.all_reduce_(scales)
  for i, entry in ipairs(list) do entry.scale = core.narrow(scales, 1, i, 1) end
end

--- A parameter becomes what codes stand for.
function codes.dequantize(entry, values)
  local decoded = core.dequantize(core.view(values, core.shape(entry.parameter)), entry.scale,
    entry.operand.quantizer, core.dtype(entry.parameter))
  core.copy_(entry.parameter, decoded)
  core.free(decoded)
end

return codes
