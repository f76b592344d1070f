-- The memory of a tensor, seen from LuaJIT.
local ffi = require "ffi"
local fp8 = require "fp8"
local support = require "spec.support"

describe("data()", function()
  it("gives a typed pointer into the tensor's memory", function()
    local x = fp8.zeros(3)
    x:data()[1] = 2.5
    assert.same({0, 2.5, 0}, x:totable())
    assert.is_true(ffi.istype("float *", x:data()))
    assert.is_true(ffi.istype("uint16_t *", fp8.zeros(1, {dtype = "bf16"}):data()))
    assert.is_true(ffi.istype("int64_t *", fp8.zeros(1, {dtype = "i64"}):data()))
    assert.equal(0x3C00, fp8.ones(1, {dtype = "f16"}):data()[0])
    assert.equal(0x38, fp8.ones(1, {dtype = "e4m3"}):data()[0])
    assert.equal(7, fp8.arange(10):narrow(1, 8, 2):data()[0])
  end)

  it("refuses tensors that are not contiguous", function()
    support.fails("contiguous", function() fp8.zeros(2, 3):t():data() end)
  end)
end)
