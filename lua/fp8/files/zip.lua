--- Zip archives, as far as .npz files need them: members that are stored or deflated, in files of any size. The
-- format is PKWARE's APPNOTE.TXT, 6.3. Reading trusts nothing that an archive says: members may not overlap, nothing
-- is asked of memory that the file can't hold, and the checksums have to be right.
local ffi = require "ffi"
local zlib = require "fp8.files.package" "zlib"

local zip = {}

local stored, deflated = 0, 8
local largest_directory = 100 * 1000 * 1000 -- bytes
local longest_comment = 65535
-- Deflate makes at most 1,032 bytes of one, so that a piece of this length gives 4 MiB at most.
local piece_bytes, largest_expansion = 4096, 1032
local missing = 0xFFFFFFFF -- a number that is among those of 64 bits

local function fail(message, ...) error({message = message:format(...)}, 0) end

-- The little-endian number of `count` bytes at a position from 1.
local function number_at(text, position, count)
  local value = 0
  for i = count - 1, 0, -1 do value = value * 256 + text:byte(position + i) end
  return value
end

local function bytes_of(value, count)
  local list = {}
  for i = 1, count do
    list[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(list)
end

local function read_at(file, position, count)
  if not file:seek("set", position) then fail("the file has no byte %.0f", position) end
  local text = count > 0 and file:read(count) or ""
  if not text or #text < count then fail "can't read: the file is shorter than it was" end
  return text
end

-- ---- Reading ----

-- Where the archive's last record is, and what it says: the directory's start, bytes and entries.
local function find_directory(file, bytes)
  if bytes < 22 then fail "not a zip archive: it is too short" end
  local length = math.min(bytes, 22 + longest_comment)
  local text, start = read_at(file, bytes - length, length), bytes - length
  for position = length - 21, 1, -1 do
    if text:sub(position, position + 3) == "PK\5\6" and number_at(text, position + 20, 2) == length - position - 21 then
      local last = {start = start + position - 1}
      last.entries = number_at(text, position + 10, 2)
      last.bytes, last.at = number_at(text, position + 12, 4), number_at(text, position + 16, 4)
      return last
    end
  end
  fail "not a zip archive, or a truncated one: there is no directory at its end"
end

local function read_directory(file, bytes)
  local last = find_directory(file, bytes)
  local locator = last.start >= 20 and read_at(file, last.start - 20, 20) or ""
  if locator:sub(1, 4) == "PK\6\7" then
    local at = number_at(locator, 9, 8)
    if at > last.start - 20 - 56 then fail "the directory's end is damaged" end
    local record = read_at(file, at, 56)
    if record:sub(1, 4) ~= "PK\6\6" then fail "the directory's end is damaged" end
    last = {start = at, entries = number_at(record, 33, 8), bytes = number_at(record, 41, 8),
      at = number_at(record, 49, 8)}
  end
  if last.bytes > largest_directory then fail("a directory of %.0f bytes is too long", last.bytes) end
  if last.at + last.bytes > last.start then fail "the directory lies outside the file" end
  return read_at(file, last.at, last.bytes), last.entries, last.at
end

-- Fills in the numbers of 64 bits that an entry of the directory has instead.
local function read_large_numbers(member, extra)
  local position = 1
  while position + 3 <= #extra do
    local kind, length = number_at(extra, position, 2), number_at(extra, position + 2, 2)
    local field = extra:sub(position + 4, position + 3 + length)
    if kind == 1 then
      local at = 1
      for _, name in ipairs {"bytes", "packed", "header"} do
        if member[name] == missing then
          if at + 7 > #field then fail("member '%s': its sizes are missing", member.name) end
          member[name], at = number_at(field, at, 8), at + 8
        end
      end
      return
    end
    position = position + 4 + length
  end
end

local function read_entry(text, position)
  if position + 45 > #text or text:sub(position, position + 3) ~= "PK\1\2" then fail "the directory is damaged" end
  local name, extra = number_at(text, position + 28, 2), number_at(text, position + 30, 2)
  local stop = position + 46 + name + extra + number_at(text, position + 32, 2)
  if stop - 1 > #text then fail "the directory is damaged" end
  local member = {
    name = text:sub(position + 46, position + 45 + name), method = number_at(text, position + 10, 2),
    checksum = number_at(text, position + 16, 4), packed = number_at(text, position + 20, 4),
    bytes = number_at(text, position + 24, 4), header = number_at(text, position + 42, 4),
  }
  read_large_numbers(member, text:sub(position + 46 + name, position + 45 + name + extra))
  if text:byte(position + 8) % 2 == 1 then fail("member '%s' is encrypted", member.name) end
  if member.method ~= stored and member.method ~= deflated then
    fail("member '%s' is compressed by method %d; deflate is supported", member.name, member.method)
  end
  return member, stop
end

-- Where the member's own bytes are, after a header of its own.
local function find_bytes(file, member, directory)
  if member.header + 30 > directory then fail("member '%s' lies outside the file", member.name) end
  local header = read_at(file, member.header, 30)
  if header:sub(1, 4) ~= "PK\3\4" then fail("member '%s' has no header", member.name) end
  member.start = member.header + 30 + number_at(header, 27, 2) + number_at(header, 29, 2)
  if member.start + member.packed > directory then fail("member '%s' lies outside the file", member.name) end
  local most = member.method == stored and member.packed or member.packed * largest_expansion
  if member.bytes > most or member.method == stored and member.bytes < most then
    fail("member '%s' can't have %.0f bytes, out of %.0f in the file", member.name, member.bytes, member.packed)
  end
end

--- The members of an archive, a file that is open, in the order of their bytes: {name =, bytes =, …}.
function zip.members(file, bytes)
  local text, count, directory = read_directory(file, bytes)
  local members, position = {}, 1
  while position <= #text do
    members[#members + 1], position = read_entry(text, position)
    find_bytes(file, members[#members], directory)
  end
  if #members ~= count then fail("the directory has %d entries, not %.0f", #members, count) end
  table.sort(members, function(a, b) return a.header < b.header end)
  for i = 2, #members do
    local before = members[i - 1]
    if members[i].header < before.start + before.packed then
      fail("members '%s' and '%s' overlap", before.name, members[i].name)
    end
  end
  return members
end

-- A function that gives the contents piece by piece, and nil at the end.
local function pieces_of(file, member)
  local position, left = member.start, member.packed
  local inflate, ended = member.method == deflated and zlib.inflate(-15), false
  return function()
    if left == 0 then
      if inflate and not ended then fail("member '%s': its compressed data is truncated", member.name) end
      return nil
    end
    if ended then fail("member '%s': there are bytes after its compressed data", member.name) end
    local length = math.min(left, inflate and piece_bytes or 2^20)
    local piece = read_at(file, position, length)
    position, left = position + length, left - length
    if not inflate then return piece end
    local ok, output, finished, consumed = pcall(inflate, piece)
    if not ok and tostring(output):find "[Mm]emory" then error(output, 0) end
    if not ok then fail("member '%s': its compressed data is damaged", member.name) end
    ended = finished
    if ended and consumed < member.packed then
      fail("member '%s': there are bytes after its compressed data", member.name)
    end
    return output
  end
end

--- Opens a member: {text = text(n), the next n bytes; read = read(address, bytes), which puts them there; finish =
-- finish(), an error unless all has been read and the checksum is right}.
function zip.open(file, member)
  local next_piece, checksum, sum = pieces_of(file, member), zlib.crc32(), 0
  local piece, used, given = "", 0, 0
  local function refill()
    piece, used = next_piece(), 0
    if not piece then fail("member '%s' is truncated", member.name) end
    given = given + #piece
    if given > member.bytes then fail("member '%s' has more bytes than the directory says", member.name) end
    sum = checksum(piece)
  end
  local opened = {}
  function opened.read(address, bytes)
    local target, position = ffi.cast("uint8_t *", address), 0
    while position < bytes do
      if used == #piece then refill() end
      local length = math.min(#piece - used, bytes - position)
      ffi.copy(target + position, ffi.cast("const char *", piece) + used, length)
      used, position = used + length, position + length
    end
  end
  function opened.text(count)
    local parts, length = {}, 0
    while length < count do
      if used == #piece then refill() end
      local part = piece:sub(used + 1, used + count - length)
      parts[#parts + 1], used, length = part, used + #part, length + #part
    end
    return table.concat(parts)
  end
  function opened.finish()
    if used < #piece then fail("member '%s' has more bytes than the directory says", member.name) end
    while piece do
      piece = next_piece()
      if piece and #piece > 0 then fail("member '%s' has more bytes than the directory says", member.name) end
    end
    if given ~= member.bytes then fail("member '%s' is truncated", member.name) end
    if sum ~= member.checksum then fail("member '%s' is damaged: its checksum is wrong", member.name) end
  end
  return opened
end

-- ---- Writing ----

local first_day = "\0\0\33\0" -- 1 January 1980, 0:00, so that the same members give the same bytes
local version = "\45\0"       -- 4.5: numbers of 64 bits
local names_are_utf8 = "\0\8"

-- What the headers of a member have in common.
local function description(member)
  return version .. names_are_utf8 .. bytes_of(member.method, 2) .. first_day .. bytes_of(member.checksum, 4) ..
    ("\255"):rep(8) .. bytes_of(#member.name, 2)
end

local function large_numbers(member, ...)
  local numbers = bytes_of(member.bytes, 8) .. bytes_of(member.packed, 8)
  for _, value in ipairs {...} do numbers = numbers .. bytes_of(value, 8) end
  return "\1\0" .. bytes_of(#numbers, 2) .. numbers
end

--- Writes an archive.
-- @param put      put(address or string, bytes) writes one piece after the other
-- @param members  a list of {name =, pieces = a function that calls its argument with one string after the other}
-- @param compress whether they are deflated
function zip.write(put, members, compress)
  local position, directory = 0, {}
  local function write(text)
    put(text, #text)
    position = position + #text
  end
  for _, source in ipairs(members) do
    local checksum, deflate, packed = zlib.crc32(), compress and zlib.deflate(6, -15), {}
    local member = {name = source.name, method = compress and deflated or stored, bytes = 0, packed = 0, checksum = 0}
    source.pieces(function(piece)
      member.checksum, member.bytes = checksum(piece), member.bytes + #piece
      if deflate then packed[#packed + 1] = deflate(piece) end
    end)
    if deflate then packed[#packed + 1] = deflate("", "finish") end
    for _, piece in ipairs(packed) do member.packed = member.packed + #piece end
    if not deflate then member.packed = member.bytes end
    local extra, header = large_numbers(member), position
    write("PK\3\4" .. description(member) .. bytes_of(#extra, 2) .. member.name .. extra)
    if deflate then
      for _, piece in ipairs(packed) do write(piece) end
    else
      source.pieces(write)
    end
    extra = large_numbers(member, header)
    directory[#directory + 1] = "PK\1\2" .. version .. description(member) .. bytes_of(#extra, 2) .. ("\0"):rep(10) ..
      ("\255"):rep(4) .. member.name .. extra
  end
  local start = position
  write(table.concat(directory))
  local record, length = position, position - start
  write("PK\6\6" .. bytes_of(44, 8) .. version .. version .. ("\0"):rep(8) .. bytes_of(#members, 8):rep(2) ..
    bytes_of(length, 8) .. bytes_of(start, 8))
  write("PK\6\7" .. ("\0"):rep(4) .. bytes_of(record, 8) .. "\1\0\0\0")
  write("PK\5\6" .. ("\0"):rep(4) .. ("\255"):rep(12) .. "\0\0")
end

return zip
