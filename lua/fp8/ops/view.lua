--- Views, which share their tensor's memory and version.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local needs_grad, record = autograd.needs_grad, autograd.record
local contiguous, shape_of = core.contiguous, core.shape

local view = {}

-- What only changes the shape: the gradient gets the input's shape back.
local reshaping = {
  name = "view", shares = true, is_view = true,
  backward = function(node, grad)
    local whole = contiguous(grad)
    local reshaped = core.view(whole, node.input_shape)
    if whole ~= grad then core.free(whole) end
    return reshaped
  end,
}

local function reshaped(y, x)
  if needs_grad(x) then record(y, reshaping, {x}).input_shape = shape_of(x) end
  return y
end

--- x:view(sizes…) or x:view{sizes…}: the same elements in another shape; one size may be -1. An error if the
-- strides of x don't allow it without a copy.
--   fp8.arange(4):view(2, -1) --> {{0, 1}, {2, 3}}
function view.view(x, ...) return reshaped(core.view(x, ...), x) end

--- x:reshape(sizes…): `view`, of a copy where the strides don't allow a view.
--   fp8.tensor({{1, 2}, {3, 4}}):t():reshape(4) --> {1, 3, 2, 4}
function view.reshape(x, ...)
  local ok, y = pcall(core.view, x, ...)
  if not ok then y = core.view(contiguous(x), ...) end
  return reshaped(y, x)
end

--- x:flatten([first [, last]]): dimensions `first` (1) to `last` (-1) as one.
--   fp8.ones(2, 3, 4):flatten(2).shape --> {2, 12}
function view.flatten(x, first, last)
  if not core.is_tensor(x) then core.raise("flatten: argument 1: tensor expected, got " .. type(x)) end
  local shape = shape_of(x)
  local rank = #shape
  first, last = first == nil and 1 or first, last == nil and -1 or last
  for _, dimension in ipairs {first, last} do
    if type(dimension) ~= "number" or dimension ~= math.floor(dimension) then
      core.raise("flatten: dimensions must be whole numbers, got " .. tostring(dimension))
    end
  end
  local dimensions = math.max(rank, 1) -- one without any becomes a list of one element
  local from, to = first < 0 and first + dimensions + 1 or first, last < 0 and last + dimensions + 1 or last
  if not (from >= 1 and from <= to and to <= dimensions) then
    core.raise(("flatten: dimensions %s to %s of a tensor of %d dimensions"):format(first, last, rank))
  end
  if rank == 0 then return view.reshape(x, 1) end
  local sizes, merged = {}, 1
  for i = 1, rank do
    if i >= from and i <= to then
      merged = merged * shape[i]
      if i == to then sizes[#sizes + 1] = merged end
    else
      sizes[#sizes + 1] = shape[i]
    end
  end
  return view.reshape(x, sizes)
end

--- x:squeeze([dim]): without its dimensions of size 1, or without that one.
--   fp8.ones(2, 1):squeeze().shape --> {2}
function view.squeeze(x, dimension) return reshaped(core.squeeze(x, dimension), x) end

--- x:unsqueeze(dim): with a dimension of size 1 inserted before `dim`.
--   fp8.ones(2):unsqueeze(-1).shape --> {2, 1}
function view.unsqueeze(x, dimension) return reshaped(core.unsqueeze(x, dimension), x) end

local transposition = {
  name = "transpose", shares = true, is_view = true,
  backward = function(node, grad) return core.transpose(grad, node.first, node.second) end,
}

--- x:transpose(dim, other): two dimensions exchanged.
--   fp8.ones(2, 3, 4):transpose(1, -1).shape --> {4, 3, 2}
function view.transpose(x, first, second)
  local y = core.transpose(x, first, second)
  if needs_grad(x) then
    local node = record(y, transposition, {x})
    node.first, node.second = first, second
  end
  return y
end

--- x:t(): a matrix transposed; fewer dimensions stay as they are.
--   fp8.tensor({{1, 2}, {3, 4}}):t() --> {{1, 3}, {2, 4}}
function view.t(x)
  if core.rank(x) == 2 then return view.transpose(x, 1, 2) end
  return reshaped(core.t(x), x)
end

local permutation = {
  name = "permute", shares = true, is_view = true,
  backward = function(node, grad) return core.permute(grad, node.inverse) end,
}

--- x:permute(dims…) or x:permute{dims…}: dimension i of the result is dimension dims[i] of x.
--   fp8.ones(2, 3, 4):permute(3, 1, 2).shape --> {4, 2, 3}
function view.permute(x, ...)
  local y = core.permute(x, ...)
  if needs_grad(x) then
    local dimensions = type((...)) == "table" and (...) or {...}
    local inverse = {}
    for i, dimension in ipairs(dimensions) do
      inverse[dimension < 0 and dimension + #dimensions + 1 or dimension] = i
    end
    record(y, permutation, {x}).inverse = inverse
  end
  return y
end

-- Zeros of the input's shape with the gradient of a part of it, which cut(zeros, …) is.
local function gradient_of_part(node, grad, cut, ...)
  local whole = core.zeros(node.input_shape, {dtype = core.dtype(grad), device = core.device(grad)})
  local part = cut(whole, ...)
  core.copy_(part, grad)
  core.free(part)
  return whole
end

local narrowing = {
  name = "narrow", is_view = true,
  backward = function(node, grad)
    return gradient_of_part(node, grad, core.narrow, node.dimension, node.start, node.length, node.step)
  end,
}

--- x:narrow(dim, start, length [, step]): `length` positions of a dimension from `start` on, each `step` (1 if left
-- out) after the one before.
--   fp8.arange(5):narrow(1, 2, 3) --> {1, 2, 3}
--   fp8.arange(5):narrow(1, 1, 3, 2) --> {0, 2, 4}
function view.narrow(x, dimension, start, length, step)
  local y = core.narrow(x, dimension, start, length, step)
  if needs_grad(x) then
    local node = record(y, narrowing, {x})
    node.input_shape, node.dimension = shape_of(x), dimension
    node.start, node.length, node.step = start, length, step
  end
  return y
end

local selection = {
  name = "select", is_view = true,
  backward = function(node, grad)
    return gradient_of_part(node, grad, core.select, node.dimension, node.position)
  end,
}

--- x:select(dim, position), or x[position] for dimension 1: one position of a dimension, which goes away.
--   fp8.tensor({{1, 2}, {3, 4}}):select(2, -1) --> {2, 4}
function view.select(x, dimension, position)
  local y = core.select(x, dimension, position)
  if needs_grad(x) then
    local node = record(y, selection, {x})
    node.input_shape, node.dimension, node.position = shape_of(x), dimension, position
  end
  return y
end

-- The tape itself brings gradients of broadcast tensors back to their shape.
local expansion = {name = "expand", shares = true, is_view = true, backward = function(_, grad) return grad end}

--- x:expand(sizes…): dimensions of size 1 repeated, leading ones added; -1 keeps a size. No copy.
--   fp8.tensor({1, 2}):expand(2, -1) --> {{1, 2}, {1, 2}}
function view.expand(x, ...)
  local y = core.expand(x, ...)
  if needs_grad(x) then record(y, expansion, {x}) end
  return y
end

--- The same memory as a tensor that requires no gradient.
--   fp8.ones(2, {requires_grad = true}):detach().requires_grad --> false
function view.detach(x) return core.share(x) end

return view
