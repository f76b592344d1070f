--- Activation functions that are composed of others: in float32, rounded once; integers become f32.
local activation = require "fp8.ops.elementwise.activation"
local as_float = require "fp8.ops.as_float"
local binary = require "fp8.ops.elementwise.binary"
local check = require "fp8.ops.check"
local choice = require "fp8.ops.elementwise.choice"
local core = require "fp8.core"
local limited = require "fp8.ops.elementwise.limited"
local in_float32 = require "fp8.ops.in_float32"
local shape_text = require("fp8.shapes").text
local unary = require "fp8.ops.elementwise.unary"
local view = require "fp8.ops.view"

local add, div, mul, raise = binary.add, binary.div, binary.mul, core.raise

local gates = {}

local function composed(name, f)
  return function(x) return in_float32(f, as_float(check.tensor(name, 1, x))) end
end

--- x:selu(): 1.0507 · x above 0, else 1.0507 · 1.6733 · (e^x - 1): Klambauer et al., "Self-normalizing neural networks"
-- (2017).
--   fp8.tensor({-1, 2}):selu() --> {-1.1113307, 2.101402}
gates.selu = composed("selu", function(x)
  return mul(activation.elu(x, 1.6732632423543772848170429916717), 1.0507009873554804934193349852946)
end)

-- Below 0 alpha · (e^(x / alpha) - 1), of an alpha below 0 too.
local function celu(x, alpha)
  local below = mul(unary.expm1(div(choice.clamp(x, nil, 0), alpha)), alpha)
  return choice.where(choice.gt(x, 0), x, below)
end

--- x:celu([alpha]): x above 0, else alpha · (e^(x / alpha) - 1), with 1 for alpha if it is left out.
--   fp8.tensor({-2, 2}):celu(2) --> {-1.2642411, 2}
function gates.celu(x, alpha)
  check.tensor("celu", 1, x)
  if alpha == nil then alpha = 1 end
  if type(alpha) ~= "number" or alpha == 0 or alpha - alpha ~= 0 then
    raise("celu: alpha must be a finite number other than 0, got " .. tostring(alpha))
  end
  return in_float32(celu, as_float(x), alpha)
end

local saturated = limited(core.le, core.ge)
local function hardsigmoid(x) return div(saturated(add(x, 3), 0, 6), 6) end

--- x:hardsigmoid(): (x + 3) / 6 between 0 and 1. x:hardswish(): x times that: Howard et al., "Searching for
-- MobileNetV3" (2019).
--   fp8.tensor({-4, 0, 1.5}):hardsigmoid() --> {0, 0.5, 0.75}
--   fp8.tensor({-4, 0, 1}):hardswish() --> {0, 0, 2 / 3}
gates.hardsigmoid = composed("hardsigmoid", hardsigmoid)
gates.hardswish = composed("hardswish", function(x) return mul(x, hardsigmoid(x)) end)

local function gated(x, gate) return mul(x, unary.sigmoid(gate)) end

--- x:glu([dim]): the first half of a dimension (the last if left out) times the sigmoid of the other: Dauphin et al.,
-- "Language modeling with gated convolutional networks" (2016).
--   fp8.tensor({2, 4, 0, 0}):glu() --> {1, 2}
function gates.glu(x, dimension)
  dimension = check.dimension("glu", x, dimension or -1)
  local size = core.size(x, dimension)
  if size % 2 ~= 0 then raise(("glu: dimension %d must have an even size, got %d"):format(dimension, size)) end
  return in_float32(gated, view.narrow(x, dimension, 1, size / 2), view.narrow(x, dimension, size / 2 + 1, size / 2))
end

local function sloped(x, weight) return choice.where(choice.gt(x, 0), x, mul(x, weight)) end

--- x:prelu(weight): x above 0, else x times a weight, of which there is one or, along dimension 2 of x (the only one
-- of a vector), one for each position: He et al., "Delving deep into rectifiers" (2015).
--   fp8.tensor({{-1, -2}}):prelu(fp8.tensor {0.5, 0.25}) --> {{-0.5, -0.5}}
function gates.prelu(x, weight)
  check.tensor("prelu", 1, x)
  check.tensor("prelu", 2, weight)
  local rank, count = core.rank(x), core.numel(weight)
  local channels = rank == 0 and 1 or core.size(x, math.min(rank, 2))
  if core.rank(weight) > 1 or count ~= 1 and count ~= channels then
    raise(("prelu: argument 2: 1 or %d weights are needed for shape %s, got shape %s"):format(channels,
      shape_text(core.shape(x)), shape_text(core.shape(weight))))
  end
  local shape = {}
  for i = 1, rank do shape[i] = i == math.min(rank, 2) and count or 1 end
  return in_float32(sloped, x, view.view(weight, shape))
end

return gates
