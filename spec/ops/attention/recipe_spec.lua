-- Attention with a recipe, against a slow reference: every matrix is computed element by element from quantized values.
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"

local fails = support.fails

-- What a recipe's operand makes of a list, a matrix with so many columns.
local function quantized(list, operand, columns)
  if not operand or operand == "full" then return list end
  return (reference.fake_quantize(list, operand.format, operand.scale, {#list / columns, columns}, "f32",
    operand.scale_rounding))
end

-- y and the gradients of q, k and v for one dy, of lists (heads, positions, features); gradients pass straight through.
local function attend(q, k, v, dy, recipe, heads, queries, keys, features, causal)
  local scale, y, dq, dk, dv = 1 / math.sqrt(features), {}, {}, {}, {}
  q, k, v = quantized(q, recipe.q, features), quantized(k, recipe.k, features), quantized(v, recipe.v, features)
  local all = {}
  for row = 0, heads * queries - 1 do
    local head, query, largest, sum = math.floor(row / queries), row % queries, -math.huge, 0
    for key = 0, keys - 1 do
      local score = 0
      for i = 1, features do score = score + q[row * features + i] * k[(head * keys + key) * features + i] end
      if causal and key > query + keys - queries then score = -math.huge end
      all[row * keys + key + 1] = score * scale
      largest = math.max(largest, score * scale)
    end
    for key = 1, keys do
      all[row * keys + key] = math.exp(all[row * keys + key] - largest)
      sum = sum + all[row * keys + key]
    end
    for key = 1, keys do all[row * keys + key] = all[row * keys + key] / sum end
  end
  local used = quantized(all, recipe.probabilities, keys)
  for i = 1, heads * queries * features do y[i], dq[i] = 0, 0 end
  for i = 1, heads * keys * features do dk[i], dv[i] = 0, 0 end
  for row = 0, heads * queries - 1 do
    local head, dp, mean = math.floor(row / queries), {}, 0
    for key = 1, keys do
      dp[key] = 0
      for i = 1, features do
        local at, of = row * features + i, (head * keys + key - 1) * features + i
        y[at] = y[at] + used[row * keys + key] * v[of]
        dv[of] = dv[of] + used[row * keys + key] * dy[at]
        dp[key] = dp[key] + dy[at] * v[of]
      end
      mean = mean + dp[key] * all[row * keys + key]
    end
    for key = 1, keys do
      local ds = all[row * keys + key] * (dp[key] - mean) * scale
      for i = 1, features do
        local at, of = row * features + i, (head * keys + key - 1) * features + i
        dq[at], dk[of] = dq[at] + ds * k[of], dk[of] + ds * q[at]
      end
    end
  end
  return y, dq, dk, dv
end

local rows, whole = {format = "e4m3", scale = "row"}, {format = "int8", scale = "tensor"}
local tiles = {format = "e2m1", scale = {2, 3}, scale_rounding = "mx"}
local recipes = {
  ["q and k"] = {q = rows, k = whole}, v = {v = tiles, q = "full"}, probabilities = {probabilities = rows},
  all = {q = tiles, k = rows, v = whole, probabilities = {format = "e5m2", scale = "column"}},
}

support.each_device(function(device)
  local on = {device = device}

  describe("Attention with a recipe", function()
    before_each(function() fp8.manual_seed(11) end)

    for name, recipe in support.sorted_pairs(recipes) do
      for _, causal in ipairs {false, true} do
        it(("quantizes %s%s"):format(name, causal and ", causal" or ""), function()
          for _, sizes in ipairs {{6, 4, 7, 5}, {2, 3, 3, 32}} do
            local heads, queries, keys, features = unpack(sizes)
            local shape_q, shape_k = {1, heads, queries, features}, {1, heads, keys, features}
            local q, k, v = fp8.randn(shape_q, on), fp8.randn(shape_k, on), fp8.randn(shape_k, on)
            local dy = fp8.randn(shape_q, on)
            for _, x in ipairs {q, k, v} do x:requires_grad_() end
            local y = fp8.attention(q, k, v, {causal = causal, recipe = recipe})
            y:backward(dy)
            local expected = {attend(support.flat(q:detach()), support.flat(k:detach()), support.flat(v:detach()),
              support.flat(dy), recipe, heads, queries, keys, features, causal)}
            for i, x in ipairs {y:detach(), q.grad, k.grad, v.grad} do
              support.close(x:reshape(-1), fp8.tensor(expected[i]), 1e-5)
            end
          end
        end)
      end
    end

    it("is that of quantized values, fused or not, in every dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local function values(x) return fp8.dequantize_blockwise(fp8.quantize_blockwise(x, "e4m3", "row")) end
        local recipe = {q = rows, k = rows, v = rows}
        local q, k, v = fp8.randn(2, 3, 70, 32, on):to(dtype), fp8.randn(2, 3, 70, 32, on):to(dtype),
          fp8.randn(2, 3, 70, 32, on):to(dtype)
        local expected = fp8.attention(values(q), values(k), values(v), {causal = true})
        support.same_bytes(fp8.attention(q, k, v, {causal = true, recipe = recipe}), expected)
        local shared = fp8.attention(q, k:narrow(2, 1, 1), v:narrow(2, 1, 1),
          {recipe = recipe, enable_gqa = true})
        support.same_bytes(shared,
          fp8.attention(values(q), values(k:narrow(2, 1, 1)), values(v:narrow(2, 1, 1)), {enable_gqa = true}))
      end
    end)

    it("packed for one sequence equals the general form, turned by positions first", function()
      local recipe, rotary = {q = rows, k = tiles, v = rows, probabilities = rows}, {base = 100}
      local x = fp8.randn(2, 6, 24, on):requires_grad_()
      local y = fp8.self_attention(x, 2, {causal = true, rotary = rotary, recipe = recipe})
      local dy = fp8.randn(y.shape, on)
      y:backward(dy)
      local other = x:detach():clone():requires_grad_()
      local function part(i) return other:view(2, 6, 3, 2, 4):select(3, i):transpose(2, 3) end
      local general = fp8.attention(fp8.rotary_embedding(part(1), rotary), fp8.rotary_embedding(part(2), rotary),
        part(3), {causal = true, recipe = recipe}):transpose(2, 3):reshape(2, 6, 8)
      general:backward(dy)
      support.close(y:detach(), general:detach(), 1e-6)
      support.close(x.grad, other.grad, 1e-6)
    end)

    it("quantizes what dropout leaves, and the gradient of values is that of the same draw", function()
      local one = {format = "int8", scale = "tensor", constant_scale = 1} -- whole numbers
      local q, k, v = fp8.zeros(1, 1, 64, 4, on), fp8.zeros(1, 1, 2, 4, on), fp8.ones(1, 1, 2, 4, on):requires_grad_()
      local y = fp8.attention(q, k, v, {dropout = 0.5, recipe = {probabilities = one}})
      y:sum():backward() -- probabilities are 1 / 2, and 0 or 1 after dropout
      local found = {}
      for _, value in ipairs(support.flat(y:detach())) do found[value] = true end
      assert.same({[0] = true, [1] = true, [2] = true}, found)
      assert.equal(y:detach():sum():item(), v.grad:sum():item())
    end)

    it("shows a NaN, and takes empty tensors and functions", function()
      local q = fp8.randn(1, 2, 3, 4, on)
      local broken = q:clone()
      broken:narrow(3, 1, 1):fill_(0 / 0)
      local y = fp8.attention(q, q, broken, {recipe = {v = whole}})
      assert.equal(0, y:isfinite():to("i64"):sum():item())
      local none = fp8.zeros(0, 2, 3, 4, on)
      assert.same({0, 2, 3, 4}, fp8.attention(none, none, none, {recipe = recipes.all}).shape)
      local names = {}
      local function halves(x, name)
        if name then names[name] = x.shape end
        return (x * 2):round() / 2
      end
      local own = {quantize = halves}
      local found = fp8.attention(q, q, q, {recipe = {q = own, k = own, v = own, probabilities = own}})
      assert.same({q = {6, 4}, k = {6, 4}, v = {6, 4}, probabilities = {6, 3}}, names)
      local h = halves(q)
      local p = halves((h:matmul(h:transpose(-1, -2)) / 2):softmax(-1))
      support.close(found, p:matmul(h), 1e-6)
    end)

    it("refuses what is no recipe", function()
      local q = fp8.zeros(1, 2, 3, 4, on)
      local function refuses(text, recipe) fails(text, fp8.attention, q, q, q, {recipe = recipe}) end
      refuses("attention: recipe must be a table of operands, got string", "mxfp8")
      refuses("attention: recipe: unknown field query", {query = rows})
      refuses("attention: recipe: unknown field probabilites; did you mean probabilities?", {probabilites = rows})
      refuses("attention: recipe.q.format must be a map", {q = {scale = "row"}})
      refuses('attention: recipe.k must be a table {format =, scale =} or "full", got "half"', {k = "half"})
      refuses("attention: recipe.v.hadamard has no meaning in attention",
        {v = {format = "e4m3", scale = "row", hadamard = 16}})
      refuses("attention: recipe.q.history has no meaning in attention",
        {q = {format = "e4m3", scale = "tensor", history = 3}})
      fails("self_attention: recipe: unknown field query", fp8.self_attention, fp8.zeros(1, 2, 12, on), 2,
        {recipe = {query = rows}})
    end)
  end)
end)
