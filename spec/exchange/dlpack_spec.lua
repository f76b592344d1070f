-- DLPack: of one's own, of a struct made by hand, and, where Python has it, of PyTorch.
local ffi = require "ffi"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails
local dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}

local _ = fp8.from_dlpack -- declares the struct

--- A DLManagedTensor of another library's: {m =, deleted =}. It has {{1, 3, 5}, {2, 4, 6}} in columns, after a gap.
local function foreign(changes)
  local data = ffi.new("float[8]", 0, 0, 1, 2, 3, 4, 5, 6)
  local shape, strides = ffi.new("int64_t[2]", 2, 3), ffi.new("int64_t[2]", 1, 2)
  local managed = ffi.new "DLManagedTensor"
  local library = {managed = managed, keep = {data, shape, strides}, data = data, deleted = 0}
  local tensor = managed.dl_tensor
  tensor.data, tensor.byte_offset, tensor.ndim, tensor.shape, tensor.strides = data, 8, 2, shape, strides
  tensor.device.device_type = 1
  tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = 2, 32, 1
  library.deleter = ffi.cast("void (*)(DLManagedTensor *)", function() library.deleted = library.deleted + 1 end)
  managed.deleter = library.deleter
  if changes then changes(tensor, managed) end
  library.m = ffi.cast("DLManagedTensor *", managed)
  return library
end

support.each_device(function(device)
  describe("DLPack", function()
    it("gives and takes every dtype without a copy", function()
      for _, dtype in ipairs(dtypes) do
        local x = fp8.tensor({{1, 2, 3}, {4, 0, 1}}, {device = device}):to(dtype)
        local y = fp8.from_dlpack(x:to_dlpack())
        assert.equal(x.device, y.device)
        support.same_bytes(y, x)
        y[1]:fill_(2)
        assert.same({{2, 2, 2}, {4, 0, 1}}, x:totable())
      end
    end)

    it("gives and takes views, scalars and tensors without elements", function()
      local x = fp8.arange(24, {device = device}):view(2, 3, 4)
      for _, view in ipairs {
        x:transpose(1, 3), x:narrow(2, 2, 2), x:select(3, 2), x[1][1][1], x:narrow(1, 1, 0),
        x[2]:unsqueeze(2):expand(3, 5, 4),
      } do
        local y = fp8.from_dlpack(fp8.to_dlpack(view))
        assert.same(view.shape, y.shape)
        support.same_bytes(y, view)
        if view:numel() > 0 then assert.same(view:stride(), y:stride()) end
      end
    end)

    it("keeps memory until the deleter, and no longer", function()
      local before = support.in_use(device)
      local m = fp8.full({1000}, 3, {device = device}):to_dlpack()
      assert.is_true(support.in_use(device) > before)
      local y = fp8.from_dlpack(m)
      assert.equal(3000, y:sum():item())
      y = nil -- luacheck: ignore
      assert.equal(before, support.in_use(device))
      m = fp8.ones(1000, {device = device}):to_dlpack()
      m.deleter(m)
      assert.equal(before, support.in_use(device))
    end)
  end)
end)

describe("fp8.to_dlpack", function()
  it("fills the struct in", function()
    local x = fp8.arange(6):view(2, 3):t()
    local m = x:to_dlpack()
    local tensor = m.dl_tensor
    assert.equal(2, tensor.ndim)
    assert.same({3, 2, 1, 3}, {
      tonumber(tensor.shape[0]), tonumber(tensor.shape[1]), tonumber(tensor.strides[0]), tonumber(tensor.strides[1]),
    })
    assert.same({1, 0, 2, 32, 1, 0}, {
      tensor.device.device_type, tensor.device.device_id, tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes,
      tonumber(tensor.byte_offset),
    })
    assert.equal(4, ffi.cast("float *", tensor.data)[4])
    m.deleter(m)
    local kinds = {
      bf16 = {4, 16}, f16 = {2, 16}, e4m3 = {10, 8}, e5m2 = {12, 8}, u8 = {1, 8}, i32 = {0, 32}, i64 = {0, 64},
    }
    for dtype, kind in support.sorted_pairs(kinds) do
      m = fp8.zeros(1, {dtype = dtype}):to_dlpack()
      assert.same(kind, {m.dl_tensor.dtype.code, m.dl_tensor.dtype.bits})
      m.deleter(m)
    end
  end)

  it("refuses tensors that require gradients, and what is no tensor", function()
    local parameter = fp8.ones(1, {requires_grad = true})
    fails("to_dlpack: the tensor requires a gradient; use x:detach()", fp8.to_dlpack, parameter)
    fails("tensor expected, got number", fp8.to_dlpack, 3)
  end)
end)

describe("fp8.from_dlpack", function()
  it("takes another library's struct over, and calls its deleter once", function()
    local library = foreign()
    local x = fp8.from_dlpack(library.m)
    assert.same({{1, 3, 5}, {2, 4, 6}}, x:totable())
    library.data[2] = 9
    assert.equal(9, x[1][1]:item())
    local row = x[1]
    x = nil -- luacheck: ignore
    collectgarbage()
    assert.equal(0, library.deleted)
    assert.same({9, 3, 5}, row:totable())
    row = nil -- luacheck: ignore
    for _ = 1, 3 do collectgarbage() end
    assert.equal(1, library.deleted)
    library.deleter:free()
  end)

  it("takes one without strides, without a deleter, and of booleans", function()
    local library = foreign(function(tensor, managed)
      tensor.strides = nil
      managed.deleter = nil
      tensor.dtype.code, tensor.dtype.bits, tensor.byte_offset = 6, 8, 8
    end)
    local x = fp8.from_dlpack(library.m)
    assert.equal("u8", x.dtype)
    assert.same({3, 1}, x:stride())
    x = nil -- luacheck: ignore
    for _ = 1, 3 do collectgarbage() end
    assert.equal(0, library.deleted)
    library.deleter:free()
  end)

  it("leaves what it refuses to the caller", function()
    for message, changes in support.sorted_pairs {
      ["elements of code 2, 64 bits and 1 lanes are not supported"] = function(tensor) tensor.dtype.bits = 64 end,
      ["elements of code 2, 32 bits and 4 lanes are not supported"] = function(tensor) tensor.dtype.lanes = 4 end,
      ["elements of code 5, 64 bits"] = function(tensor) tensor.dtype.code, tensor.dtype.bits = 5, 64 end,
      ["9 dimensions; at most 8 are supported"] = function(tensor) tensor.ndim = 9 end,
      ["-1 dimensions"] = function(tensor) tensor.ndim = -1 end,
      ["device type 4 of DLPack is not supported"] = function(tensor) tensor.device.device_type = 4 end,
      ["size -2 of dimension 1 is negative"] = function(tensor) tensor.shape[0] = -2 end,
      ["stride -1 of dimension 2 is negative"] = function(tensor) tensor.strides[1] = -1 end,
      ["beyond 2^53"] = function(tensor) tensor.strides[1] = 2LL ^ 61 end,
      ["strides are too large"] = function(tensor)
        tensor.shape[0], tensor.strides[0] = 2LL ^ 52, 2LL ^ 52
        tensor.shape[1] = 1
      end,
      ["the address is NULL"] = function(tensor) tensor.data = nil end,
      ["no multiple of the 4 bytes"] = function(tensor) tensor.byte_offset = 3 end,
      ["the tensor has no shape"] = function(tensor) tensor.shape = nil end,
    } do
      local library = foreign(changes)
      fails(message, fp8.from_dlpack, library.m)
      collectgarbage()
      assert.equal(0, library.deleted)
      library.deleter:free()
    end
    fails("from_dlpack: the pointer is NULL", fp8.from_dlpack, ffi.cast("DLManagedTensor *", nil))
    fails("cdata of DLManagedTensor * expected, got number", fp8.from_dlpack, 3)
    fails("got void *", fp8.from_dlpack, ffi.cast("void *", nil))
  end)

  it("works where a script has declared dlpack.h", function()
    local ok, output = support.run_lua [[
      local ffi = require "ffi"
      ffi.cdef [=[
      typedef struct DLManagedTensor DLManagedTensor;
      typedef struct {
        void *data;
        struct { int32_t device_type, device_id; } device;
        int32_t ndim;
        struct { uint8_t code, bits; uint16_t lanes; } dtype;
        int64_t *shape, *strides;
        uint64_t byte_offset;
      } DLTensor;
      struct DLManagedTensor { DLTensor dl_tensor; void *manager_ctx; void (*deleter)(DLManagedTensor *); };
      ]=]
      local fp8 = require "fp8"
      print(fp8.from_dlpack(fp8.ones(2):to_dlpack()):sum():item())
    ]]
    assert.is_true(ok, output)
    assert.equal("2\n", output)
  end)

  it("survives the end of the Lua state with tensors on both sides", function()
    local ok, output = support.run_lua [[
      local fp8 = require "fp8"
      local ffi = require "ffi"
      x = fp8.from_dlpack(fp8.ones(2):to_dlpack())
      y = fp8.from_data(ffi.new "float[4]", {4}, "f32")
      z = fp8.from_dlpack(y:to_dlpack())
      print "end"
    ]]
    assert.is_true(ok, output)
    assert.equal("end\n", output)
  end)

  it("goes to PyTorch and back, in one process", function()
    local status = os.execute "python3 -c 'import torch' >/dev/null 2>&1"
    if status ~= 0 and status ~= true then return pending "python3 has no torch" end
    local output = os.tmpname()
    finally(function() os.remove(output) end)
    local command = ("LUA_PATH='%s' LUA_CPATH='%s' python3 '%s' >'%s' 2>&1"):format(package.path, package.cpath,
      support.fixture "dlpack.py", output)
    status = os.execute(command)
    local text = support.read_file(output)
    assert.is_true(status == 0 or status == true, text)
    assert.equal("8 dtypes there and back on cpu\n" ..
      (fp8.cuda.is_available() and "8 dtypes there and back on cuda\n" or ""), text)
  end)
end)
