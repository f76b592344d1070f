-- Attention of every kind of shape against its formula: the fused kernels of the devices, batched products elsewhere.
local fp8 = require "fp8"
local reference = require "spec.support.reference.attention"
local support = require "spec.support"
local self_attention = require("fp8.ops.attention").self_attention

--- y, dq, dk and dv from tensors (batch, heads, positions, features) of any dtype and device.
local function expected_attention(q, k, v, dy, causal)
  local batch, heads, queries, keys, features = q:size(1), q:size(2), q:size(3), k:size(3), q:size(4)
  local results = {{}, {}, {}, {}}
  for b = 1, batch do
    for h = 1, heads do
      local function flat(x) return support.flat(x:detach()[b][h]) end
      local parts = {reference(flat(q), flat(k), flat(v), flat(dy), queries, keys, features, causal)}
      for i, part in ipairs(parts) do
        for _, value in ipairs(part) do table.insert(results[i], value) end
      end
    end
  end
  local function tensor(i, positions) return fp8.tensor(results[i]):view(batch, heads, positions, features) end
  return tensor(1, queries), tensor(2, queries), tensor(3, keys), tensor(4, keys)
end

local shapes = { -- batch, heads, queries, keys, features, causal
  {2, 3, 64, 64, 64, false}, {1, 2, 128, 128, 64, true}, {2, 2, 100, 100, 64, true}, {2, 2, 37, 90, 32, true},
  {1, 3, 200, 130, 32, false}, {1, 2, 150, 150, 128, true}, {1, 2, 65, 260, 128, true}, {1, 1, 49, 49, 32, false},
  {2, 1, 257, 257, 64, false}, {1, 2, 1, 70, 64, true}, {3, 2, 20, 20, 24, true}, {1, 1, 449, 640, 64, true},
  {1, 1, 323, 451, 128, true}, {1, 1, 192, 513, 128, false}, {2, 2, 1, 1, 128, true},
}

support.each_device(function(device)
  describe("attention", function()
    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      for _, case in ipairs(shapes) do
        local batch, heads, queries, keys, features, causal = unpack(case)
        it(("%s of %d × %d heads, %d queries, %d keys, %d features%s"):format(dtype, batch, heads, queries, keys,
          features, causal and ", causal" or ""), function()
          fp8.manual_seed(queries + features)
          local function heads_of(positions) -- as a layer makes them: the heads of a position side by side
            return fp8.randn(batch, positions, heads, features, {device = device, dtype = dtype}):transpose(2, 3)
          end
          local q, k, v, dy = heads_of(queries), heads_of(keys), heads_of(keys), heads_of(queries)
          for _, x in ipairs {q, k, v} do x:requires_grad_() end
          local y = fp8.attention(q, k, v, {causal = causal})
          y:backward(dy)
          local expected = {expected_attention(q, k, v, dy, causal)}
          for i, x in ipairs {y:detach(), q.grad, k.grad, v.grad} do support.close(x, expected[i]) end
        end)
      end

      it(dtype .. " of packed queries, keys and values, the same in every run", function()
        fp8.manual_seed(7)
        local batch, positions, heads, features = 2, 90, 3, 32
        local options = {device = device, dtype = dtype}
        local x = fp8.randn(batch, positions, 3 * heads * features, options):requires_grad_()
        local dy = fp8.randn(batch, positions, heads * features, options)
        local parts = x:detach():view(batch, positions, 3, heads, features)
        local function part(i) return parts:select(3, i):transpose(2, 3) end
        local y, dq, dk, dv = expected_attention(part(1), part(2), part(3), dy:view(batch, positions, heads, features)
          :transpose(2, 3), true)
        local first
        for _ = 1, 2 do
          x.grad = nil
          local output = self_attention(x, heads, {causal = true})
          output:backward(dy)
          support.close(output:detach(), y:transpose(2, 3):contiguous():view(batch, positions, heads * features))
          local grads = x.grad:view(batch, positions, 3, heads, features)
          for i, expected in ipairs {dq, dk, dv} do support.close(grads:select(3, i):transpose(2, 3), expected) end
          first = first or x.grad
          support.equal(x.grad, first)
        end
      end)

      it(dtype .. " with a scale below 0, and with keys and values that heads share", function()
        local options = {device = device, dtype = dtype}
        for _, features in ipairs {64, 128} do
          local q, dy = fp8.randn(2, 3, 130, features, options), fp8.randn(2, 3, 130, features, options)
          local k, v = fp8.randn(2, 1, 130, features, options), fp8.randn(2, 1, 130, features, options)
          local shared = {q:clone(), k:clone(), v:clone()}
          local function of_each_head(x) return x:expand(2, 3, 130, features):contiguous() end
          local own = {q:clone(), of_each_head(k), of_each_head(v)}
          local found = {}
          for i, t in ipairs {shared, own} do
            for _, x in ipairs(t) do x:requires_grad_() end
            local k_seen, v_seen = t[2]:expand(2, 3, 130, features), t[3]:expand(2, 3, 130, features)
            local y = fp8.attention(t[1], k_seen, v_seen, {causal = true})
            y:backward(dy)
            found[i] = {y:detach(), t[1].grad, t[2].grad:to "f32", t[3].grad:to "f32"}
          end
          support.equal(found[1][1], found[2][1])
          support.equal(found[1][2], found[2][2])
          for i = 3, 4 do support.close(found[1][i]:to(dtype), found[2][i]:sum({2}, true):to(dtype)) end
          -- -q, of which the scores are the same
          local y = fp8.attention(-q, k:expand(2, 3, 130, features), v:expand(2, 3, 130, features),
            {causal = true, scale = -1 / math.sqrt(features)})
          support.close(y, found[1][1])
        end
      end)

      if device ~= "cpu" and dtype ~= "f32" then
        it(dtype .. " of more heads than the cache holds: as of each alone", function()
          local function randn() return fp8.randn(2, 20, 4096, 64, {device = device, dtype = dtype}) end
          local t = {randn(), randn(), randn()}
          local dy = randn()
          local function run(parts, grad)
            for i, x in ipairs(parts) do parts[i] = x:clone():requires_grad_() end
            local y = fp8.attention(parts[1], parts[2], parts[3], {causal = true})
            y:backward(grad)
            return {y:detach(), parts[1].grad, parts[2].grad, parts[3].grad}
          end
          local all = run({t[1], t[2], t[3]}, dy)
          for b = 1, 2 do
            for first = 1, 20, 10 do
              local function part(x) return x:narrow(1, b, 1):narrow(2, first, 10) end
              local some = run({part(t[1]), part(t[2]), part(t[3])}, part(dy))
              for i = 1, 4 do support.equal(some[i], part(all[i])) end
            end
          end
        end)
      end

      it(dtype .. " is finite where all scores of a query are far below 0", function()
        fp8.manual_seed(5)
        local options = {device = device, dtype = dtype}
        local q = (fp8.rand(1, 1, 49, 64, options) + 1.5):requires_grad_()
        local k = (fp8.rand(1, 1, 49, 64, options) - 2.5):requires_grad_()
        local v = fp8.randn(1, 1, 49, 64, options):requires_grad_()
        local dy = fp8.randn(1, 1, 49, 64, options)
        fp8.attention(q, k, v):backward(dy)
        local _, _, _, expected = expected_attention(q, k, v, dy, false)
        support.close(v.grad, expected)
        for _, x in ipairs {q, k} do assert.equal(0, x.grad:ne(x.grad):sum():item()) end
      end)

      it(dtype .. " has scores of any size, which no 16-bit format may round", function()
        fp8.manual_seed(11)
        local options = {device = device, dtype = dtype}
        for _, features in ipairs {20, 32} do
          for _, causal in ipairs {false, true} do
            for _, size in ipairs {3, 6, 11} do
              local q, k = fp8.randn(1, 2, 40, features, options) * size, fp8.randn(1, 2, 40, features, options) * size
              local v, dy = fp8.randn(1, 2, 40, features, options), fp8.randn(1, 2, 40, features, options)
              local y, _, _, dv = expected_attention(q, k, v, dy, causal)
              v:requires_grad_()
              local actual = fp8.attention(q, k, v, {causal = causal})
              actual:backward(dy)
              support.close(actual:detach(), y)
              support.close(v.grad, dv)
            end
          end
          -- All scores are one, before the scale far more than 65504; probabilities are then 1 / 10.
          local q = fp8.full({1, 1, 10, features}, 90, options):requires_grad_()
          local v = fp8.randn(1, 1, 10, features, options)
          local y = fp8.attention(q, q, v)
          support.close(y:detach(), v:to("f32"):mean(3, true):expand(1, 1, 10, features))
          y:backward(fp8.ones(y.shape, options))
          assert.equal(0, q.grad:ne(q.grad):sum():item())
        end
      end)

      it(dtype .. " takes a gradient that begins anywhere", function()
        fp8.manual_seed(6)
        local options = {device = device, dtype = dtype}
        local q = fp8.randn(1, 2, 10, 32, options):requires_grad_()
        local dy = fp8.randn(641, options):narrow(1, 2, 640):view(1, 2, 10, 32)
        local k, v = fp8.randn(1, 2, 10, 32, options), fp8.randn(1, 2, 10, 32, options)
        fp8.attention(q, k, v):backward(dy)
        local _, expected = expected_attention(q, k, v, dy, false)
        support.close(q.grad, expected)
      end)

      for _, features in ipairs {20, 32, 64, 128} do
        it(("%s of %d features: what is not finite stays with who sees it"):format(dtype, features), function()
          local options = {device = device, dtype = dtype}
          for _, sizes in ipairs {{70, 70, 9}, {70, 70, 66}, {40, 100, 21}, {130, 130, 128}} do
            local queries, keys, at = unpack(sizes)
            local t = {q = fp8.randn(1, 2, queries, features, options), k = fp8.randn(1, 2, keys, features, options),
              v = fp8.randn(1, 2, keys, features, options), dy = fp8.randn(1, 2, queries, features, options)}
            --- y, dq, dk and dv, with `value` in place of an element of `name`, of its position number `at`.
            local function run(name, value, position)
              local x = {}
              for key, tensor in pairs(t) do x[key] = tensor:clone() end
              if name then x[name][1][2][position]:narrow(1, 3, 1):fill_(value) end
              for _, key in ipairs {"q", "k", "v"} do x[key]:requires_grad_() end
              local y = fp8.attention(x.q, x.k, x.v, {causal = true})
              y:backward(x.dy)
              return {y = y:detach(), dq = x.q.grad, dk = x.k.grad, dv = x.v.grad}
            end
            local clean = run()
            local function same(found, name, first, count)
              support.close(found[name]:narrow(3, first, count), clean[name]:narrow(3, first, count))
            end
            local function broken(found, name, position)
              local values = support.flat(found[name][1][2][position])
              return values[3] ~= values[3] or math.abs(values[3]) == math.huge
            end
            local shift = keys - queries
            for _, value in ipairs {0 / 0, math.huge} do
              -- Query `at` is the first that sees key at + shift.
              local found = run("v", value, at + shift)
              same(found, "y", 1, at - 1)
              same(found, "dq", 1, at - 1)
              assert.is_true(broken(found, "y", at) and broken(found, "y", queries) and broken(found, "dq", at))
              found = run("dy", value, at)
              same(found, "dv", at + shift + 1, queries - at)
              same(found, "dk", at + shift + 1, queries - at)
              assert.is_true(broken(found, "dv", at + shift) and broken(found, "dv", 1) and broken(found, "dk", 1))
            end
            local found = run("k", 0 / 0, at + shift)
            same(found, "y", 1, at - 1)
            same(found, "dq", 1, at - 1)
            assert.is_true(broken(found, "y", at) and broken(found, "dq", queries))
            found = run("q", 0 / 0, at)
            same(found, "y", 1, at - 1)
            same(found, "y", at + 1, queries - at)
            same(found, "dv", at + shift + 1, queries - at)
            same(found, "dk", at + shift + 1, queries - at)
            assert.is_true(broken(found, "y", at) and broken(found, "dk", at + shift) and broken(found, "dv", 1))
          end
        end)
      end

      it(dtype .. " shows a NaN where it matters, and nowhere else", function()
        local q = fp8.randn(1, 1, 80, 32, {device = device, dtype = dtype})
        local v = fp8.randn(1, 1, 80, 32, {device = device, dtype = dtype})
        q:narrow(3, 70, 1):fill_(0 / 0)
        local y = fp8.attention(q, q, v, {causal = true}):to {device = "cpu", dtype = "f32"}:view(80, 32)
        local broken = y:ne(y):sum(2):totable()
        for i = 1, 80 do assert.equal(i < 70 and 0 or 32, broken[i]) end
      end)
    end
  end)
end)
