-- Pictures, taken apart again.
local zlib = require "zlib"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

--- {width =, height =, colour =, rows = the bytes of each}, of a file whose every chunk is right.
local function decode(text)
  assert.equal("\137PNG\r\n\26\n", text:sub(1, 8))
  local position, chunks, data = 9, {}, {}
  local function number(at)
    local a, b, c, d = text:byte(at, at + 3)
    return ((a * 256 + b) * 256 + c) * 256 + d
  end
  while position <= #text do
    local length, kind = number(position), text:sub(position + 4, position + 7)
    local body = text:sub(position + 8, position + 7 + length)
    assert.equal(zlib.crc32()(kind .. body), number(position + 8 + length))
    if kind == "IDAT" then table.insert(data, body) end
    table.insert(chunks, kind)
    position = position + 12 + length
  end
  assert.equal("IHDR", chunks[1])
  assert.equal("IEND", chunks[#chunks])
  local picture = {width = number(17), height = number(21), depth = text:byte(25), colour = text:byte(26), rows = {}}
  local pixels, ended = zlib.inflate()(table.concat(data))
  assert.is_true(ended)
  local stride = #pixels / picture.height
  for row = 1, picture.height do
    local line = pixels:sub((row - 1) * stride + 1, row * stride)
    assert.equal(0, line:byte(1))
    picture.rows[row] = {line:byte(2, -1)}
  end
  return picture
end

describe("A .png file", function()
  local path = support.temporary_directory(setup, teardown) .. "/x.png"

  local function picture(x, options)
    fp8.save(path, x, options)
    return decode(support.read_file(path))
  end

  it("has a row of pixels for each row", function()
    local found = picture(fp8.tensor({{0, 128, 255}, {1, 2, 3}}, {dtype = "u8"}))
    assert.same({width = 3, height = 2, depth = 8, colour = 0, rows = {{0, 128, 255}, {1, 2, 3}}}, found)
  end)

  it("has numbers from 0 to 1, or of a range, from black to white", function()
    assert.same({{0, 128, 255, 0, 255, 0, 51}}, picture(fp8.tensor {{0, 0.5, 1, -3, 7, 0 / 0, 0.2}}).rows)
    assert.same({{0, 128, 255}}, picture(fp8.tensor({{-1, 0, 1}}), {range = {-1, 1}}).rows)
    assert.same({{0, 255, 26}}, picture(fp8.tensor({{0, 10, 1}}, {dtype = "i64"}), {range = {0, 10}}).rows)
    for _, dtype in ipairs {"f16", "bf16", "e4m3", "e5m2"} do
      assert.same({{0, 128, 255}}, picture(fp8.tensor({{0, 0.5, 1}}):to(dtype)).rows)
    end
    assert.same({{128}}, picture(fp8.full({1, 1}, 0.5, {requires_grad = true})).rows)
  end)

  it("has one to four samples a pixel", function()
    for samples, colour in ipairs {0, 4, 2, 6} do
      local x = fp8.arange(samples * 6):view(samples, 2, 3):to "u8"
      local found = picture(x)
      assert.equal(colour, found.colour)
      assert.same(support.flat(x:permute(2, 3, 1)[1]), found.rows[1])
      assert.same(support.flat(x:permute(2, 3, 1)[2]), found.rows[2])
    end
  end)

  it("may be large, and a view", function()
    local x = fp8.randint(0, 256, {700, 3, 500}):to "u8":transpose(1, 2)
    local found = picture(x)
    assert.same({500, 700}, {found.width, found.height})
    assert.same(support.flat(x:permute(2, 3, 1)[700]), found.rows[700])
  end)

  support.each_device(function(device)
    it("comes from a device", function()
      assert.same({{0, 255}}, picture(fp8.tensor({{0, 1}}, {device = device})).rows)
    end)
  end)

  it("is not made of anything else", function()
    fails("a tensor expected, got table", fp8.save, path, {})
    for _, shape in ipairs {{3}, {5, 2, 2}, {0, 2, 2}, {1, 1, 1, 1}, {}} do
      fails("a tensor of shape (height, width) or (1 to 4, height, width) expected", fp8.save, path, fp8.zeros(shape))
    end
    fails("can't be 0 pixels wide", fp8.save, path, fp8.zeros(2, 0))
    fails("pictures of i64 need the option range", fp8.save, path, fp8.zeros(2, 2, {dtype = "i64"}))
    for _, range in ipairs {{}, {1}, {1, 1}, {2, 1}, {0 / 0, 1}, {0, 1 / 0}, {"0", 1}, {0, 1, 2}} do
      fails("option range must be two finite numbers", fp8.save, path, fp8.zeros(2, 2), {range = range})
    end
    fails("unknown option rnage", fp8.save, path, fp8.zeros(2, 2), {rnage = {0, 1}})
  end)
end)
