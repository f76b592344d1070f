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
      "1e18,1e18,1e18", "4611686018427387904,4", "16777216,16777216,16777216,16777216",
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
    for _, metadata in ipairs {"1", '"x"', "null", "[1]", '{"a":1}', '{"a":null}', '{"a":{"b":"c"}}', "true"} do
      refused(support.safetensors(('{"__metadata__":%s}'):format(metadata)))
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
