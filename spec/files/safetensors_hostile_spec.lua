-- Safetensors files that are broken or made to break the reader: each is refused with an error that names the file.
local fp8 = require "fp8"
local support = require "spec.support"

--- fp8.load of these bytes is an error that names the file.
local function refused(content)
  support.with_file(content, function(path)
    support.fails("load: ", fp8.load, path)
    support.fails(path, fp8.load, path)
  end)
end

--- A container of one tensor described by JSON text.
local function one(entry, data)
  return support.safetensors('{"x":' .. entry .. "}", data)
end

describe("fp8.load refuses", function()
  it("files too short for a header", function()
    local text = one('{"dtype":"F32","shape":[2],"data_offsets":[0,8]}', ("x"):rep(8))
    for length = 0, #text - 1 do refused(text:sub(1, length)) end
  end)

  it("headers longer than the file", function()
    for _, length in ipairs {1, 100, 2 ^ 31 - 1, 2 ^ 31, 2 ^ 32, 2 ^ 40, 2 ^ 53, 2 ^ 60, 2 ^ 62} do
      refused(support.u64(length))
      refused(support.u64(length) .. "{")
    end
    refused(("\255"):rep(8) .. "{}")
    refused(("\0"):rep(7) .. "\128{}")
  end)

  it("an empty header", function() refused(support.u64(0)) end)

  it("bytes after the last tensor", function()
    refused(support.safetensors("{}", "x"))
    refused(one('{"dtype":"U8","shape":[1],"data_offsets":[0,1]}', "xy"))
  end)

  it("bad JSON", function()
    for _, header in ipairs {
      "", " ", "{", "}", "[]", "null", "1", '"x"', "{x}", '{"x":}', '{"x":1,}', '{"x":{"dtype":"U8"', "{}{}", "{} x",
      "\0\0", ("["):rep(10000), ('{"x":'):rep(10000), "{'x':1}", "\239\187\191{}",
      '{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},}',
      '{"x":nan}', '{"x":{"dtype":"\\ud800","shape":[],"data_offsets":[0,1]}}',
    } do
      refused(support.safetensors(header))
    end
  end)

  it("entries of wrong types", function()
    for _, entry in ipairs {
      "1", "null", '"x"', "[]", "true", "{}",
      '{"dtype":1,"shape":[1],"data_offsets":[0,1]}',
      '{"dtype":null,"shape":[1],"data_offsets":[0,1]}',
      '{"dtype":"U8","shape":1,"data_offsets":[0,1]}',
      '{"dtype":"U8","shape":"1","data_offsets":[0,1]}',
      '{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}',
      '{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}',
      '{"dtype":"U8","shape":{"a":1},"data_offsets":[0,1]}',
      '{"dtype":"U8","shape":[null],"data_offsets":[0,1]}',
      '{"dtype":"U8","shape":[true],"data_offsets":[0,1]}',
      '{"dtype":"U8","shape":[1],"data_offsets":1}',
      '{"dtype":"U8","shape":[1],"data_offsets":[]}',
      '{"dtype":"U8","shape":[1],"data_offsets":[0]}',
      '{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}',
      '{"dtype":"U8","shape":[1],"data_offsets":["0","1"]}',
      '{"dtype":"U8","shape":[1],"data_offsets":[null,1]}',
      '{"dtype":"U8","shape":[1],"data_offsets":{"begin":0,"end":1}}',
      '{"dtype":"U8","shape":[1]}', '{"dtype":"U8","data_offsets":[0,1]}', '{"shape":[1],"data_offsets":[0,1]}',
    } do
      refused(one(entry, "x"))
    end
  end)

  it("dtypes that don't exist", function()
    for _, dtype in ipairs {"", "F33", "f32", "C64", "F8_E4M3FNUZ", "U64X", ("F"):rep(100000), "F32\\u0000"} do
      refused(one(('{"dtype":"%s","shape":[1],"data_offsets":[0,4]}'):format(dtype), "xxxx"))
    end
  end)

  it("sizes that are negative, fractions or too many", function()
    for _, shape in ipairs {
      "-1", "1.5", "1e400", "-0.5", "1,1,1,1,1,1,1,1,1", ("1,"):rep(1000) .. "1", "1e-5", "9007199254740993",
    } do
      refused(one(('{"dtype":"U8","shape":[%s],"data_offsets":[0,1]}'):format(shape), "x"))
    end
  end)

  it("sizes that overflow", function()
    for _, shape in ipairs {
      "4294967296,4294967296", "2147483648,2147483648,4", "9223372036854775807,2", "18446744073709551616",
      "1e18,1e18,1e18", "4611686018427387904,4", "0,4294967296,4294967296",
      "4294967296,4294967296,0", "16777216,16777216,16777216,16777216",
    } do
      for _, stop in ipairs {0, 1, 4} do
        refused(one(('{"dtype":"F32","shape":[%s],"data_offsets":[0,%d]}'):format(shape, stop), ("x"):rep(stop)))
      end
    end
  end)

  it("offsets out of range or out of order", function()
    for _, offsets in ipairs {
      "0,5", "1,5", "4,8", "4,0", "-4,0", "0,-4", "-8,-4", "0.5,4.5", "0,4.5", "1e300,1e300", "0,1e300",
      "9007199254740992,9007199254740996", "18446744073709551612,18446744073709551616",
      "1e400,1e400", "0,3", "0,8", "2,4", "0,0",
    } do
      refused(one(('{"dtype":"F32","shape":[1],"data_offsets":[%s]}'):format(offsets), "xxxx"))
    end
  end)

  it("overlaps and holes", function()
    local function two(first, second, data)
      refused(support.safetensors(([[{"a":{"dtype":"U8","shape":[2],"data_offsets":[%s]},
        "b":{"dtype":"U8","shape":[2],"data_offsets":[%s]}}]]):format(first, second), data))
    end
    two("0,2", "0,2", "xx")
    two("0,2", "1,3", "xxx")
    two("1,3", "0,2", "xxx")
    two("0,2", "3,5", "xxxxx")
    two("3,5", "0,2", "xxxxx")
    two("1,3", "3,5", "xxxxx")
    two("0,2", "2,4", "xxxxx")
    two("0,2", "2,4", "xxx")
  end)

  it("names that come twice", function()
    refused(support.safetensors([[{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
      "x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}]], "xy"))
  end)

  it("metadata that is no table of strings", function()
    for _, metadata in ipairs {
      "1", '"x"', "nul", "[1]", "[]", 'null,"__metadata__":null', '{"a":1}', '{"a":null}', '{"a":{"b":"c"}}', "true",
    } do
      refused(support.safetensors(('{"__metadata__":%s}'):format(metadata)))
    end
  end)

  it("counts that are not written as digits", function()
    for _, count in ipairs {"2.0", "2e0", "20E-1", "2.0e+0", "0.2e1", "-2", "+2", "02", "0x2", "2.", "two"} do
      refused(one(('{"dtype":"U8","shape":[%s],"data_offsets":[0,2]}'):format(count), "xy"))
      refused(one(('{"dtype":"U8","shape":[1,%s],"data_offsets":[0,2]}'):format(count), "xy"))
      refused(one(('{"data_offsets":[0,%s],"dtype":"U8","sh\\u0061pe":[2]}'):format(count), "xy"))
    end
    for _, zero in ipairs {"-0", "0.0", "-0.0", "0e5", "00"} do
      refused(one(('{"dtype":"U8","shape":[%s],"data_offsets":[0,0]}'):format(zero)))
      refused(one(('{"dtype":"U8","shape":[1],"data_offsets":[ %s ,1]}'):format(zero), "x"))
    end
    support.with_file(one('{"dtype":"U8","shape":[ 3,1e0],"data_offsets":[0,3]}', "xyz"), function(path)
      support.fails("tensor 'x': shape must hold whole numbers of at least 0, got 1e0", fp8.load, path)
    end)
  end)

  it("control characters in strings", function()
    local entry = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]%s}'
    for code = 1, 31 do
      local character = string.char(code)
      refused(support.safetensors(('{"a%sb":%s}'):format(character, entry:format ""), "x"))
      refused(support.safetensors(('{"\\"%s":%s}'):format(character, entry:format ""), "x"))
      refused(support.safetensors(('{"__metadata__":{"note":"%s"}}'):format(character)))
      refused(support.safetensors(('{"__metadata__":{"%s":""}}'):format(character)))
      refused(one(entry:format(',"note":["' .. character .. '"]'), "x"))
    end
  end)

  it("white space and numbers that JSON does not have", function()
    for _, space in ipairs {"\11", "\12", "\194\160", "\226\128\168", "/**/"} do
      refused(support.safetensors(space .. "{}"))
      refused(support.safetensors("{}" .. space))
      refused(support.safetensors("{" .. space .. "}"))
    end
    for _, number in ipairs {
      "3.", "-3.", "3.e5", "1e999", "-1e999", "1e65536", "-0.1E+9999999", ".5", "0x10", "NaN", "-Infinity", "03", "1e",
    } do
      refused(one(('{"dtype":"U8","shape":[1],"data_offsets":[0,1],"version":%s}'):format(number), "x"))
    end
  end)

  it("long names and numbers, and shows their beginnings", function()
    local long = ("9"):rep(2 ^ 22)
    for _, header in ipairs {
      ('{"%s":{"dtype":"U8","shape":[1],"data_offsets":[0,2]}}'):format(long),
      ('{"x":{"dtype":"%s","shape":[1],"data_offsets":[0,1]}}'):format(long),
      ('{"x":{"dtype":"U8","shape":[%s],"data_offsets":[0,1]}}'):format(long), ('{"%s\1":1}'):format(long),
    } do
      support.with_file(support.safetensors(header, "x"), function(path)
        local ok, message = pcall(fp8.load, path)
        assert.is_false(ok)
        assert.is_truthy(message:find("9…", 1, true))
        assert.is_true(#message < 600)
      end)
    end
  end)

  it("files of other kinds, and says what they seem to be", function()
    local function is(what, text)
      support.with_file(text, function(path)
        support.fails(("load: %s: not a safetensors file: %s"):format(path, what), fp8.load, path)
      end)
    end
    is("it seems to be a zip archive", "PK\3\4\20\0\8\8\8\0" .. ("\0"):rep(100))
    is("it seems to be a zip archive", "PK\3\4\0\0\0\0\0\0" .. ("\0"):rep(100))
    is("it seems to be a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:ab12\nsize 3\n")
    is("it seems to be an HTML or XML page", "<!doctype html>\n<title>404</title>")
    is("it seems to be an HTML or XML page", "\239\187\191\r\n<?xml version='1.0'?><Error/>")
    is("it seems to be a Python pickle", "\128\2\138\10l\252\156F\249 j\168P\25.")
    is("it seems to be a NumPy array", "\147NUMPY\1\0v\0{'descr': '<f4'}")
    is("it seems to be an HDF5 file", "\137HDF\r\n\26\n\0\0\0")
    is("it seems to be a GGUF file", "GGUF\3\0\0\0\1\0\0\0")
    is("it seems to be compressed with gzip", "\31\139\8\0\0\0\0\0" .. ("x"):rep(600000))
    is("it seems to be JSON text", '{\n  "weight_map": {}\n}\n')
    is("it seems to be text", "Entry not found\n")
    is("its header does not begin with {", "\4\0\0\0\0\0\0\0 [] ")
    is("its header would have 72057594037927936 bytes", ("\0"):rep(7) .. "\1{")
    -- Truncated ones, the lengths of whose headers begin as other kinds of files do.
    for _, length in ipairs {0x0280, 0x213C, 0x088B1F} do
      support.with_file(support.u64(length) .. '{"x":', function(path)
        support.fails(("the header has %d bytes, the file 13: it is truncated"):format(length), fp8.load, path)
      end)
    end
  end)

  it("all of them without keeping memory or tensors", function()
    local before = fp8.memory and fp8.memory "cpu"
    local x = fp8.tensor {1, 2, 3}
    refused(one('{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}', ("x"):rep(3999999)))
    assert.same({1, 2, 3}, x:totable())
    collectgarbage()
    if before then assert.is_true(fp8.memory("cpu").in_use <= before.in_use + 12) end
  end)
end)
