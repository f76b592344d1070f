-- What PyTorch 2 gives at the ends of what functions take, and of tensors without dimensions. Its numbers are literals.
local support = require "spec.support"
local fp8 = require "fp8"

support.each_device(function(device)
  local on = {device = device}
  local function tensor(values, dtype) return fp8.tensor(values, {device = device, dtype = dtype}) end

  local function near(expected, x)
    local actual = x:reshape(-1):totable()
    assert.equal(#expected, #actual)
    for i, value in ipairs(expected) do
      local equal = actual[i] == value or value ~= value and actual[i] ~= actual[i]
      assert.is_true(equal or math.abs(actual[i] - value) < 1e-5 * math.max(1, math.abs(value)),
        ("%g expected, got %g"):format(value, actual[i]))
    end
  end

  -- Values and derivatives of f at x.
  local function check(f, x, values, slopes)
    x = fp8.tensor(x, {device = device, requires_grad = true})
    local y = f(x)
    y:sum():backward()
    near(values, y)
    near(slopes, x.grad)
  end

  describe("Edges", function()
    local huge = math.huge

    it("of activation functions pass no gradient where these turn flat", function()
      check(fp8.hardtanh, {-1, -0.5, 1}, {-1, -0.5, 1}, {0, 1, 0})
      check(fp8.relu6, {0, 3, 6}, {0, 3, 6}, {0, 1, 0})
      check(fp8.hardsigmoid, {-3, 0, 3}, {0, 0.5, 1}, {0, 1 / 6, 0})
      check(fp8.hardswish, {-3, 0, 3}, {0, 0, 3}, {0, 0.5, 1})
      check(function(x) return x:celu(-1) end, {-1, 0, 2}, {-1.71828175, 0, 2}, {2.71828175, 1, 1})
      check(function(x) return x:clamp(0, 6) end, {0, 3, 6}, {0, 3, 6}, {1, 1, 1})
      near({1, 1}, tensor({0, 5}):clamp(3, 1))
    end)

    it("of inverse functions have an infinite derivative", function()
      check(fp8.asin, {-1, 0.5, 1}, {-1.57079637, 0.52359879, 1.57079637}, {huge, 1.15470052, huge})
      check(fp8.acos, {-1, 0.5, 1}, {3.14159274, 1.04719758, 0}, {-huge, -1.15470052, -huge})
      check(fp8.acosh, {1, 2}, {0, 1.31695795}, {huge, 0.57735026})
      check(function(x) return x:atan2(fp8.tensor({0, 1}, on)) end, {0, 1}, {0, 0.78539819}, {0, 0.5})
    end)

    it("of norms are those of negative p", function()
      check(function(x) return x:norm(-2) end, {1, 2}, {0.89442718}, {0.71554172, 0.08944271})
      check(function(x) return x:norm(-1) end, {0, 2}, {0}, {0, 0})
      near({0.5 ^ (1 / 3)}, tensor({1e-30, 1e-30}):norm(-3) * 1e30)
    end)

    it("of integers don't wrap around in functions that give f32", function()
      local x = tensor({0, 2, 255}, "u8")
      near({0, 0 / 0, 0 / 0}, x:asin())
      near({0 / 0, 1.31695795, 6.23440695}, x:acosh())
      near({0, 2 / 3, 255 / 256}, x:softsign())
      near({0.5, 5 / 6, 1}, x:hardsigmoid())
      near({math.log(2), 2 + math.log(2), 255 + math.log(2)}, x:logaddexp(x))
      assert.equal("f32", tensor({1}, "i32"):copysign(tensor({-2}, "i32")).dtype)
      near({0, -2, -255}, x:copysign(-1))
      near({0, 2 * math.log(3)}, tensor({0, 2}):xlogy(3))
    end)

    it("of vectors that broadcast along the dimension of their products", function()
      near({0.98994949, 0.70710677}, tensor({{3, 4}, {1, 0}}):cosine_similarity(tensor {{2}, {1}}, 2))
    end)

    it("of windows are outside where a last one begins inside", function()
      local row = fp8.arange(3, on):view(1, 1, 3)
      near({1, 2}, fp8.max_pool2d(row, {2, 2}, {stride = 2, ceil_mode = true}))
      near({3}, fp8.avg_pool1d(tensor {{2, 4}}, 3, {stride = 2, ceil_mode = true}))
      support.fails("avg_pool1d: a kernel that spans 3 positions does not fit a size of 2", fp8.avg_pool1d,
        tensor {{2, 4}}, 3, {stride = 1, ceil_mode = true})
    end)

    it("of one variable or of nothing have the shapes of PyTorch's", function()
      assert.same({}, tensor({{1, 3}}):cov().shape)
      assert.same({}, tensor({{1, 3}}):corrcoef().shape)
      near({0 / 0}, tensor(2):cov())
      near({0}, tensor(2):cov(0))
      local chunks = fp8.zeros({0, 2}, on):chunk(3)
      assert.same({3, {0, 2}}, {#chunks, chunks[3].shape})
      support.fails("chunk: the number of chunks can be up to 65536 of a dimension of 0, got 1e+15", fp8.chunk,
        fp8.zeros({0}, on), 1e15)
      support.fails("tensor_split: the number of parts can be up to 65536 of a dimension of 2", fp8.tensor_split,
        tensor {1, 2}, 1e15)
      assert.equal(1, select("#", tensor(2):logcumsumexp(1)))
    end)

    it("of a tensor without dimensions are dimensions 1 and -1", function()
      local x = tensor(3)
      for name, expected in support.sorted_pairs {
        sum = 3, mean = 3, prod = 3, max = 3, amin = 3, nansum = 3, nanmean = 3, norm = false, logsumexp = 3, any = 1,
        all = 1, argmax = 0, argmin = 0, count_nonzero = 1, softmax = 1, log_softmax = 0, softmin = 1, flip = 3,
        squeeze = 3,
      } do
        if expected then
          for _, dimension in ipairs {1, -1} do
            local y = x[name](x, dimension)
            assert.same({}, y.shape, name)
            assert.equal(expected, tonumber(y:item()), name)
          end
          support.fails(name .. ": ", x[name], x, 2)
        end
      end
      check(function(value) return value:sum(1) + value:softmax(-1) end, 3, {4}, {1})
      local zero = tensor(0, "i64")
      assert.equal(3, x:gather(1, zero):item())
      assert.equal(5, x:scatter(-1, zero, tensor(5)):item())
      assert.equal(8, x:scatter_add(1, zero, tensor(5)):item())
      assert.equal(15, x:scatter_reduce(1, zero, tensor(5), "prod"):item())
      local first = tensor({0}, "i64")
      assert.equal(3, x:index_select(1, first):item())
      assert.equal(7, x:index_fill(-1, first, 7):item())
      assert.equal(8, x:index_add(1, first, tensor(5)):item())
      local y = x:clone()
      assert.is_true(rawequal(y, y:index_copy_(1, first, tensor(5))))
      assert.equal(5, y:item())
    end)
  end)
end)
