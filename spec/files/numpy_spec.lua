-- NumPy's files: what NumPy has written is read, and written again. numpy_hostile_spec.lua has what is refused.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails
local nan, inf = 0 / 0, 1 / 0

local function numbers_of(dtype, shape, values) return {dtype = dtype, shape = shape, values = values} end

local counted = {}
for i = 1, 24 do counted[i] = i - 1 end

local expected = {
  f32 = numbers_of("f32", {2, 3}, {1.5, -2, nan, inf, 9.99994610111476e-41, 3}),
  f16 = numbers_of("f16", {3}, {0.5, 65504, -1.1920928955078125e-07}),
  u8 = numbers_of("u8", {1, 2}, {0, 255}),
  i32 = numbers_of("i32", {2}, {-2 ^ 31, 2 ^ 31 - 1}),
  i64 = numbers_of("i64", {2}, {-0x8000000000000000LL, 9007199254740993LL}),
  bool = numbers_of("u8", {3}, {1, 0, 1}),
  scalar = numbers_of("f32", {}, {3.5}),
  empty = numbers_of("f32", {0, 4}, {}),
  columns = numbers_of("i32", {2, 3, 4}, counted),
  big_endian = numbers_of("f32", {2, 3}, {0, 0.25, 0.5, 0.75, 1, 1.25}),
  big_endian_i64 = numbers_of("i64", {2}, {1, 2 ^ 40}),
}

local function check(tensor, wanted)
  assert.equal(wanted.dtype, tensor.dtype)
  assert.same(wanted.shape, tensor.shape)
  assert.is_true(tensor:is_contiguous())
  local values = support.flat(tensor)
  assert.equal(#wanted.values, #values)
  for i, value in ipairs(wanted.values) do
    assert.is_true(values[i] == value or value ~= value and values[i] ~= values[i], tostring(values[i]))
  end
end

--- The members of an archive as our own reader has them, for what other readers have to find.
local function dtypes_of(path)
  local found = {}
  for descr in support.read_file(path):gmatch "'descr': '(.-)'" do table.insert(found, descr) end
  return found
end

describe("A NumPy file", function()
  local directory = support.temporary_directory(setup, teardown)

  for _, file in ipairs {"numpy.npz", "numpy_compressed.npz"} do
    it(file .. " is read, every dtype of it", function()
      local tensors = fp8.load(support.fixture(file))
      for name, wanted in support.sorted_pairs(expected) do check(tensors[name], wanted) end
      if tensors.zeros then assert.equal(0, tensors.zeros:abs():max():item()) end
    end)
  end

  it("of one array is read, and written as NumPy does", function()
    local path = support.fixture "numpy.npy"
    local x = fp8.load(path)
    check(x, expected.f32)
    local copy = directory .. "/copy.NPY"
    fp8.save(copy, x)
    assert.equal(support.read_file(path), support.read_file(copy))
    local _, names = fp8.load(path)
    assert.is_nil(names)
  end)

  it("holds what was written", function()
    local tensors = fp8.load(support.fixture "numpy.npz")
    tensors.large = fp8.randn(300, 1000)
    tensors["a/b ü"] = fp8.arange(12):view(3, 4):t()
    for _, options in ipairs {false, {}, {compress = false}, {compress = true}} do
      local path = directory .. "/all.npz"
      fp8.save(path, tensors, options or nil)
      local again, count = fp8.load(path), 0
      for name, tensor in support.sorted_pairs(tensors) do
        support.same_bytes(again[name], tensor:contiguous())
        count = count + 1
      end
      for _ in pairs(again) do count = count - 1 end
      assert.equal(0, count)
    end
    assert.is_true(#support.read_file(directory .. "/all.npz") < 1.2e6)
    for name, tensor in support.sorted_pairs(tensors) do
      local path = directory .. "/one.npy"
      fp8.save(path, tensor)
      support.same_bytes(fp8.load(path), tensor:contiguous())
      assert.equal(name == "bool" and "|b1" or nil, dtypes_of(path)[1]:match "|b1")
    end
    fp8.save(directory .. "/none.npz", {})
    assert.same({}, fp8.load(directory .. "/none.npz"))
  end)

  it("is read by NumPy, every dtype that it knows", function()
    local status = os.execute "python3 -c 'import numpy' >/dev/null 2>&1"
    if status ~= 0 and status ~= true then return pending "python3 has no numpy" end
    local tensors, lines = {scalar = fp8.tensor(-2.5), empty = fp8.zeros(0, 4)}, {}
    local numpy = {f32 = "float32", f16 = "float16", u8 = "uint8", i32 = "int32", i64 = "int64"}
    for dtype in support.sorted_pairs(numpy) do tensors[dtype] = fp8.tensor({{1, 2}, {4, 6}}):to(dtype):t() end
    for name in support.sorted_pairs(tensors) do
      local list = name:find "^f" and "[1.0, 4.0, 2.0, 6.0]" or "[1, 4, 2, 6]"
      local numbers = ("%s [2, 2] %s"):format(numpy[name] or "", list)
      lines[#lines + 1] = name .. " " .. (name == "scalar" and "float32 [] [-2.5]" or
        name == "empty" and "float32 [0, 4] []" or numbers) .. "\n"
    end
    fp8.save(directory .. "/plain.npz", tensors)
    fp8.save(directory .. "/packed.npz", tensors, {compress = true})
    fp8.save(directory .. "/one.npy", tensors.i32)
    local output = directory .. "/output"
    local command = "env -u LD_PRELOAD python3 '%s' '%s/plain.npz' '%s/packed.npz' '%s/one.npy' >'%s' 2>&1"
    os.execute(command:format(support.fixture "read_numpy.py", directory, directory, directory, output))
    local whole = table.concat(lines)
    assert.equal(whole .. whole .. " int32 [2, 2] [1, 4, 2, 6]\n", support.read_file(output))
  end)

  it("of double precision is rounded on request", function()
    local path = support.fixture "numpy_f64.npz"
    fails("member 'x.npy': the dtype is float64, which is not supported; the option f64", fp8.load, path)
    local tensors = fp8.load(path, {f64 = "f32"})
    check(tensors.x, numbers_of("f32", {4}, {0.10000000149011612, nan, inf, -inf}))
    check(tensors.big_endian, numbers_of("f32", {3}, {0.25, nan, 7}))
  end)

  support.each_device(function(device)
    it("goes to a device", function()
      local x = fp8.load(support.fixture "numpy.npy", {device = device})
      assert.equal(fp8.zeros(1, {device = device}).device, x.device)
      local path = directory .. "/device.npz"
      fp8.save(path, {x = fp8.ones(2, {device = device})})
      assert.same({1, 1}, fp8.load(path, {device = device}).x:totable())
    end)
  end)

  it("can't have every dtype, nor options of other files", function()
    local path = directory .. "/refused"
    for _, dtype in ipairs {"bf16", "e4m3", "e5m2"} do
      fails("NumPy has no " .. dtype, fp8.save, path .. ".npy", fp8.zeros(1):to(dtype))
      fails("'x': NumPy has no " .. dtype, fp8.save, path .. ".npz", {x = fp8.zeros(1):to(dtype)})
    end
    fails("a tensor expected, got table", fp8.save, path .. ".npy", {x = fp8.zeros(1)})
    fails("tensors must be a table, got userdata", fp8.save, path .. ".npz", fp8.zeros(1))
    fails("'x' must be a tensor, got number", fp8.save, path .. ".npz", {x = 1})
    fails("UTF-8", fp8.save, path .. ".npz", {["\255"] = fp8.zeros(1)})
    fails("UTF-8", fp8.save, path .. ".npz", {fp8.zeros(1)})
    fails("UTF-8", fp8.save, path .. ".npz", {[("x"):rep(65532)] = fp8.zeros(1)})
    fails("unknown option compress", fp8.save, path .. ".npy", fp8.zeros(1), {compress = true})
    fails("option compress must be a boolean", fp8.save, path .. ".npz", {}, {compress = 1})
    fails("unknown option note", fp8.save, path .. ".npz", {}, {note = "metadata"})
    fails("unknown option dtype", fp8.load, support.fixture "numpy.npy", {dtype = "f32"})
    for _, ending in ipairs {".npy", ".npz"} do assert.is_nil(io.open(path .. ending)) end
  end)
end)
