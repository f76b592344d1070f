-- Embedding, and its gradient. (nn/pytorch_spec compares with PyTorch.)
local core = require "fp8.core"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}

  describe("Embedding", function()
    it("gives rows for integers of any shape and dtype", function()
      local weight = fp8.randn(7, 5, on)
      local rows = weight:totable()
      for _, dtype in ipairs {"i64", "i32", "u8"} do
        local at = {device = device, dtype = dtype}
        local y = fp8.embedding(weight, fp8.tensor({{6, 0}, {3, 3}}, at))
        assert.same({{rows[7], rows[1]}, {rows[4], rows[4]}}, y:totable())
        assert.same(rows[3], fp8.embedding(weight, fp8.tensor(2, at)):totable())
        assert.same({0, 3, 5}, fp8.embedding(weight, fp8.zeros(0, 3, at)).shape)
      end
      local turned = fp8.embedding(weight:t(), fp8.tensor({{1, 2}, {4, 0}}, {device = device, dtype = "i64"}):t())
      assert.same({{weight:t():contiguous()[2]:totable(), weight:t():contiguous()[5]:totable()},
        {weight:t():contiguous()[3]:totable(), weight:t():contiguous()[1]:totable()}}, turned:totable())
    end)

    it("quantizes the rows that are looked up as one matrix, and gradients pass straight through", function()
      for _, operand in ipairs {
        {format = "e4m3", scale = "row"}, {format = "e2m1", scale = {2, 3}, scale_rounding = "mx"},
        {format = "int8", scale = "tensor"},
      } do
        local weight, index = fp8.randn(9, 5, on):requires_grad_(), fp8.tensor({{8, 0, 3}, {3, 3, 1}}, {dtype = "i64"})
        local y = fp8.embedding(weight, index:to(device), {recipe = {rows = operand}})
        local rows = support.flat(fp8.embedding(weight:detach(), index:to(device)))
        local expected = reference.fake_quantize(rows, operand.format, operand.scale, {6, 5}, "f32",
          operand.scale_rounding)
        assert.same(expected, support.flat(y:detach()))
        local dy, plain = fp8.randn(2, 3, 5, on), weight:detach():clone():requires_grad_()
        y:backward(dy)
        fp8.embedding(plain, index:to(device)):backward(dy)
        support.same_bytes(weight.grad, plain.grad)
        local layer = fp8.nn.Embedding(9, 5, {device = device, recipe = {rows = operand}})
        layer:load_state_dict {weight = weight:detach()}
        support.same_bytes(layer(index:to(device)):detach(), y:detach())
      end
      assert.same({0, 5}, fp8.embedding(fp8.zeros(2, 5, on), fp8.zeros(0, {device = device, dtype = "i64"}),
        {recipe = {rows = {format = "e4m3", scale = "tensor"}}}).shape)
      local name
      fp8.embedding(fp8.zeros(2, 5, on), fp8.zeros(3, {device = device, dtype = "i64"}), {recipe = {rows = {
        quantize = function(x, called) name = called return x end,
      }}})
      assert.equal("rows", name)
    end)

    it("refuses what is no recipe", function()
      local weight, index = fp8.zeros(2, 5, on), fp8.zeros(3, {device = device, dtype = "i64"})
      local function refuses(text, recipe)
        fails("embedding: recipe" .. text, fp8.embedding, weight, index, {recipe = recipe})
        fails("Embedding: recipe" .. text, fp8.nn.Embedding, 2, 5, {recipe = recipe})
      end
      refuses(" must be a table {rows = operand}, got string", "mx")
      refuses(": unknown field row; there is rows alone", {row = {}})
      refuses(".rows.format must be a map", {rows = {scale = "row"}})
      refuses(".rows must be a table {format =, scale =}", {})
      refuses(".rows.history has no meaning in an embedding",
        {rows = {format = "e4m3", scale = "tensor", history = 2}})
      refuses(".rows.hadamard has no meaning in an embedding", {rows = {format = "e4m3", scale = "row", hadamard = 16}})
      fails("embedding: unknown option recipes", fp8.embedding, weight, index, {recipes = {}})
    end)

    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("sums gradients in the order of the indices, " .. dtype, function()
        fp8.manual_seed(12)
        local cases = {{1, 1, 3}, {9, 5, 40}, {300, 7, 10}, {3, 33, 5000}, {1000, 130, 300}, {5, 1100, 60}, {40, 64, 0}}
        for _, case in ipairs(cases) do
          local count, features, tokens = unpack(case)
          local weight = fp8.randn(count, features):to{device = device, dtype = dtype}:clone():requires_grad_()
          local index = fp8.randint(0, count, {tokens})
          local dy = fp8.randn(tokens, features):to(dtype)
          fp8.embedding(weight, index:to(device)):backward(dy:to(device))
          assert.equal(dtype, weight.grad.dtype)
          local sums = reference.index_add(count, features, index:totable(), support.flat(dy))
          support.close(weight.grad, fp8.tensor(sums):view(count, features))
          -- The order is that of the CPU: not one bit differs.
          support.equal(weight.grad, core.index_add({count, features}, 1, index, dy, dtype))
        end
      end)
    end

    it("reports an index out of range", function()
      local weight = fp8.randn(4, 3, on)
      local function look_up(...)
        local y = fp8.embedding(weight, fp8.tensor({...}, {device = device, dtype = "i64"}))
        return y:totable()
      end
      fails("index 4 is out of range", look_up, 0, 4)
      fails("index -1 is out of range", look_up, -1)
      assert.equal(1, #look_up(3))
      local function add(...)
        local index = fp8.tensor({...}, {device = device, dtype = "i64"})
        return core.index_add({4, 3}, 1, index, fp8.ones(#{...}, 3, on)):totable()
      end
      fails("index 4 is out of range", add, 0, 4)
      fails("index -7 is out of range", add, -7)
      assert.same({1, 1, 1}, add(2)[3])
    end)

    it("refuses what does not fit, by name", function()
      local weight, index = fp8.randn(4, 3, on), fp8.zeros(2, {device = device, dtype = "i64"})
      fails("embedding: a weight of shape (count, features) is needed, got (3)", fp8.embedding, weight[1], index)
      fails("embedding: the index must have an integer dtype, got f32", fp8.embedding, weight, weight)
      fails("embedding: the weight must be f32, f16 or bf16, got i64", fp8.embedding, index, index)
      fails("embedding: argument 2: tensor expected", fp8.embedding, weight)
      fails("embedding: an index of 8 dimensions has too many", fp8.embedding, weight,
        index:view(1, 1, 1, 1, 1, 1, 1, 2))
      fails("index_add: the result's dtype must be f32, f16 or bf16, got u8", core.index_add, {4, 3}, 1, index,
        fp8.ones(2, 3, on), "u8")
    end)
  end)
end)
