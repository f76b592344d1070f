--- What the classes of normalization check.
local computable = require "fp8.computable"
local core = require "fp8.core"
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local arguments = {}

--- The epsilon of the options, checked; 1e-5 if there is none.
function arguments.epsilon(name, options)
  local epsilon = options.epsilon or 1e-5
  if not (epsilon >= 0 and epsilon < math.huge) then
    core.raise(("%s: option epsilon must be a finite number of at least 0, got %s"):format(name, epsilon))
  end
  return epsilon
end

--- Raises an error unless x is an f32, f16 or bf16 tensor of so many dimensions with `channels` in its second one.
function arguments.check_channels(name, x, channels, least, most)
  if not core.is_tensor(x) then core.raise(("%s: the input must be a tensor, got %s"):format(name, type(x))) end
  if not computable[core.dtype(x)] then
    core.raise(("%s: the input must be f32, f16 or bf16, got %s"):format(name, core.dtype(x)))
  end
  local shape = core.shape(x)
  if #shape < least or #shape > most or shape[2] ~= channels then
    core.raise(("%s: the input must have %s dimensions, the second of %d channels, got shape %s"):format(name,
      least == most and least or ("%d to %d"):format(least, most), channels, shape_text(shape)))
  end
end

--- A tensor (channels) as a view that broadcasts over the dimensions of x.
function arguments.beside(x, parameter)
  local shape = {1, core.size(parameter, 1)}
  for i = 3, core.rank(x) do shape[i] = 1 end
  return view.view(parameter, shape)
end

return arguments
