-- Operations against PyTorch: results and gradients (spec/fixtures/ops.py).
local fp8 = require "fp8"
local pytorch = require "spec.support.pytorch"
local support = require "spec.support"

local calls = {
  leaky_relu = function(x) return x:leaky_relu(0.25) end,
  elu = function(x) return x:elu(0.5) end,
  ["softplus.beta"] = function(x) return x:softplus(2) end,
  addcmul = function(x, a, b) return x:addcmul(a, b, {value = 0.5}) end,
  addcdiv = function(x, a, b) return x:addcdiv(a, b, {value = -2}) end,
  lerp = function(x, y) return x:lerp(y, 0.75) end,
  ["lerp.tensor"] = fp8.lerp,
  ["var.dim"] = function(x) return x:var(-1, {correction = 0, keepdim = true}) end,
  ["std.dims"] = function(x) return x:std({1, 3}, {correction = 2}) end,
  logsumexp = function(x) return x:logsumexp(1) end,
  ["logsumexp.dims"] = function(x) return x:logsumexp({1, 3}, true) end,
  ["prod.dim"] = function(x) return x:prod(2) end,
  argmin = function(x) return x:argmin(1) end,
  any = function(x) return x:any(2) end,
  all = function(x) return x:all(2) end,
  isclose = function(x, y) return x:isclose(y, 0.1, 0.01) end,
  chunk = function(x) return x:chunk(3, 2) end,
  ["chunk.few"] = function(x) return x:chunk(4) end,
  split = function(x) return x:split(3, -1) end,
  ["split.list"] = function(x) return x:split {2, 0, 3} end,
  unbind = function(x) return x:unbind(2) end,
  tile = function(x) return x:tile(2, 1, 3) end,
  ["tile.fewer"] = function(x) return x:tile {2} end,
  flip = function(x) return x:flip(1, 3) end,
  roll = function(x) return x:roll(5) end,
  ["roll.dims"] = function(x) return x:roll({-1, 2}, {1, 2}) end,
  movedim = function(x) return x:movedim(1, 3) end,
  ["movedim.list"] = function(x) return x:movedim({1, 4}, {-1, 1}) end,
  swapaxes = function(x) return x:swapaxes(1, -1) end,
  meshgrid = function(...) return fp8.meshgrid {...} end,
  ["meshgrid.xy"] = function(...) return fp8.meshgrid({...}, "xy") end,
  eye = function(_, device) return fp8.eye(3, 4, {device = device}) end,
  linspace = function(_, device) return fp8.linspace(-1, 2, 7, {device = device}) end,
  one_hot = function(x) return fp8.one_hot(x, 5) end,
  ["one_hot.all"] = fp8.one_hot,
  ["addmm.scaled"] = function(x, a, b) return x:addmm(a, b, {beta = 0.5, alpha = -2}) end,
  baddbmm = function(x, a, b) return x:baddbmm(a, b, {beta = 2, alpha = 0.5}) end,
}
for _, name in ipairs {
  "cos", "erf", "expm1", "floor", "ceil", "round", "trunc", "sign", "square", "tan", "reciprocal", "log2", "log10",
  "log1p", "softplus", "remainder", "atan2", "hypot", "isnan", "isinf", "isfinite", "logical_not", "logical_and",
  "logical_or", "logical_xor", "var", "std", "prod", "norm", "outer", "bmm", "mv", "dot", "addmm",
} do
  calls[name] = fp8[name]
end
for name, p in pairs {["1"] = 1, ["2"] = 2, ["3"] = 3, half = 0.5, inf = math.huge, ["-inf"] = -math.huge, ["0"] = 0} do
  calls["norm." .. name] = function(x) return x:norm(p, 2) end
end
for _, diagonal in ipairs {-1, 0, 2} do
  calls["triu." .. diagonal] = function(x) return x:triu(diagonal) end
  calls["tril." .. diagonal] = function(x) return x:tril(diagonal) end
  calls["diag." .. diagonal] = function(x) return x:diag(diagonal) end
  calls["diag.of." .. diagonal] = calls["diag." .. diagonal]
end

local tensors = fp8.load(support.fixture "ops.safetensors")

support.each_device(function(device)
  describe("PyTorch's results", function()
    it("are all compared", function() assert.same({}, pytorch.missing("ops.safetensors", calls)) end)

    for case in support.sorted_pairs(calls) do
      it("are those of " .. case, function() pytorch.compare(tensors, case, calls[case], device) end)
    end
  end)
end)
