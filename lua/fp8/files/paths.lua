--- What is known of a path before a file is opened. Opening a FIFO would wait for whoever is at its other end.
local bit = require "bit"
local ffi = require "ffi"
local core = require "fp8.core"

ffi.cdef [[
long readlink(const char *path, char *buffer, size_t size);
int statx(int directory, const char *path, int flags, unsigned int mask, void *result);
]]

local C = ffi.C
local raise = core.raise

local current_directory, want_type = -100, 0x1 -- AT_FDCWD, STATX_TYPE
local type_bits, regular = 0xF000, 0x8000      -- S_IFMT, S_IFREG
local longest_path, most_links = 4096, 40      -- PATH_MAX, and what Linux follows

local paths = {}

--- An error unless `path` is a string without a zero byte, at which the system would end it.
-- @param caller name of the function whose argument it is
function paths.check(caller, path)
  if type(path) ~= "string" then raise(("%s: path must be a string, got %s"):format(caller, type(path))) end
  if path:find "%z" then raise(caller .. ": path contains a zero byte") end
end

--- Whether a path leads to a regular file; nil if it leads to nothing, or nothing that may be looked at.
function paths.is_file(path)
  local buffer = ffi.new "uint64_t[32]" -- struct statx, the mode at byte 28
  if C.statx(current_directory, path, 0, want_type, buffer) ~= 0 then return nil end
  return bit.band(ffi.cast("uint16_t *", buffer)[14], type_bits) == regular
end

--- The path behind symbolic links; nil where that is an open file of some process (/dev/stdout, /dev/fd/3), whose name
-- says nothing to who has it open; false where there are too many links.
function paths.follow(path)
  local buffer = ffi.new("char[?]", longest_path)
  for _ = 1, most_links do
    if path:find "^/proc/" or path:find "^/dev/fd/" then return nil end
    local length = tonumber(C.readlink(path, buffer, longest_path))
    if length < 0 then return path end
    local link = ffi.string(buffer, length)
    path = link:sub(1, 1) == "/" and link or path:gsub("[^/]*$", "") .. link
  end
  return false
end

--- Whether a path leads to a regular file that a whole one may replace; nil if there is nothing.
function paths.is_regular(path)
  local is_file = paths.is_file(path)
  return is_file and paths.follow(path) ~= nil
end

--- Opens a regular file for reading, a directory, a device or a pipe not.
-- @return the file; or nil and a text with the path, why not
function paths.open(path)
  if paths.is_file(path) == false then return nil, path .. ": is not a regular file" end
  return io.open(path, "rb")
end

return paths
