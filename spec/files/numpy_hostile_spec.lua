-- NumPy files that are broken or made to break the reader: each is refused with an error that names the file.
local zlib = require "zlib"
local fp8 = require "fp8"
local support = require "spec.support"

local directory

local function refused(ending, content, message)
  local path = directory .. "/x" .. ending
  support.write_file(path, content)
  support.fails("load: " .. path .. ": " .. (message or ""), fp8.load, path)
end

--- The bytes of a .npy file with this header.
local function npy(header, data)
  return "\147NUMPY\1\0" .. support.u64(#header):sub(1, 2) .. header .. (data or "")
end

local function array(descr, shape, data, order)
  return npy(("{'descr': %s, 'fortran_order': %s, 'shape': %s, }\n"):format(descr, order or "False", shape), data)
end

local function u(count, value) return support.u64(value):sub(1, count) end

local function checksum(text) return (zlib.crc32()(text)) end

--- The bytes of a zip archive of members {name =, data =, and what else its headers say}.
local function archive(members, changes)
  local parts, directory_parts, position = {}, {}, 0
  changes = changes or {}
  for _, member in ipairs(members) do
    local packed = member.packed or member.data
    local fields = "\20\0" .. u(2, member.flags or 0) .. u(2, member.method or 0) .. "\0\0\33\0" ..
      u(4, member.checksum or checksum(member.data)) .. u(4, member.packed_bytes or #packed) ..
      u(4, member.bytes or #member.data) .. u(2, #member.name)
    local offset = member.offset or position
    if not member.absent then
      parts[#parts + 1] = (member.magic or "PK\3\4") .. fields .. u(2, 0) .. member.name .. packed
      position = position + #parts[#parts]
    end
    directory_parts[#directory_parts + 1] = "PK\1\2\20\0" .. fields .. u(2, #(member.extra or "")) ..
      ("\0"):rep(10) .. u(4, offset) .. member.name .. (member.extra or "")
  end
  local list = changes.directory or table.concat(directory_parts)
  return table.concat(parts) .. list .. (changes.before or "") ..
    "PK\5\6\0\0\0\0" .. u(2, changes.count or #members):rep(2) .. u(4, changes.bytes or #list) ..
    u(4, changes.at or position) .. u(2, #(changes.comment or "")) ..
    (changes.comment or "") .. (changes.after or "")
end

local whole = array("'<f4'", "(2,)", "12345678")

local function deflated(text) return (zlib.deflate(6, -15)(text, "finish")) end

local two = archive {
  {name = "a.npy", data = whole}, {name = "b.npy", data = whole, packed = deflated(whole), method = 8},
}

describe("fp8.load refuses", function()
  directory = support.temporary_directory(setup, teardown)

  it("arrays that are cut off, and bytes after them", function()
    for length = 0, #whole - 1 do refused(".npy", whole:sub(1, length)) end
    refused(".npy", whole .. "x", "8 bytes of elements are needed, the file has 9")
    refused(".npy", "\147NUMPY\2\0\255\255\255\255" .. whole, "a header of 4294967295 bytes is too long")
    refused(".npy", "\147NUMPY\2\0" .. u(4, 70000) .. (" "):rep(70000), "a header of 70000 bytes is too long")
  end)

  it("what is no array", function()
    refused(".npy", ("x"):rep(100), "not a NumPy array")
    refused(".npy", "\147NUMPY\4\0" .. whole:sub(9), "version 4.0 of the format is not known")
    refused(".npy", "\147NUMPY\1\1" .. whole:sub(9), "version 1.1")
    for _, header in ipairs {
      "", " ", "{", "}", "{}", "[]", "{'descr': '<f4'}", "os.exit()", "{'descr': '<f4', 'fortran_order': False}",
      "{'shape': (2,), 'fortran_order': False}", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}",
      "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "{'descr': '<f4' 'fortran_order'",
      "{'descr': <f4, 'fortran_order': False, 'shape': (2,)}",
      "{\0'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x",
    } do
      refused(".npy", npy(header, "12345678"))
    end
    refused(".npy", array("'<f4'", "(2,)", "12345678", "Maybe"), "fortran_order must be True or False")
  end)

  it("dtypes that fp8 does not have", function()
    for _, descr in ipairs {
      "'<f3'", "'<f16'", "'<c8'", "'|O'", "'<U4'", "'|S4'", "'<M8[ns]'", "'<u4'", "'|i1'", "'f'", "''", "'<f99999999'",
      "'<f8'", "'|V2'", "'>>f4'",
    } do
      refused(".npy", array(descr, "(2,)", "12345678"))
    end
    refused(".npy", array("[('a', '<f4')]", "(2,)", "12345678"), "structured arrays are not supported")
  end)

  it("shapes that are wrong, or too large", function()
    for _, shape in ipairs {
      "2", "(2)", "[2]", "(-2,)", "(2.0,)", "(2,,)", "(,)", "(,2)", "(2,1", "(1,1,1,1,1,1,1,1,2)", "(3,)", "(1,)",
      "(0,)",
      "(99999999999999999999,)", "(4294967296, 4294967296)", "(2147483648, 2147483648, 4)",
      "(0, 4294967296, 4294967296)",
      "(" .. ("9"):rep(400) .. ",)", "(2, ,)", "(1e1,)", "(0x2,)",
    } do
      refused(".npy", array("'<f4'", shape, "12345678"))
    end
  end)

  it("archives that are cut off, or no archives", function()
    support.write_file(directory .. "/y.npz", two)
    assert.equal(2, fp8.load(directory .. "/y.npz").b:numel())
    for length = 0, #two - 1 do refused(".npz", two:sub(1, length)) end
    refused(".npz", ("x"):rep(70000), "not a zip archive")
    refused(".npz", two .. "x", "not a zip archive, or a truncated one")
    refused(".npz", whole)
  end)

  it("members that can't be", function()
    local function one(member, message)
      member.name, member.data = member.name or "a.npy", member.data or whole
      refused(".npz", archive {member}, message)
    end
    one({name = "a.txt"}, "member 'a.txt' is no .npy file")
    one({name = "\255.npy"}, "the name of a member is not UTF-8")
    one({flags = 1}, "member 'a.npy' is encrypted")
    one({method = 12}, "member 'a.npy' is compressed by method 12; deflate is supported")
    one({checksum = 1}, "member 'a.npy' is damaged: its checksum is wrong")
    one({bytes = 10}, "member 'a.npy' can't have 10 bytes")
    one({bytes = 2 ^ 31, packed = deflated(whole), method = 8}, "member 'a.npy' can't have 2147483648 bytes")
    one({packed_bytes = 2 ^ 31}, "member 'a.npy' lies outside the file")
    one({offset = 2 ^ 31}, "member 'a.npy' lies outside the file")
    one({magic = "PK\3\5"}, "member 'a.npy' has no header")
    one({bytes = 2 ^ 32 - 1}, "member 'a.npy' can't have")
    one({bytes = 2 ^ 32 - 1, extra = "\1\0\4\0aaaa"}, "member 'a.npy': its sizes are missing")
    one({bytes = 2 ^ 32 - 1, extra = "\1\0\8\0" .. ("\255"):rep(8)}, "member 'a.npy' can't have")
    one({data = "x"}, "member 'a.npy': the file is too short to be a NumPy array")
    one({data = array("'<f4'", "(99999999,)", "")}, "member 'a.npy': 399999996 bytes of elements are needed")
    local packed = deflated(whole)
    local function deflates(text, message, bytes)
      one({packed = text, method = 8, bytes = bytes}, message)
    end
    deflates(packed:sub(1, -3), "member 'a.npy': its compressed data is truncated")
    deflates(packed .. "x", "member 'a.npy': there are bytes after its compressed data")
    deflates(("\255"):rep(20), "member 'a.npy': its compressed data is damaged")
    deflates(deflated(whole .. "x"), "member 'a.npy' has more bytes than the directory says")
    deflates(deflated(whole:sub(1, -2)), "member 'a.npy'")
  end)

  it("directories that are damaged, and members that overlap", function()
    local member = {name = "a.npy", data = whole}
    local function one(changes, message) refused(".npz", archive({member}, changes), message) end
    one({count = 2}, "the directory has 1 entries, not 2")
    one({count = 0}, "the directory has 1 entries, not 0")
    one({bytes = 2 ^ 31}, "a directory of 2147483648 bytes is too long")
    one({at = 2 ^ 31}, "the directory lies outside the file")
    one({directory = "PK\1\3" .. ("\0"):rep(60)}, "the directory is damaged")
    one({directory = "PK\1\2" .. ("\0"):rep(10)}, "the directory is damaged")
    one({directory = "PK\1\2" .. ("\255"):rep(60)}, "the directory is damaged")
    one({before = "PK\6\7\0\0\0\0" .. ("\255"):rep(8) .. "\1\0\0\0"}, "the directory's end is damaged")
    one({before = "PK\6\7\0\0\0\0" .. u(8, 3) .. "\1\0\0\0"}, "the directory's end is damaged")
    refused(".npz", archive {member, member}, "there are two members 'a.npy'")
    -- A bomb: many entries of one member's bytes.
    local bomb = {}
    for i = 1, 100 do bomb[i] = {name = i .. ".npy", data = whole, offset = 0, absent = i > 1} end
    refused(".npz", archive(bomb), "members '")
  end)

  it("random damage, without keeping memory", function()
    local random = support.random(1)
    local before = support.in_use "cpu"
    local texts = {whole, two}
    local path
    for i = 1, 4000 do
      local text = texts[i % 2 + 1]
      for _ = 1, random(3) do
        local at = random(#text)
        text = text:sub(1, at - 1) .. string.char(random(256) - 1) .. text:sub(at + (random(4) > 1 and 1 or 0))
      end
      path = directory .. (i % 2 == 0 and "/d.npy" or "/d.npz")
      support.write_file(path, text)
      local ok, message = pcall(fp8.load, path)
      assert.is_true(ok or message:find("load: " .. path .. ": ", 1, true) ~= nil, message)
    end
    for _ = 1, 3 do collectgarbage() end
    assert.is_true(support.in_use "cpu" <= before)
  end)
end)
