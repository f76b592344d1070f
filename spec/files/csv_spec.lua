-- Tables of numbers as text.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

describe("A .csv file", function()
  local directory = support.temporary_directory(setup, teardown)

  local function written(x, options)
    local path = directory .. "/written.csv"
    fp8.save(path, x, options)
    return support.read_file(path), path
  end

  local function read(text, options)
    local path = directory .. "/read.csv"
    support.write_file(path, text)
    return fp8.load(path, options)
  end

  it("has a line for each row", function()
    assert.equal("1,2.5\n-3,0\n", (written(fp8.tensor {{1, 2.5}, {-3, 0}})))
    assert.equal("1\n2\n", (written(fp8.tensor {1, 2})))
    assert.equal("nan,inf,-inf\n", (written(fp8.tensor {{0 / 0, 1 / 0, -1 / 0}})))
    assert.equal('a,"b,c","say ""x""",""\n1,2,3,4\n',
      (written(fp8.tensor {{1, 2, 3, 4}}, {names = {"a", "b,c", 'say "x"', ""}})))
    assert.equal('"#n"\n1\n', (written(fp8.tensor {1}, {names = {"#n"}})))
    assert.equal("", (written(fp8.zeros(0, 3))))
    assert.equal("0.1\n0.33333334\n9.99995e-41\n16777216\n3.4028235e+38\n",
      (written(fp8.tensor {0.1, 1 / 3, 1e-40, 16777216, 3.4028234663852886e38})))
  end)

  it("holds what was written, of every dtype", function()
    for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
      local x = dtype:find "^[ui]" and fp8.randint(0, 200, {50, 3}):to(dtype) or (fp8.randn(50, 3) * 20):exp():to(dtype)
      local _, path = written(x)
      support.same_bytes(fp8.load(path, {dtype = dtype}), x)
    end
    local long = fp8.tensor({{9007199254740993LL, -0x8000000000000000LL, 3}}, {dtype = "i64"})
    local text, path = written(long)
    assert.equal("9007199254740993,-9223372036854775808,3\n", text)
    support.same_bytes(fp8.load(path, {dtype = "i64"}), long)
    local i32 = fp8.tensor({2147483647, -2147483647}, {dtype = "i32"})
    assert.equal("2147483647\n-2147483647\n", (written(i32)))
  end)

  it("is read with names or without", function()
    local x, names = read "1, 2\n3,4\r\n\n# a remark\n5 ,6"
    assert.same({{1, 2}, {3, 4}, {5, 6}}, x:totable())
    assert.equal("f32", x.dtype)
    assert.is_nil(names)
    x, names = read '\239\187\191step,"test, loss", "say ""x"""\n1,"2", 3\n'
    assert.same({{1, 2, 3}}, x:totable())
    assert.same({"step", "test, loss", 'say "x"'}, names)
    x, names = read "a,b\n"
    assert.same({0, 2}, x.shape)
    assert.same({"a", "b"}, names)
    assert.same({{1e3, -0.5, 2, 0.25}}, read("1e3,-.5,+2,2.5E-1"):totable())
    x = read("nan,-inf,Infinity\n"):totable()[1]
    assert.is_true(x[1] ~= x[1] and x[2] == -1 / 0 and x[3] == 1 / 0)
    assert.same({{300}}, read("300", {dtype = "i32"}):totable())
  end)

  it("is refused where it is no table of numbers", function()
    for message, text in support.sorted_pairs {
      ["there are no rows"] = "\n# x\n", ["row 2 has 1 columns, the first one has 2"] = "1,2\n3\n",
      ["row 2, column 2: an empty field is not a number"] = "1,2\n3,\n",
      ['row 3, column 1: "x" is not a number'] = "a\n1\nx\n", ["row 1: a quote is not closed"] = '"a,b\n1,2',
      ["row 1: there is text after a quote"] = '"a"b\n1', ["row 1 has a zero byte"] = "1,2\0",
      ["row 1 has a carriage return inside"] = "a\r1\n",
      ['row 2, column 1: "0x10" is not a number'] = "1\n0x10", ['column 1: "1LL"'] = "1\n1LL",
      ['column 1: "1.2.3"'] = "1\n1.2.3", ['column 1: "1i"'] = "1\n1i", ['column 1: "1e"'] = "1\n1e",
    } do
      fails(message, read, text)
    end
    fails("there are no rows", read, "")
    fails("option dtype must be the name of a dtype, got float32", read, "1", {dtype = "float32"})
    fails("unknown option f64", read, "1", {f64 = "f32"})
    fails("can be written, not read", fp8.load, "x.png")
  end)

  it("is not written of what is no table", function()
    fails("a tensor of 1 or 2 dimensions expected, this one has 3", written, fp8.zeros(1, 1, 1))
    fails("a tensor of 1 or 2 dimensions expected, this one has 0", written, fp8.tensor(1))
    fails("a tensor expected, got table", written, {1})
    fails("a name for each of the 2 columns", written, fp8.zeros(1, 2), {names = {"a"}})
    fails("strings of one line", written, fp8.zeros(1, 1), {names = {"a\n"}})
    fails("strings of one line", written, fp8.zeros(1, 1), {names = {1}})
    fails("would be read as a row", written, fp8.zeros(1, 2), {names = {"1", "2"}})
    fails("unknown option name", written, fp8.zeros(1, 2), {name = {}})
  end)
end)
