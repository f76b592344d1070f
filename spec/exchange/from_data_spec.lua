-- Tensors over memory of FFI code.
local ffi = require "ffi"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

describe("fp8.from_data", function()
  it("shares memory with arrays of every element type", function()
    for dtype, element in support.sorted_pairs {
      f32 = "float", f16 = "uint16_t", bf16 = "uint16_t", e4m3 = "uint8_t", e5m2 = "uint8_t", u8 = "uint8_t",
      i32 = "int32_t", i64 = "int64_t",
    } do
      local expected = fp8.tensor({{1, 2, 3}, {0, 4, 1}}, {dtype = dtype})
      local array = ffi.new(element .. "[6]")
      ffi.copy(array, expected:data(), ffi.sizeof(array))
      local x = fp8.from_data(array, {2, 3}, dtype)
      assert.equal(dtype, x.dtype)
      assert.equal("cpu", x.device)
      support.same_bytes(x, expected)
      x:fill_(0)
      for i = 0, 5 do assert.equal(0, tonumber(array[i])) end
      array[5] = expected:data()[4]
      assert.equal(4, x[2][3]:item())
      support.same_bytes(fp8.from_data(ffi.cast(element .. " *", array), {6}, dtype):view(2, 3), x)
    end
  end)

  it("takes bytes for any dtype, a part of the elements, and none", function()
    local bytes = ffi.new("uint8_t[16]")
    ffi.cast("float *", bytes)[1] = 2.5
    assert.same({0, 2.5}, fp8.from_data(bytes, {2}, "f32"):totable())
    assert.same({0, 2.5, 0, 0}, fp8.from_data(ffi.cast("void *", bytes), {4}, "f32"):totable())
    assert.equal(0, fp8.from_data(bytes, {}, "f32"):item())
    assert.same({0, 3}, fp8.from_data(bytes, {0, 3}, "i64").shape)
    assert.same({0}, fp8.from_data(ffi.cast("void *", nil), {0}, "i64").shape)
    local variable = ffi.new("int32_t[?]", 3, {1, 2, 3})
    assert.same({1, 2, 3}, fp8.from_data(variable, {3}, "i32"):totable())
    local matrix = ffi.new("float[2][2]", {{1, 2}, {3, 4}})
    assert.same({{1, 2}, {3, 4}}, fp8.from_data(matrix, {2, 2}, "f32"):totable())
    local struct = ffi.new "struct { int32_t count; float values[2]; }"
    struct.values[1] = 7
    assert.same({0, 7}, fp8.from_data(struct.values, {2}, "f32", struct):totable())
    fails("has 8 bytes", fp8.from_data, struct.values, {3}, "f32", struct)
  end)

  it("keeps the array and its owner as long as the tensor or a view of it", function()
    -- In functions of their own, so that nothing is left of a tensor where they have returned.
    local ok, output = support.run_lua [[
      local ffi, fp8 = require "ffi", require "fp8"
      local freed, kept, views = 0, setmetatable({}, {__mode = "v"}), {}
      local function make()
        local owner = ffi.gc(ffi.new("float[2]", 3, 4), function() freed = freed + 1 end)
        local array = ffi.new("float[2]", 1, 2)
        kept.array = array
        views.owned = fp8.from_data(ffi.cast("float *", owner), {2}, "f32", owner):narrow(1, 1, 1)
        views.array = fp8.from_data(array, {2}, "f32")[2]
      end
      local function tell(what)
        for _ = 1, 3 do collectgarbage() end
        print(what, freed, kept.array ~= nil)
      end
      make()
      tell "views"
      print(views.owned:item(), views.array:item())
      views = {}
      tell "none"
    ]]
    assert.is_true(ok, output)
    assert.equal("views\t0\ttrue\n3\t2\nnone\t1\tfalse\n", output)
  end)

  it("is part of computations and gradients, and no layer keeps codes of it", function()
    local array = ffi.new("float[4]", 1, 0, 0, 1)
    local layer = fp8.LinearMixed(2, 2, {bias = false})
    layer.weight = fp8.from_data(array, {2, 2}, "f32"):requires_grad_()
    local x = fp8.ones(1, 2)
    local y = layer(x)
    y:sum():backward()
    assert.same({{1, 1}}, y:totable())
    assert.same({{1, 1}, {1, 1}}, layer.weight.grad:totable())
    array[0] = 0
    assert.same({{0, 1}}, layer(x):totable())
  end)

  it("counts no memory as its own, and gives none back", function()
    local before = support.in_use "cpu"
    local array = ffi.new "float[1024]"
    do
      local x = fp8.from_data(array, {1024}, "f32")
      assert.equal(before, fp8.memory("cpu").in_use)
      assert.equal(0, x:sum():item())
    end
    assert.equal(before, support.in_use "cpu")
    fp8.scope(function() fp8.from_data(array, {1024}, "f32"):fill_(3) end)
    assert.equal(3, array[1023])
  end)

  it("refuses what is no such memory", function()
    local array = ffi.new "float[4]"
    fails("from_data: cdata of an array or a pointer expected, got table", fp8.from_data, {1}, {1}, "f32")
    fails("from_data: cdata of an array or a pointer expected, got nil", fp8.from_data)
    fails("an array or a pointer expected, got int64_t", fp8.from_data, 1LL, {1}, "i64")
    fails("an array or a pointer expected, got struct", fp8.from_data, ffi.new "struct { int x; }", {1}, "i32")
    fails("const float *", fp8.from_data, ffi.cast("const float *", array), {4}, "f32")
    fails("float [4] does not hold elements of i32", fp8.from_data, array, {4}, "i32")
    fails("does not hold", fp8.from_data, ffi.cast("float **", nil), {4}, "f32")
    fails("from_data: shape must be a table of sizes, got number", fp8.from_data, array, 4, "f32")
    fails("from_data: dtype expected, got nil", fp8.from_data, array, {4})
    fails("got float32, which is called f32 here", fp8.from_data, array, {4}, "float32")
    fails("float [4] has 16 bytes, a tensor of shape (5) and dtype f32 needs 20", fp8.from_data, array, {5}, "f32")
    fails("is negative", fp8.from_data, array, {-1}, "f32")
    fails("argument 2", fp8.from_data, array, {1.5}, "f32")
    fails("argument 2", fp8.from_data, array, {"x"}, "f32")
    fails("bytes", fp8.from_data, array, {2 ^ 40, 2 ^ 40}, "f32")
    fails("at most 8", fp8.from_data, array, {1, 1, 1, 1, 1, 1, 1, 1, 1}, "f32")
    fails("the address is NULL", fp8.from_data, ffi.cast("float *", nil), {1}, "f32")
    fails("no multiple of the 4 bytes", fp8.from_data, ffi.cast("char *", array) + 1, {1}, "f32")
    fails("overflow", fp8.from_data, ffi.cast("float *", array), {2 ^ 40, 2 ^ 40}, "f32")
  end)
end)
