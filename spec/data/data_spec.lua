-- Batches and the idx reader.
local zlib = require "zlib"
local fp8 = require "fp8"
local support = require "spec.support"

local batches, read_idx, fails = fp8.data.batches, fp8.data.read_idx, support.fails

local function u32(value)
  return string.char(math.floor(value / 2 ^ 24) % 256, math.floor(value / 2 ^ 16) % 256, math.floor(value / 256) % 256,
    value % 256)
end

--- The bytes of an idx file.
local function idx(element_type, sizes, elements)
  local parts = {string.char(0, 0, element_type, #sizes)}
  for i, size in ipairs(sizes) do parts[i + 1] = u32(size) end
  return table.concat(parts) .. elements
end

local function gzip(text)
  return (zlib.deflate(9, 31)(text, "finish"))
end

support.each_device(function(device)
  local on = {device = device}

  describe("batches", function()
    --- All rows in the order of one pass, and the batches' lengths.
    local function pass(rows, options)
      local x, y = fp8.arange(rows, on), (fp8.arange(rows, on) * 10):view(rows, 1)
      local order, lengths = {}, {}
      for a, b in batches({x, y}, options) do
        assert.equal(x.device, a.device)
        for i, value in ipairs(a:totable()) do
          assert.equal(value * 10, b:totable()[i][1])
          table.insert(order, value)
        end
        table.insert(lengths, a:size(1))
      end
      return order, lengths
    end

    local function counted(n)
      local list = {}
      for i = 1, n do list[i] = i - 1 end
      return list
    end

    it("go through the rows in order", function()
      local order, lengths = pass(10, {batch = 4})
      assert.same(counted(10), order)
      assert.same({4, 4, 2}, lengths)
    end)

    it("leave out a short last batch with drop_last", function()
      local order, lengths = pass(10, {batch = 4, drop_last = true})
      assert.same(counted(8), order)
      assert.same({4, 4}, lengths)
      assert.same({}, (pass(3, {batch = 4, drop_last = true})))
      assert.same({4, 4}, select(2, pass(8, {batch = 4, drop_last = true})))
    end)

    it("give every row exactly once when shuffled", function()
      for _, rows in ipairs {1, 2, 63, 64, 65, 1000} do
        local order = pass(rows, {shuffle = true, seed = rows})
        table.sort(order)
        assert.same(counted(rows), order)
      end
    end)

    it("come in the same order for a seed, and in another one for another", function()
      local first = pass(100, {shuffle = true, seed = 1})
      fp8.manual_seed(99)
      assert.same(first, (pass(100, {shuffle = true, seed = 1})))
      assert.same(first, (pass(100, {shuffle = true, seed = 1, batch = 7})))
      assert.is_not.same(first, (pass(100, {shuffle = true, seed = 2})))
      assert.is_not.same(counted(100), first)
    end)

    it("put every row at every place equally often", function()
      local counts, rounds = {}, 3000
      for i = 0, 24 do counts[i] = 0 end
      for seed = 1, rounds do
        for place, row in ipairs((pass(5, {shuffle = true, seed = seed}))) do
          counts[row * 5 + place - 1] = counts[row * 5 + place - 1] + 1
        end
      end
      -- Six standard deviations of a count.
      local deviation = math.sqrt(rounds * 0.2 * 0.8)
      for i = 0, 24 do assert.near(rounds / 5, counts[i], 6 * deviation) end
    end)

    it("take any dtype and rank", function()
      local x = fp8.arange(24, on):view(6, 2, 2):to "u8"
      for part in batches({x}, {batch = 6, shuffle = true}) do
        assert.same({6, 2, 2}, part.shape)
        assert.equal("u8", part.dtype)
        assert.equal(276, part:sum():item())
      end
    end)

    it("come to nothing without rows", function() assert.same({}, (pass(0))) end)
  end)
end)

describe("batches refuse", function()
  it("wrong tensors", function()
    fails("batches: ", batches)
    fails("batches: ", batches, {})
    fails("batches: ", batches, fp8.zeros(3))
    fails("batches: tensor 2", batches, {fp8.zeros(3), 3})
    fails("batches: tensor 1", batches, {fp8.tensor(3)})
    fails("3 and 4 rows", batches, {fp8.zeros(3), fp8.zeros(4)})
  end)

  it("wrong options", function()
    local x = fp8.zeros(3)
    for _, batch in ipairs {0, -1, 1.5, 0 / 0, math.huge, "2", {}} do
      fails("option batch", batches, {x}, {batch = batch})
    end
    for _, seed in ipairs {-1, 1.5, 0 / 0, 2 ^ 60, "x"} do fails("option seed", batches, {x}, {seed = seed}) end
    fails("option shuffle", batches, {x}, {shuffle = 1})
    fails("unknown option size", batches, {x}, {size = 1})
    fails("batches: ", batches, {x}, 3)
  end)
end)

describe("read_idx", function()
  local bytes = ""
  for i = 0, 23 do bytes = bytes .. string.char(i * 10) end

  for name, packed in support.sorted_pairs {plain = function(text) return text end, gzip = gzip} do
    it("reads u8, i32 and f32, " .. name, function()
      support.with_file(packed(idx(0x08, {2, 3, 4}, bytes)), function(path)
        local x = read_idx(path)
        assert.equal("u8", x.dtype)
        assert.same({2, 3, 4}, x.shape)
        assert.same({120, 130, 140, 150}, x:totable()[2][1])
      end)
      support.with_file(packed(idx(0x0C, {3}, "\0\0\1\2\255\255\255\254\128\0\0\0")), function(path)
        local x = read_idx(path)
        assert.equal("i32", x.dtype)
        assert.same({258, -2, -2 ^ 31}, x:totable())
      end)
      support.with_file(packed(idx(0x0D, {2, 1}, "\63\128\0\0\192\32\0\0")), function(path)
        local x = read_idx(path)
        assert.equal("f32", x.dtype)
        assert.same({{1}, {-2.5}}, x:totable())
      end)
      support.with_file(packed(idx(0x08, {0, 28, 28}, "")), function(path)
        assert.same({0, 28, 28}, read_idx(path).shape)
      end)
    end)
  end

  it("reads files longer than one piece, also what the gzip program wrote", function()
    local random, parts = support.random(1), {}
    for i = 1, 100000 do parts[i] = string.char(random(256) - 1) end
    local text = idx(0x08, {1000, 100}, table.concat(parts))
    local function check(path)
      local values = support.flat(read_idx(path))
      assert.equal(100000, #values)
      for i = 1, 100000, 97 do assert.equal(parts[i]:byte(), values[i]) end
    end
    support.with_file(text, check)
    support.with_file(gzip(text), check)
    support.with_file(text, function(path)
      assert.is_true(os.execute(("gzip -kf %s"):format(path)) == 0)
      check(path .. ".gz")
      os.remove(path .. ".gz")
    end)
  end)

  it("reads several members of gzip with zeros between and after them", function()
    local random, parts = support.random(3), {}
    for i = 1, 30000 do parts[i] = string.char(random(256) - 1) end
    local text = idx(0x08, {300, 100}, table.concat(parts))
    local function cut(...)
      local members, start = {}, 1
      for _, stop in ipairs {...} do
        members[#members + 1] = gzip(text:sub(start, stop))
        start = stop + 1
      end
      members[#members + 1] = gzip(text:sub(start))
      return members
    end
    local single, single_bytes = cut(), {}
    for i = 1, 200 do single_bytes[i] = i end
    for _, members in ipairs {single, cut(1), cut(3, 4, 5, 16, 17), cut(0, 0, 12, 12), cut(20000), cut(4096, 8192),
      cut(unpack(single_bytes))} do
      for _, between in ipairs {"", "\0", ("\0"):rep(4095), ("\0"):rep(10000)} do
        for _, after in ipairs {"", "\0", ("\0"):rep(511), ("\0"):rep(8192)} do
          support.with_file(table.concat(members, #members < 9 and between or "") .. after, function(path)
            local x = read_idx(path)
            assert.same({300, 100}, x.shape)
            for i, value in ipairs(support.flat(x)) do assert(parts[i]:byte() == value) end
          end)
        end
      end
    end
    -- Wherever the pieces end in which the file is read.
    local first = #gzip(text:sub(1, 5000))
    for zeros = 4096 - first % 4096 - 20, 4096 - first % 4096 + 3 do
      support.with_file(gzip(text:sub(1, 5000)) .. ("\0"):rep(zeros) .. gzip(text:sub(5001)), function(path)
        assert.equal(30000, read_idx(path):numel())
      end)
    end
  end)

  for _, device in ipairs(support.devices) do
    it("puts the tensor on " .. device, function()
      support.with_file(idx(0x08, {2, 12}, bytes), function(path)
        local x = read_idx(path, {device = device})
        assert.equal(fp8.zeros(1, {device = device}).device, x.device)
        assert.same({120, 130}, {x:totable()[2][1], x:totable()[2][2]})
      end)
    end)
  end

  local function refused(content)
    for _, text in ipairs {content, gzip(content)} do
      support.with_file(text, function(path)
        fails("read_idx: ", read_idx, path)
        fails(path, read_idx, path)
      end)
    end
  end

  it("refuses truncated files", function()
    local text = idx(0x08, {2, 3, 4}, bytes)
    for length = 0, #text - 1 do refused(text:sub(1, length)) end
    local packed = gzip(text)
    for length = 1, #packed - 1 do
      support.with_file(packed:sub(1, length), function(path) fails("read_idx: ", read_idx, path) end)
    end
  end)

  it("refuses bytes after the end", function()
    refused(idx(0x08, {2, 3, 4}, bytes .. "x"))
    refused(idx(0x08, {0}, "x"))
    local packed = gzip(idx(0x08, {2, 3, 4}, bytes))
    for _, more in ipairs {
      "x", "\0\0x", packed, ("x"):rep(100000), ("\0"):rep(9000) .. "\31", "\31", "\31\138", "\31\139", "\0\31\139\8",
      gzip "" .. "x", gzip(""):sub(1, -2), ("\0"):rep(4096) .. gzip "x", (gzip ""):rep(300) .. "\31\139x",
    } do
      support.with_file(packed .. more, function(path) fails("read_idx: ", read_idx, path) end)
    end
  end)

  it("refuses wrong magic numbers, element types and ranks", function()
    for _, start in ipairs {
      "\1\0\8\1", "\0\1\8\1", "PK\3\4", "\0\0\7\1", "\0\0\9\1", "\0\0\11\1", "\0\0\14\1", "\0\0\8\0",
      "\0\0\8\9", "\0\0\8\255",
    } do
      refused(start .. ("\0\0\0\1"):rep(255) .. "x")
    end
  end)

  it("refuses sizes that the file can't hold, before it asks for memory", function()
    local before = fp8.memory("cpu").peak
    local largest = 2 ^ 32 - 1
    for _, sizes in ipairs {
      {25}, {largest}, {largest, largest}, {65536, 65536}, {largest, largest, largest, largest},
      {2 ^ 31, 2 ^ 31, 4}, {2 ^ 31, 2},
      {largest, largest, largest, largest, largest, largest, largest, largest}, {0, largest, largest},
    } do
      if sizes[1] ~= 0 then refused(idx(0x08, sizes, bytes)) end
      refused(idx(0x0D, sizes, bytes))
    end
    assert.is_true(fp8.memory("cpu").peak - before < 2 ^ 20)
  end)

  it("refuses a bomb early", function()
    local zeros = gzip(idx(0x08, {10}, ("\0"):rep(2 ^ 26)))
    assert.is_true(#zeros < 2 ^ 17)
    support.with_file(zeros, function(path)
      collectgarbage()
      local start = collectgarbage "count"
      fails("read_idx: ", read_idx, path)
      assert.is_true(collectgarbage "count" - start < 16 * 1024)
    end)
  end)

  it("refuses damaged compressed data", function()
    local packed = gzip(idx(0x08, {2, 3, 4}, bytes))
    for i = 4, #packed do
      local changed = packed:sub(1, i - 1) .. string.char((packed:byte(i) + 85) % 256) .. packed:sub(i + 1)
      support.with_file(changed, function(path)
        local ok, result = pcall(read_idx, path)
        if ok then
          -- Only bytes of gzip's own header may be changed without harm: time, flags of the compressor, system.
          assert.is_true(i <= 10)
          assert.same({2, 3, 4}, result.shape)
        else
          assert.is_truthy(result:find("read_idx: ", 1, true))
        end
      end)
    end
  end)

  it("names a file that is not there, and wrong arguments", function()
    fails("/nowhere/at.all", read_idx, "/nowhere/at.all")
    fails("read_idx: ", read_idx, "/")
    fails("read_idx: ", read_idx)
    fails("read_idx: ", read_idx, 3)
    fails("read_idx: ", read_idx, "/dev/null", 3)
  end)
end)

describe("fashion_mnist", function()
  it("gives images and labels, or says what is missing", function()
    local ok, images, labels = pcall(fp8.data.fashion_mnist, "test")
    if not ok then return assert.is_truthy(images:find("dataset-fashion-mnist", 1, true)) end
    assert.same({10000, 784}, images.shape)
    assert.same({10000}, labels.shape)
    assert.equal("u8", images.dtype)
    local counts = {}
    for _, label in ipairs(labels:totable()) do counts[label] = (counts[label] or 0) + 1 end
    for class = 0, 9 do assert.equal(1000, counts[class]) end
    assert.near(73.15, images:float():mean():item(), 0.01)
  end)

  it("refuses an unknown half", function() fails("fashion_mnist: ", fp8.data.fashion_mnist, "valid") end)
end)
