-- einsum against PyTorch (spec/fixtures/einsum.py), and what it refuses.
local fp8 = require "fp8"
local pytorch = require "spec.support.pytorch"
local support = require "spec.support"

local tensors = fp8.load(support.fixture "einsum.safetensors")

local calls = {}
for name in pairs(tensors) do
  local equation = name:match "^einsum (.*)%.y%.1$"
  if equation then calls["einsum " .. equation] = function(...) return fp8.einsum(equation, ...) end end
end

support.each_device(function(device)
  local function on(values, dtype) return fp8.tensor(values, {dtype = dtype or "f32", device = device}) end

  describe("einsum", function()
    for case in support.sorted_pairs(calls) do
      it("gives what PyTorch gives: " .. case, function() pytorch.compare(tensors, case, calls[case], device) end)
    end

    it("has been compared in many equations", function()
      local count = 0
      for _ in pairs(calls) do count = count + 1 end
      assert.is_true(count >= 50)
    end)

    it("takes a list, and keeps the dtype of floats", function()
      for _, dtype in ipairs {"f16", "bf16"} do
        local y = fp8.einsum("ij,j->i", {on({{1, 2}, {3, 4}}, dtype), on({1, 10}, dtype)})
        assert.equal(dtype, y.dtype)
        assert.same({21, 43}, y:totable())
      end
    end)

    it("computes integers as i64, exactly and wrapping", function()
      local large = 2 ^ 31 - 1
      local y = fp8.einsum("i,i->", on({large, 2}, "i32"), on({large, 3}, "i32"))
      assert.equal("i64", y.dtype)
      assert.is_true(y:item() == 4611686014132420609LL + 6)
      assert.same({{2, 4}, {3, 6}}, fp8.einsum("i,j->ji", on({1, 2}, "u8"), on({2, 3}, "u8")):totable())
      assert.same({9}, {fp8.einsum("ii", on({{4, 1}, {1, 5}}, "i32")):item()})
    end)

    it("gives a tensor of its own where nothing is to be done", function()
      local x = on {1, 2}
      local y = fp8.einsum("i->i", x)
      y:fill_(0)
      assert.same({1, 2}, x:totable())
    end)

    it("multiplies the cheapest pair first", function()
      -- From the left, the product of the first two would have 2^36 elements.
      local a, b, c = fp8.ones(2 ^ 18, 1, {device = device}), fp8.ones(1, 2 ^ 18, {device = device}),
        fp8.ones(2 ^ 18, 1, {device = device})
      assert.equal(2 ^ 18, fp8.einsum("ij,jk,kl->il", a, b, c)[1]:item())
    end)

    it("refuses what has no meaning", function()
      local x, y = on {{1, 2, 3}, {4, 5, 6}}, on {{1, 2}, {3, 4}}
      local function refused(message, ...) support.fails(message, fp8.einsum, ...) end
      refused("einsum: argument 1: string expected, got userdata", x, x)
      refused("is of 2 operands, got 1", "ij,jk", x)
      refused("is of 1 operands, got 2", "ij", x, y)
      refused("does not fit a tensor of shape (2, 3)", "i->i", x)
      refused("does not fit a tensor of shape (2, 3)", "ijk...->i", x)
      refused("repeats a letter of sizes 2 and 3", "ii", x)
      refused("dimension j has sizes 3 and 2", "ij,jk->ik", x, y)
      refused("which no operand has", "ij->ik", x)
      refused("the result repeats i", "ij->ii", x)
      refused("neither a letter nor part of an ellipsis", "i.->i", x)
      refused("neither a letter nor part of an ellipsis", "ij>i", x)
      refused("neither a letter nor part of an ellipsis", "i1->i", x)
      refused("two ellipses", "...i...", x)
      refused("one dtype is needed, got f32 and f16", "ij,jk", x, y:half())
      refused("argument 3: tensor expected, got number", "ij,", x, 2)
      local cube = fp8.ones(1, 1, 1, {device = device})
      refused("9 dimensions on the way", "abc,def,ghi->adgbehcfi", cube, cube, cube)
    end)
  end)
end)
