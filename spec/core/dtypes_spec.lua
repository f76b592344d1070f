-- Operations on tensors of every dtype: the GPU takes those that the CPU takes, with the same numbers, and refuses the
-- others with the same error.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local operations = {
  softmax = function(x) return x:softmax(2) end,
  log_softmax = function(x) return x:log_softmax(1) end,
  softmax_backward = function(x) return core.softmax_backward(x, x, 2, false) end,
  cross_entropy = function(x)
    return (core.cross_entropy(x, core.zeros(x:size(1), {dtype = "i32", device = x.device})))
  end,
  cross_entropy_backward = function(x)
    local target = core.zeros(x:size(1), {dtype = "u8", device = x.device})
    local losses, statistics = core.cross_entropy(x, target)
    return core.cross_entropy_backward(x, target, statistics, losses)
  end,
  cross_entropy_at_once = function(x)
    local target = core.zeros(x:size(1), {dtype = "u8", device = x.device})
    return select(2, core.cross_entropy(x, target, {smoothing = 0.5}, core.ones(x:size(1), {device = x.device})))
  end,
  scale = function(x) return core.scale_(x:clone(), core.full({1}, 3, {device = x.device})) end,
  matmul_add = function(x)
    return core.matmul_add_(core.ones(x:size(1), x:size(1), {device = x.device}), x, x:t())
  end,
  layer_norm = function(x) return fp8.layer_norm(x) end,
  rms_norm = function(x) return fp8.rms_norm(x) end,
  matmul = function(x) return x:matmul(x:t()) end,
  attention = function(x)
    local heads = x:reshape(1, 1, x:size(1), x:size(2))
    return fp8.attention(heads, heads, heads)
  end,
  rotary_embedding = function(x) return fp8.rotary_embedding(x:reshape(2, -1)) end,
  recurrent_step = function(x)
    local state = core.narrow(x, 1, 1, 1):contiguous()
    local gates = fp8.cat({state, state, state}, 2)
    return core.recurrent_step(gates, gates, state)
  end,
  attention_softmax = function(x)
    return core.attention_softmax_(x:clone():reshape(1, 1, x:size(1), x:size(2)), 0.5, false)
  end,
  sum = function(x) return x:sum(1) end,
  mean = function(x) return x:mean() end,
  max = function(x) return x:max(2) end,
  prod = function(x) return x:prod(2) end,
  norm = function(x) return x:norm() end,
  argmin = function(x) return x:argmin(1) end,
  var = function(x) return x:var(1) end,
  logsumexp = function(x) return x:logsumexp(2) end,
  any = function(x) return x:any(2) end,
  isclose = function(x) return x:isclose(x * 2) end,
  argmax = function(x) return x:argmax(1) end,
  cumsum = function(x) return x:cumsum(1) end,
  cumprod = function(x) return x:cumprod(2) end,
  sort = function(x) return (x:sort(2)) end,
  argsort = function(x) return x:argsort(1) end,
  topk = function(x) return (x:topk(3)) end,
  kthvalue = function(x) return (x:kthvalue(2)) end,
  median = function(x) return x:median() end,
  quantile = function(x) return x:quantile(0.5, 2) end,
  exp = function(x) return x:exp() end,
  relu = function(x) return x:relu() end,
  sin_backward = function(x) return core.sin_backward(x, x) end,
  flip = function(x) return x:flip(1, 2) end,
  roll = function(x) return x:roll(3) end,
  tile = function(x) return x:tile(2, 2) end,
  tril = function(x) return x:tril() end,
  diag = function(x) return x:diag(1) end,
  diag_of_vector = function(x) return x[2]:diag(-1) end,
  outer = function(x) return x[1]:outer(x[2]) end,
  one_hot = function(x) return fp8.one_hot(x, 4) end,
  addmm = function(x) return x:narrow(2, 1, 3):addmm(x, x:t(), {beta = 0.5}) end,
  mv = function(x) return x:mv(x[1]) end,
  eye = function(x) return core.mul(fp8.eye(2, 3, {dtype = x.dtype, device = x.device}), 2) end,
  floor = function(x) return x:floor() end,
  cos = function(x) return x:cos() end,
  log2 = function(x) return (x + 1):log2() end,
  tan_backward = function(x) return core.tan_backward(x, x) end,
  isfinite = function(x) return x:isfinite() end,
  remainder = function(x) return x:remainder(2) end,
  atan2 = function(x) return x:atan2(x + 1) end,
  softplus = function(x) return x:softplus() end,
  leaky_relu = function(x) return x:leaky_relu(0.5) end,
  logical_xor = function(x) return x:logical_xor(x:t():contiguous():view(x.shape)) end,
  addcmul = function(x) return x:addcmul(x, x, {value = 0.5}) end,
  lerp = function(x) return x:lerp(x + x, 0.5) end,
  add = function(x) return x + x:flatten():narrow(1, 1, x:size(2)) end,
  divide = function(x) return x / 4 end,
  power = function(x) return x ^ 2 end,
  compare = function(x) return x:gt(1.5) end,
  maximum = function(x) return fp8.maximum(x, 2) end,
  clamp = function(x) return x:clamp(1, 2) end,
  where = function(x) return fp8.where(x:gt(1), x, x + x) end,
  masked_fill = function(x) return x:masked_fill(x:eq(1), 3) end,
  fill = function(x) return x:clone():fill_(2) end,
  cat = function(x) return fp8.cat({x, x}, 2) end,
  contiguous = function(x) return x:t():contiguous() end,
  index_select = function(x) return x:index_select(1, fp8.tensor({2, 0, 2}, {dtype = "i64", device = x.device})) end,
  index_add = function(x)
    return core.index_add(x.shape, 1, fp8.tensor({2, 2}, {dtype = "i64", device = x.device}), x:narrow(1, 1, 2))
  end,
  gather = function(x) return x:gather(2, fp8.zeros(x:size(1), 1, {dtype = "i64", device = x.device})) end,
  nonzero = function(x) return x:nonzero() end,
  count_nonzero = function(x) return x:count_nonzero(1) end,
  masked_select = function(x) return x:masked_select(x:gt(1)) end,
  unique = function(x) return x:unique() end,
  unique_inverse = function(x) return select(2, x:unique {return_inverse = true}) end,
  searchsorted = function(x) return fp8.arange(3, {device = x.device}):searchsorted(x) end,
  bucketize = function(x) return x:bucketize(fp8.arange(3, {device = x.device}), {right = true}) end,
  histogram = function(x) return (x:histogram(3)) end,
  histogram_of_weights = function(x) return (x:histogram(3, {weight = x, density = true})) end,
  histc = function(x) return x:histc(4, 0, 3) end,
  bincount = function(x) return x[1]:bincount(x[2]) end,
  multinomial = function(x) return x:multinomial(2, true):mul(0) end,
  quantize = function(x) return fp8.quantize(x, "e4m3") end,
  fake_quantize = function(x)
    return (core.quantize(x, core.quantizer {format = fp8.create_map(true, 4, 3, 8), blocksize = 64}, "values"))
  end,
  dequantize = function(x)
    return core.dequantize(x, core.ones(1, {device = x.device}), core.quantizer {format = "e5m2"}, "f32")
  end,
  delayed_scale = function(x)
    return core.delayed_scale(x, core.zeros(4, {device = x.device}), core.quantizer {format = "e4m3"}, true)
  end,
  scaled_matmul = function(x)
    local one = core.ones({}, {device = x.device})
    return core.scaled_matmul(x, one, x, one, "f32")
  end,
  clip_grad_norm = function(x) return core.clip_grad_norm({x:clone()}, 1) end,
  embedding = function(x) return fp8.embedding(x, fp8.tensor({1, 0}, {dtype = "i64", device = x.device})) end,
  rand = function(x) return core.mul(core.rand(2, 2, {dtype = x.dtype, device = x.device}), 0) end,
  randint = function(x) return core.mul(core.randint(0, 9, {3}, {dtype = x.dtype, device = x.device}), 0) end,
}

local function sorted_names(of)
  local names = {}
  for name in pairs(of) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- Whole numbers from 0 to 3, which every dtype holds: in rows of whole vectors, and of 5.
local function inputs(dtype, device)
  local values = fp8.tensor({0, 3, 1, 2, 2, 0, 1, 3, 3, 1, 0, 2, 1, 1, 2, 0}, {device = device})
  local rows = fp8.cat({values, values:flatten() * 0.5 + values:eq(1) * 0.5, values}, 1):reshape(3, 16)
  return {(rows + 0.5):to("i64"):to(dtype), rows:narrow(2, 1, 5):contiguous():to("u8"):to(dtype)}
end

local rounding = {f32 = 1e-6, f16 = 2 ^ -10, bf16 = 2 ^ -7, e4m3 = 2 ^ -3, e5m2 = 2 ^ -2}

local function outcome(name, x)
  local ok, result = pcall(operations[name], x)
  return ok and "done" or result, ok and core.is_tensor(result) and result or nil
end

support.each_device(function(device)
  describe("Every operation", function()
    for _, dtype in ipairs(sorted_names(core.dtypes)) do
      it("takes or refuses " .. dtype, function()
        for _, name in ipairs(sorted_names(operations)) do
          for i = 1, 2 do
            local said, result = outcome(name, inputs(dtype, device)[i])
            if device ~= "cpu" then
              local expected, reference = outcome(name, inputs(dtype, "cpu")[i])
              assert.equal(expected, said, name)
              if result then
                assert.equal(reference.dtype, result.dtype, name)
                support.close(result:to("f32"), reference:to("f32"), rounding[dtype] or 1e-6)
              end
            elseif result and rounding[dtype] then
              local _, reference = outcome(name, inputs("f32", device)[i])
              if reference then support.close(result:to("f32"), reference:to("f32"), 2 * rounding[dtype]) end
            end
          end
        end
      end)
    end
  end)
end)
