-- Operations that are composed of others, against PyTorch: results and gradients (spec/fixtures/composed.py).
local fp8 = require "fp8"
local pytorch = require "spec.support.pytorch"
local support = require "spec.support"

local function list(f)
  return function(...) return {f(...)} end
end

local calls = {
  ["cummax.first"] = list(function(x) return x:cummax(1) end),
  logcumsumexp = function(x) return x:logcumsumexp(2) end,
  ["logcumsumexp.large"] = function(x) return x:logcumsumexp(-1) end,
  ["logcumsumexp.infinite"] = function(x) return x:logcumsumexp(1) end,
  ["diff.twice"] = function(x) return x:diff(2, 1) end,
  ["diff.all"] = function(x) return x:diff(9, 2) end,
  ["diff.none"] = function(x) return x:diff(0, 2) end,
  ["nansum.dims"] = function(x) return x:nansum({1, 3}, true) end,
  ["nansum.whole"] = function(x) return x:nansum(2) end,
  ["nanmean.dim"] = function(x) return x:nanmean(2) end,
  ["nanmedian.dim"] = list(function(x) return x:nanmedian(3) end),
  ["nanmedian.keep"] = list(function(x) return x:nanmedian(1, true) end),
  amax = function(x) return x:amax {1, 3} end,
  amin = function(x) return x:amin(-1, true) end,
  aminmax = list(function(x) return x:aminmax(2) end),
  std_mean = list(function(x) return x:std_mean({1, 2}, {correction = 0, keepdim = true}) end),
  var_mean = list(function(x) return x:var_mean() end),
  softmin = function(x) return x:softmin(2) end,
  ["cross.first"] = function(a, b) return a:cross(b, 1) end,
  ["tensordot.none"] = function(a, b) return a:tensordot(b, 0) end,
  ["tensordot.lists"] = function(a, b) return a:tensordot(b, {{3, 1}, {2, 4}}) end,
  ["cdist.one"] = function(a, b) return a:cdist(b, 1) end,
  ["diagonal.dims"] = function(x) return x:diagonal(-1, 3, 1) end,
  repeat_interleave = function(x) return x:repeat_interleave(3) end,
  ["repeat_interleave.dim"] = function(x) return x:repeat_interleave(2, 2) end,
  ["put.accumulate"] = function(x, places, values) return x:put(places, values, true) end,
  view_as = function(x, y) return x:contiguous():view_as(y) end,
  clip = function(x) return x:clip(-0.5, 1) end,
  clamp_min = function(x) return x:clamp_min(0.25) end,
  clamp_max = function(x) return x:clamp_max(0.25) end,
  nan_to_num = function(x) return x:nan_to_num(7, 8) end,
  ["nan_to_num.all"] = function(x) return x:nan_to_num(0, 3, -3) end,
  concat = function(a, b) return fp8.concat({a, b}, 2) end,
  hstack = function(a, b) return fp8.hstack {a, b} end,
  ["hstack.vectors"] = function(a, b) return fp8.hstack {a, b} end,
  vstack = function(a, b) return fp8.vstack {a, b} end,
  moveaxis = function(x) return x:moveaxis(1, -1) end,
  ["normalize.one"] = function(x) return x:normalize(1, 1) end,
  ["cosine_similarity.last"] = function(a, b) return a:cosine_similarity(b, -1) end,
  ["unique.rows"] = list(function(x) return x:unique {dim = 1, return_inverse = true, return_counts = true} end),
  ["unique.columns"] = function(x) return x:unique {dim = 2} end,
  ["unique_consecutive.rows"] = list(function(x)
    return x:unique_consecutive {dim = 1, return_inverse = true, return_counts = true}
  end),
  ["glu.first"] = function(x) return x:glu(1) end,
  celu = function(x) return x:celu(1.7) end,
  ["prelu.one"] = fp8.prelu,
  ["fmod.number"] = function(x) return x:fmod(-1.5) end,
  ["fmod.whole"] = fp8.fmod,
  ["logit.eps"] = function(x) return x:logit(0.25) end,
  ["rot90.back"] = function(x) return x:rot90(-1, {3, 1}) end,
  ["rot90.twice"] = function(x) return x:rot90(6) end,
  ["cov.biased"] = function(x) return x:cov(0) end,
  unflatten = function(x) return x:unflatten(2, {2, -1}) end,
  tensor_split = function(x) return x:tensor_split(3, 2) end,
  ["tensor_split.places"] = function(x) return x:tensor_split {1, 1, 9} end,
  ["trapezoid.places"] = fp8.trapezoid,
  ["trapezoid.step"] = function(y) return y:trapezoid(0.5, 1) end,
  ["trapezoid.like"] = function(y, x) return y:trapezoid(x, 1) end,
  triu_indices = function(_, device) return fp8.triu_indices(3, 5, 1, {device = device}) end,
  tril_indices = function(_, device) return fp8.tril_indices(4, 3, {device = device}) end,
  logspace = function(_, device) return fp8.logspace(-2, 3, 7, {device = device}) end,
  ["logspace.two"] = function(_, device) return fp8.logspace(0, 5, 6, 2, {device = device}) end,
}
for name, others in pairs {
  asinh = {"far", "infinite"}, acosh = {"far", "none"}, xlogy = {"zero"}, cov = {"vector"}, corrcoef = {"vector"},
  inner = {"vectors", "number"},
} do
  for _, other in ipairs(others) do calls[name .. "." .. other] = fp8[name] end
end
for _, name in ipairs {
  "asinh", "acosh", "atanh", "selu", "hardsigmoid", "hardswish", "glu", "prelu", "fmod", "copysign", "logit", "xlogy",
  "rot90", "cov", "corrcoef", "inner", "trapezoid",
  "logaddexp", "diff", "nansum", "nanmean", "nanmedian", "heaviside", "kron", "cross", "tensordot", "cdist", "mm",
  "trace", "diagonal", "put", "expand_as", "reshape_as", "where", "atan", "asin", "acos", "sinh", "cosh", "exp2",
  "frac", "logsigmoid", "mish", "softsign", "relu6", "hardtanh", "isin", "normalize", "cosine_similarity",
} do
  calls[name] = fp8[name]
end
calls["logaddexp.equal"], calls["kron.ranks"], calls["trace.whole"] = fp8.logaddexp, fp8.kron, fp8.trace
for _, name in ipairs {"atan", "sinh", "cosh"} do calls[name .. ".far"] = fp8[name] end
calls["isin.broken"] = fp8.isin
for _, name in ipairs {"ties", "broken", "whole", "wide"} do
  calls["cummax." .. name] = list(function(x) return x:cummax(2) end)
  calls["cummin." .. name] = list(function(x) return x:cummin(2) end)
end

local tensors = fp8.load(support.fixture "composed.safetensors")

support.each_device(function(device)
  local on = {device = device}
  local fails = support.fails

  describe("PyTorch's results", function()
    it("are all compared", function() assert.same({}, pytorch.missing("composed.safetensors", calls)) end)

    for case in support.sorted_pairs(calls) do
      it("are those of " .. case, function() pytorch.compare(tensors, case, calls[case], device) end)
    end
  end)

  describe("Operations that are composed of others", function()
    it("take what has no dimensions or no elements", function()
      local number, none = fp8.full({}, 2, on), fp8.zeros(0, 3, on)
      for _, name in ipairs {"cummax", "cummin", "logcumsumexp"} do
        assert.equal(2, number[name](number, 1):item())
        assert.same({0, 3}, none[name](none, 1).shape)
        assert.same({0, 3}, none[name](none, 2).shape)
      end
      assert.equal(2, number:nanmedian():item())
      assert.equal(2, number:nanmedian(1):item())
      assert.equal(0, none:nansum():item())
      assert.is_true(none:nanmean():item() ~= none:nanmean():item())
      assert.is_true(none:nanmedian():item() ~= none:nanmedian():item())
      assert.same({0, 2}, none:diff().shape)
      assert.same({0, 3}, none:diff(2, 1).shape)
      assert.same({0, 6}, none:kron(fp8.ones(2, 2, on)).shape)
      assert.same({3, 3}, none:tensordot(none, {{1}, {1}}).shape)
      assert.same({0, 0}, none:cdist(none).shape)
      assert.equal(0, none:trace():item())
      assert.same({0, 3}, none:unique({dim = 1}).shape)
      assert.equal(0, fp8.where(none)[2]:numel())
    end)

    it("round once in 16 bits", function()
      fp8.manual_seed(1)
      for _, dtype in ipairs {"f16", "bf16"} do
        local x, y = fp8.randn(5, 3, on):to(dtype), fp8.randn(5, 3, on):to(dtype)
        local function same(f) support.same_bytes(f(x, y), f(x:float(), y:float()):to(dtype)) end
        same(function(a) return a:logcumsumexp(1) end)
        same(fp8.logaddexp)
        same(fp8.cross)
        same(fp8.cdist)
        same(function(a) return a:nanmean(1) end)
        same(fp8.cosine_similarity)
        for _, name in ipairs {
          "atan", "asin", "acos", "sinh", "cosh", "exp2", "mish", "logsigmoid", "normalize", "asinh", "atanh", "selu",
          "hardswish", "cov", "corrcoef", "trapezoid",
        } do
          same(function(a) return a[name](a:clamp(-1, 1)) end)
        end
      end
    end)

    it("draw every position once, and 1 as often as they should", function()
      fp8.manual_seed(3)
      local order = fp8.randperm(1000, on)
      assert.equal("i64", order.dtype)
      assert.is_true(order:sort():equal(fp8.arange(1000, {dtype = "i64", device = device})))
      assert.is_false(order:equal(fp8.randperm(1000, on)))
      assert.same({0}, fp8.randperm(0, on).shape)
      local drawn = fp8.full({100, 100}, 0.3, on):bernoulli()
      assert.equal(0, drawn:ne(0):ne(drawn):sum():item())
      assert.is_true(math.abs(drawn:mean():item() - 0.3) < 0.02)
      assert.same({1, 0, 1}, fp8.tensor({1, 0, 1}, {dtype = "bf16", device = device}):bernoulli():totable())
    end)

    it("tell what is wrong with an argument", function()
      local x = fp8.zeros(3, 4, on)
      fails("glu: dimension 1 must have an even size, got 3", fp8.glu, x, 1)
      fails("prelu: argument 2: 1 or 4 weights are needed for shape (3, 4), got shape (3)", fp8.prelu, x, x[{{}, 1}])
      fails("celu: alpha must be a finite number other than 0, got 0", fp8.celu, x, 0)
      fails("logit: eps must be a number from 0 to 0.5, got 2", fp8.logit, x, 2)
      fails("fmod: argument 2: tensor expected, got nil", fp8.fmod, x)
      fails("rot90: dimension 1 is given twice", fp8.rot90, x, 1, {1, 1})
      fails("unflatten: dimension 2 has size 4, which is not that of (3, -1)", fp8.unflatten, x, 2, {3, -1})
      fails("unflatten: only one size may be -1", fp8.unflatten, x, 2, {-1, -1})
      fails("tensor_split: a position must be a whole number from 2 on, got 1", fp8.tensor_split, x, {2, 1})
      fails("inner: shapes (3, 4) and (4, 3): 4 and 3 differ", fp8.inner, x, x:t())
      fails("trapezoid: shapes (3, 4) and (3): 4 values at 3 places", fp8.trapezoid, x, x[{{}, 1}])
      fails("logspace: the base must be a finite number above 0, got -1", fp8.logspace, 0, 1, 3, -1)
      fails("bernoulli: floating-point probabilities are needed, got i64", fp8.bernoulli, fp8.randperm(3, on))
    end)

    it("keep integers and tell what does not fit", function()
      assert.equal("i64", fp8.arange(3, {dtype = "i64", device = device}):cummax(1).dtype)
      assert.equal("u8", fp8.tensor({3, 5}, {dtype = "u8", device = device}):diff().dtype)
      local x = fp8.zeros(2, 3, on)
      x:put_(fp8.tensor({5}, {dtype = "i64", device = device}), 7)
      assert.equal(7, x[2][3]:item())
      fails("cummax: dimension 3 of a tensor of 2 dimensions", fp8.cummax, x, 3)
      fails("kron: at most 4 dimensions", fp8.kron, fp8.zeros(1, 1, 1, 1, 1, on), x)
      fails("cross: dimension 1 must have size 3, got shapes (2, 3) and (2, 3)", fp8.cross, x, x, 1)
      fails("tensordot: shapes (2, 3) and (2, 3): 3 and 2 differ", fp8.tensordot, x, x, 1)
      fails("tensordot: dimension 1 is given twice", fp8.tensordot, x, x, {{1, 1}, {1, 2}})
      fails("cdist: argument 2: vectors in a matrix are needed, got shape (3)", fp8.cdist, x, x[1])
      fails("put: 3 values for 1 positions", fp8.put, x, fp8.zeros(1, {dtype = "i64", device = device}), x[1])
      fails("nanmedian: dimension 1 has no elements", fp8.nanmedian, fp8.zeros(0, 2, on), 1)
      fails("diagonal: dimension 2 is given twice", fp8.diagonal, x, 0, 2, -1)
      fails("repeat_interleave: the number of times must be a whole number from 0 on, got -1", fp8.repeat_interleave, x,
        -1)
      fails("unique: dimension 3 of a tensor of 2 dimensions", fp8.unique, x, {dim = 3})
      fails("hstack: the list is empty", fp8.hstack, {})
      fails("vstack: element 1 of the list: tensor expected, got number", fp8.vstack, {1})
      fails("cosine_similarity: argument 2: a tensor of 2 dimensions is needed, got shape (3)",
        fp8.cosine_similarity, x, x[1])
      fails("expand_as: argument 2: tensor expected, got nil", fp8.expand_as, x)
    end)
  end)
end)
