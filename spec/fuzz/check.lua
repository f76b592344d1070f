--- What a reader makes of an input, for the fuzzer and for the spec that replays its corpus. A reader (readers/) is a
-- table:
--
--   files   the files of lua/fp8 whose lines count as its own
--   kinds   every message that it may refuse an input with, "…" in them standing for anything, FILE for the path
--   memory  memory(bytes): what tensors may take while it reads an input, in bytes
--   read    read(path): what is in the file; or an error
--   verify  verify(value, bytes, path): an error if what was read is wrong, or is another thing once it has been saved
--           as the file `path` and read again
--   refused refused(), or nil: an error if an input that was refused has changed anything
--   mutate  mutate(bytes, longest, random, mutate_bytes): another input like this one, of at most `longest` bytes if
--           that can be; random(n) draws from 1 to n, and mutate_bytes(bytes, longest) is libFuzzer's own way
local core = require "fp8.core"

local function write_file(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

-- A Lua pattern for a kind of message.
local function pattern_of(kind)
  return "^" .. kind:gsub("%p", "%%%0"):gsub("…", ".*") .. "$"
end

local patterns = setmetatable({}, {__mode = "k"})

--- The kind of a message, as the reader has it; nil if there is none.
local function kind_of(reader, message)
  if not patterns[reader] then
    patterns[reader] = {}
    for i, kind in ipairs(reader.kinds) do patterns[reader][i] = pattern_of(kind) end
  end
  for i, pattern in ipairs(patterns[reader]) do
    if message:find(pattern) then return reader.kinds[i] end
  end
  return nil
end

-- A message without the line that it points to, and without the path.
local function without_places(message, path)
  message = message:gsub("^[^\n]-:%d+: ", "", 1)
  local start, stop = message:find(path, 1, true)
  return start and message:sub(1, start - 1) .. "FILE" .. message:sub(stop + 1) or message
end

local check = {kind_of = kind_of}

--- Reads an input. An error is a finding.
-- @param directory for files: input, and what the reader saves
-- @return "loads", or the message with which it was refused
function check.input(reader, bytes, directory)
  local path = directory .. "/input"
  write_file(path, bytes)
  local before = core.memory("cpu").in_use
  core.reset_peak_memory "cpu"
  local ok, result = pcall(reader.read, path)
  local taken, allowed = core.memory("cpu").peak - before, reader.memory(bytes)
  if taken > allowed then
    error(("tensors took %d bytes for an input of %d, %d are allowed"):format(taken, #bytes, allowed))
  end
  if ok then
    reader.verify(result, bytes, directory .. "/copy")
    return "loads"
  end
  if type(result) ~= "string" then error("the error is a " .. type(result)) end
  local message = without_places(result, path)
  if not kind_of(reader, message) then error("an error of no known kind: " .. message) end
  if reader.refused then reader.refused() end
  return message
end

return check
