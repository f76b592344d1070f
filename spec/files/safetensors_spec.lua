-- Safetensors files: every dtype read, and written back. safetensors_hostile_spec.lua has the files that are refused.
local ffi = require "ffi"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

describe("fp8.load", function()
  local path = support.fixture "dtypes.safetensors"
  local tensors, metadata = fp8.load(path, {f64 = "f32"})

  local function holds(name, dtype, shape, values)
    it("reads " .. name, function()
      local tensor = tensors[name]
      assert.equal(dtype, tensor.dtype)
      assert.same(shape, tensor.shape)
      assert.equal("cpu", tensor.device)
      assert.is_false(tensor.requires_grad)
      assert.same(values, support.flat(tensor))
    end)
  end

  holds("i64", "i64", {2}, {2 ^ 40, -5})
  holds("f64", "f32", {2}, {1.7017258405685425, 0.10667306184768677})
  holds("empty", "f32", {0, 4}, {})
  holds("f32", "f32", {2, 3}, {
    1.0025161504745483, 1.186842679977417, -0.5066834688186646, 0.9578543305397034, 0.962215006351471,
    -0.7141110301017761,
  })
  holds("scalar", "f32", {}, {3.5})
  holds("i32", "i32", {2, 3}, {0, 1, 2, 3, 4, 5})
  holds("bf16", "bf16", {3, 1}, {0.28125, 1.5546875, 0.6875})
  holds("f16", "f16", {4}, {-0.81103515625, 0.79638671875, -0.97314453125, -1.4482421875})
  holds("e4m3", "e4m3", {7}, {0.34375, 0.09375, -1.125, 1.625, -0.5, 2, 0.0234375})
  holds("e5m2", "e5m2", {2, 2}, {-1, 0.5, 0.625, 0.375})
  holds("u8", "u8", {5}, {0, 1, 2, 3, 4})
  holds("bool", "u8", {2}, {1, 0})

  it("gives the metadata, non-ASCII text included", function()
    assert.same({note = "naïve ünïcode", format = "pt"}, metadata)
  end)

  it("tells fp8.save which tensors were BOOL", function()
    local file = os.tmpname()
    finally(function() os.remove(file) end)
    local function dtypes_of(all)
      fp8.save(file, all)
      local header, dtypes = support.read_file(file), {}
      for name, dtype in header:gmatch '"(%w+)":{"dtype":"(%w+)"' do dtypes[name] = dtype end
      return dtypes
    end
    local copy = tensors.bool:clone()
    assert.same({b = "BOOL", u = "U8", c = "U8"}, dtypes_of {b = tensors.bool, u = tensors.u8, c = copy})
    local again = fp8.load(file)
    assert.same({b = "BOOL", u = "U8"}, dtypes_of {b = again.b, u = again.u})
    assert.same({1, 0}, fp8.load(file).b:totable())
    again.b[2] = 2
    assert.same({b = "U8"}, dtypes_of {b = again.b})
    local empty = support.safetensors '{"e":{"dtype":"BOOL","shape":[2,0],"data_offsets":[0,0]}}'
    support.with_file(empty, function(path_of_empty)
      assert.same({e = "BOOL"}, dtypes_of {e = fp8.load(path_of_empty).e})
    end)
  end)

  it("refuses f64 unless asked to round it", function()
    fails("load: ", fp8.load, path)
    fails("f64", fp8.load, path)
    fails("F64", fp8.load, path)
    fails("load: ", fp8.load, path, {f64 = "i32"})
  end)

  it("rounds f64 to f32, whatever bits a NaN has", function()
    -- As two 32-bit words, the low one first. LuaJIT would take the first five for nil, true, a string …
    local nans = {
      {0xFFFFFFFF, 0xFFFFFFFF}, {0, 0xFFFF0000}, {0x1234, 0xFFFD8000}, {0xDEADBEEF, 0xFFF97FFF}, {1, 0xFFFE7FFF},
      {1, 0xFFF00000}, {1, 0x7FF00000}, {0, 0xFFF80000}, {0, 0x7FF80000},
    }
    local words = ffi.new("uint32_t[?]", 2 * #nans)
    for i, nan in ipairs(nans) do words[2 * i - 2], words[2 * i - 1] = nan[1], nan[2] end
    local plain = {1 / 0, -1 / 0, 1e300, -1e-300, 16777217, 0.1}
    local bytes = 8 * (#nans + #plain)
    local data = ffi.string(words, 8 * #nans) .. ffi.string(ffi.new("double[?]", #plain, plain), 8 * #plain)
    local header = '{"x":{"dtype":"F64","shape":[%d],"data_offsets":[0,%d]}}'
    support.with_file(support.safetensors(header:format(bytes / 8, bytes), data), function(file)
      local found = fp8.load(file, {f64 = "f32"}).x:totable()
      for i = 1, #nans do assert.is_true(found[i] ~= found[i]) end
      assert.same({1 / 0, -1 / 0, 1 / 0, 0, 16777216, 0.10000000149011612}, {unpack(found, #nans + 1)})
    end)
  end)

  it("gives no metadata where there is none", function()
    support.with_file(support.safetensors("{}"), function(file)
      local none, nothing = fp8.load(file)
      assert.same({}, none)
      assert.same({}, nothing or {})
    end)
  end)

  it("takes a header padded with spaces, tensors in any order, and escapes", function()
    local header = [[{"b\u00e9\n":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},
      "a":{"shape":[1],"data_offsets":[0,4],"dtype":"I32"}}   ]]
    support.with_file(support.safetensors(header, "\1\0\0\0\7"), function(file)
      local found = fp8.load(file)
      assert.same({1}, found.a:totable())
      assert.same({7}, found["bé\n"]:totable())
    end)
  end)

  it("takes what the reference implementation takes beyond that", function()
    local entry = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]%s}'
    for _, header in ipairs {
      '{"__metadata__":null,"x":%s}', '{"x":%s,"__metadata__" :\tnull}', " \r\n\t{\"x\":%s}", "\n{\n\"x\"\n:%s}\n",
      '{"__metadata__":{},"x":%s}',
    } do
      support.with_file(support.safetensors(header:format(entry:format ""), "\9"), function(file)
        local found, no_metadata = fp8.load(file)
        assert.same({9}, found.x:totable())
        assert.same({}, no_metadata)
      end)
    end
    -- In fields that it does not read: numbers of any form, more nesting, and fields that come twice.
    for _, field in ipairs {
      ',"a":-0.0', ',"a":[1e-99999,0e99999,-0.0E+123456789]', ',"a":0.' .. ("1"):rep(2 ^ 22),
      ',"shapes":[1.5,-0,1E2,2e+0]', ',"a":{"shape":[1.0],"data_offsets":null}', ',"a":1,"a":2',
      ',"a":' .. ("["):rep(100) .. ("]"):rep(100), ',"\127":"\127"', ',"a":{"b":"","b":""}',
    } do
      support.with_file(support.safetensors(('{"x":%s}'):format(entry:format(field)), "\9"), function(file)
        assert.same({9}, fp8.load(file).x:totable())
      end)
    end
    support.with_file(support.safetensors '{"__metadata__":{"a":"1","b":"2","a":"3"}}', function(file)
      assert.same({a = "3", b = "2"}, select(2, fp8.load(file)))
    end)
  end)

  it("says which file it can't open", function()
    fails("/nowhere/at all", fp8.load, "/nowhere/at all")
    fails("load: ", fp8.load, "/")
    fails("load: ", fp8.load)
    fails("load: ", fp8.load, 12)
    fails("load: ", fp8.load, {})
  end)
end)

support.each_device(function(device)
  describe("fp8.save", function()
    local path

    before_each(function() path = os.tmpname() end)
    after_each(function() os.remove(path) end)

    it("writes what load reads, for every dtype and shape", function()
      fp8.manual_seed(3)
      local kept = {}
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        for name, shape in support.sorted_pairs {
          scalar = {}, one = {1}, empty = {0, 3}, matrix = {3, 5}, deep = {1, 2, 1, 2, 1, 2, 1, 2},
        } do
          kept[dtype .. "." .. name] = (fp8.randn(shape, {device = device}) * 100):to(dtype)
        end
      end
      fp8.save(path, kept)
      local read = fp8.load(path)
      for name, tensor in support.sorted_pairs(kept) do
        assert.equal(tensor.dtype, read[name].dtype)
        support.equal(read[name], tensor)
        read[name] = nil
      end
      assert.is_nil(next(read))
    end)

    it("writes special values bit for bit", function()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e5m2"} do
        local x = fp8.tensor {0 / 0, math.huge, -math.huge, -0.0, 0}
        fp8.save(path, {x = x:to {dtype = dtype, saturate = false, device = device}})
        local read = support.flat(fp8.load(path).x)
        assert.is_true(read[1] ~= read[1])
        assert.same({math.huge, -math.huge}, {read[2], read[3]})
        assert.equal(-math.huge, 1 / read[4])
        assert.equal(math.huge, 1 / read[5])
      end
    end)

    it("writes views as what they show", function()
      local x = fp8.arange(12, {device = device}):view(3, 4)
      fp8.save(path, {
        t = x:t(), column = x:select(2, 2), corner = x:narrow(1, 2, 2):narrow(2, 3, 2),
        row = x:narrow(1, 1, 1):expand(2, 4),
      })
      local read = fp8.load(path)
      assert.same({{0, 4, 8}, {1, 5, 9}, {2, 6, 10}, {3, 7, 11}}, read.t:totable())
      assert.same({1, 5, 9}, read.column:totable())
      assert.same({{6, 7}, {10, 11}}, read.corner:totable())
      assert.same({{0, 1, 2, 3}, {0, 1, 2, 3}}, read.row:totable())
    end)

    it("says how numbers become metadata", function()
      support.with_file("", function(file)
        support.fails("metadata 'epoch' must be a string, got number: write tostring(value)", fp8.save, file, {},
          {epoch = 3})
        support.fails("metadata 'done' must be a string, got boolean: write tostring(value)", fp8.save, file, {},
          {done = true})
        support.fails("metadata 'list' must be a string, got table", fp8.save, file, {}, {list = {}})
      end)
    end)

    it("writes metadata and any name", function()
      local x = fp8.tensor({5}, {device = device})
      local names = {[""] = x, ["ünïcode \"quoted\" \\ \n \1"] = x, ["a.b/c"] = x}
      local metadata = {note = "naïve", ["k\"ey"] = "line\nline"}
      fp8.save(path, names, metadata)
      local read, read_metadata = fp8.load(path)
      for name in pairs(names) do assert.same({5}, read[name]:totable()) end
      assert.same(metadata, read_metadata)
    end)

    it("writes nothing where there is nothing", function()
      fp8.save(path, {})
      assert.same({}, (fp8.load(path)))
    end)

    it("writes the same bytes every time", function()
      local tensors = {}
      for i = 1, 20 do tensors["tensor " .. i] = fp8.full({i}, i, {device = device}) end
      fp8.save(path, tensors, {a = "1", b = "2", c = "3"})
      local first = support.read_file(path)
      fp8.save(path, tensors, {c = "3", b = "2", a = "1"})
      assert.equal(first, support.read_file(path))
    end)

    it("aligns the header to 8 bytes and leaves no hole", function()
      fp8.save(path, {a = fp8.zeros(3, {dtype = "u8", device = device}), b = fp8.zeros(2, {device = device})})
      local text = support.read_file(path)
      local length = text:byte(1) + 256 * text:byte(2)
      assert.equal(0, length % 8)
      assert.equal(8 + length + 3 + 8, #text)
    end)

    it("leaves the old file where it fails, and no other one beside it", function()
      fp8.save(path, {x = fp8.tensor({1, 2}, {device = device})})
      local before = support.read_file(path)
      fails("save: ", fp8.save, path, {x = fp8.zeros(1000, {device = device}), y = "no tensor"})
      fails("save: ", fp8.save, path, {[3] = fp8.zeros(2, {device = device})})
      fails("save: ", fp8.save, path, {x = fp8.zeros(2, {device = device})}, {note = {}})
      fails("save: ", fp8.save, path, 3)
      fails("save: ", fp8.save, path, {__metadata__ = fp8.zeros(2, {device = device})})
      assert.equal(before, support.read_file(path))
      local found = io.popen(("ls -d '%s'*"):format(path)):read "*a"
      assert.equal(path .. "\n", found)
    end)

    it("names a path that can't be written", function()
      fails("/nowhere/at/all", fp8.save, "/nowhere/at/all", {x = fp8.zeros(2)})
      fails("save: ", fp8.save, "/nowhere/at/all", {x = fp8.zeros(2)})
      fails("save: ", fp8.save, nil, {x = fp8.zeros(2)})
    end)

    it("does not put a file in the place of a device or a directory", function()
      fails("save: /dev/null", fp8.save, "/dev/null", {x = fp8.zeros(2, {device = device})})
      fails("save: /tmp", fp8.save, "/tmp", {x = fp8.zeros(2, {device = device})})
    end)

    it("writes the file that a symbolic link leads to", function()
      local link = path .. ".link"
      os.execute(("ln -s '%s' '%s'"):format(path:match "[^/]*$", link))
      fp8.save(link, {x = fp8.zeros(2, {device = device})})
      os.remove(link)
      assert.is_truthy(fp8.load(path).x)
    end)
  end)
end)
