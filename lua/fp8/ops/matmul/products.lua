--- Products of vectors and matrices whose shapes are told by their names. One dtype of f32, f16 and bf16; sums are
-- float32.
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local matmul = require("fp8.ops.matmul.matmul").matmul
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local needs_grad, raise, record = autograd.needs_grad, core.raise, autograd.record
local mul, transpose = core.mul, core.transpose

local products = {}

-- matmul of tensors of these ranks.
local function product(name, rank, other)
  return function(a, b)
    check.tensor(name, 1, a, rank)
    check.tensor(name, 2, b, other)
    if rank == 3 and core.size(a, 1) ~= core.size(b, 1) then
      raise(("%s: batches of %d and %d matrices"):format(name, core.size(a, 1), core.size(b, 1)))
    end
    return matmul(a, b)
  end
end

--- a:bmm(b): products of a batch of matrices (batch, m, k) and (batch, k, n).
--   fp8.ones(2, 3, 4):bmm(fp8.ones(2, 4, 5)).shape --> {2, 3, 5}
products.bmm = product("bmm", 3, 3)

--- a:mm(b): the product of two matrices (m, k) and (k, n).
--   fp8.ones(2, 3):mm(fp8.ones(3, 4)).shape --> {2, 4}
products.mm = product("mm", 2, 2)

--- a:mv(b): a matrix (m, k) times a vector (k).
--   fp8.tensor({{1, 2}, {3, 4}}):mv(fp8.tensor {1, 10}) --> {21, 43}
products.mv = product("mv", 2, 1)

--- a:dot(b): the sum of products of two vectors.
--   fp8.tensor({1, 2}):dot(fp8.tensor {3, 4}) --> 11
products.dot = product("dot", 1, 1)

--- a:outer(b): the products (m, n) of each element of a vector (m) and each of another (n), of any dtypes.
--   fp8.tensor({1, 2}):outer(fp8.tensor {3, 4}) --> {{3, 4}, {6, 8}}
function products.outer(a, b)
  check.tensor("outer", 1, a, 1)
  check.tensor("outer", 2, b, 1)
  return elementwise.mul(view.unsqueeze(a, 2), b)
end

local adding = {
  name = "addmm",
  shares = true,
  backward = function(node, grad, a, b)
    local inputs = node.inputs
    local scaled = node.alpha == 1 and grad or mul(grad, node.alpha)
    return inputs[1] and (node.beta == 1 and grad or mul(grad, node.beta)),
      inputs[2] and core.matmul(scaled, transpose(b, -1, -2)), inputs[3] and core.matmul(transpose(a, -1, -2), scaled)
  end,
}

local known_options = {beta = "number", alpha = "number"}

local function added_product(name, rank)
  return function(x, a, b, options)
    options = check_options(name, options, known_options)
    check.tensor(name, 1, x)
    check.tensor(name, 2, a, rank)
    check.tensor(name, 3, b, rank)
    local alpha, beta, dtype = options.alpha or 1, options.beta or 1, core.dtype(a)
    local sum = core.matmul(a, b, nil, "f32")
    local shape = shape_text(core.shape(sum))
    if alpha ~= 1 then sum = mul(sum, alpha) end
    if beta ~= 0 then
      local addend = core.to(x, {dtype = "f32"})
      sum = core.add(sum, beta == 1 and addend or mul(addend, beta))
    end
    if shape_text(core.shape(sum)) ~= shape then
      raise(("%s: shape %s does not broadcast to %s"):format(name, shape_text(core.shape(x)), shape))
    end
    local y = core.to(sum, {dtype = dtype})
    if needs_grad(x, a, b) then
      local node = record(y, adding, {x, a, b}, {a, b})
      node.alpha, node.beta = alpha, beta
    end
    return y
  end
end

--- x:addmm(a, b [, {beta =, alpha =}]): beta · x + alpha · a·b of matrices a (m, k) and b (k, n) and an x that
-- broadcasts to (m, n), of their dtype; both factors are 1 if left out. Rounded once; an x with factor 0 does not
-- count, NaN or not.
--   fp8.tensor({10, 20}):addmm(fp8.ones(2, 3), fp8.ones(3, 2), {beta = 2}) --> {{23, 43}, {23, 43}}
products.addmm = added_product("addmm", 2)

--- x:baddbmm(a, b [, {beta =, alpha =}]): addmm of a batch of matrices (batch, m, k) and (batch, k, n).
--   fp8.zeros(1):baddbmm(fp8.ones(2, 3, 4), fp8.ones(2, 4, 5)).shape --> {2, 3, 5}
products.baddbmm = added_product("baddbmm", 3)

return products
