--- Writing a file so that under its name there is a whole one at every moment, whatever is killed or loses power: the
-- one before, until the new one is complete and on the disk.
--
-- The bytes go to PATH.tmp, which is then renamed. One that a killed process left behind is written over by the next.
-- Where PATH is a symbolic link, all this happens to the file that it leads to, and the link stays.
local bit = require "bit"
local ffi = require "ffi"

ffi.cdef [[
size_t fwrite(const void *data, size_t size, size_t count, void *file);
int close(int descriptor);
int fileno(void *file);
int flock(int descriptor, int operation);
int fsync(int descriptor);
int ftruncate(int descriptor, long length);
int open(const char *path, int flags, ...);
long readlink(const char *path, char *buffer, size_t size);
char *strerror(int error);
int statx(int directory, const char *path, int flags, unsigned int mask, void *result);
]]

local C = ffi.C

local current_directory, empty_path = -100, 0x1000 -- AT_FDCWD, AT_EMPTY_PATH
local want_mode, want_inode = 0x3, 0x100           -- STATX_TYPE | STATX_MODE, STATX_INO
local exclusive_now, would_block = 0x6, 11         -- LOCK_EX | LOCK_NB, EWOULDBLOCK
local read_only = 0                                -- O_RDONLY
local longest_path, most_links = 4096, 40          -- PATH_MAX, and what Linux follows

local atomic_file = {}

local function fail(message, ...) error({message = message:format(...)}, 0) end

local function fail_with_errno() fail("can't write: %s", ffi.string(C.strerror(ffi.errno()))) end

-- Type and mode of a file or a descriptor, and its inode; nil if there is none.
local function status(descriptor, path)
  local buffer = ffi.new("uint64_t[32]") -- struct statx: mode at byte 28, inode at byte 32
  local flags = path == "" and empty_path or 0
  if C.statx(descriptor, path, flags, want_mode + want_inode, buffer) ~= 0 then return nil end
  return ffi.cast("uint16_t *", buffer)[14], buffer[4]
end

-- The path behind symbolic links; nil where that is an open file of some process (/dev/stdout, /dev/fd/3), whose name
-- says nothing to who has it open.
local function follow(path)
  local buffer = ffi.new("char[?]", longest_path)
  for _ = 1, most_links do
    if path:find "^/proc/" or path:find "^/dev/fd/" then return nil end
    local length = tonumber(C.readlink(path, buffer, longest_path))
    if length < 0 then return path end
    local link = ffi.string(buffer, length)
    path = link:sub(1, 1) == "/" and link or path:gsub("[^/]*$", "") .. link
  end
  fail "leads through too many symbolic links"
end

--- Whether a path leads to a regular file that a whole one may replace; nil if there is nothing.
function atomic_file.is_regular(path)
  local mode = status(current_directory, path)
  return mode and bit.band(mode, 0xF000) == 0x8000 and follow(path) ~= nil
end

-- The path of the file to replace. Renaming the finished file over one that is no regular file, /dev/null say, would
-- replace that.
local function find_target(path)
  if atomic_file.is_regular(path) == false then fail "is not a regular file" end
  return follow(path)
end

-- The temporary file, empty and locked, so that two processes which save to one path don't write into each other's.
local function open_temporary(temporary)
  while true do
    local file, reason = io.open(temporary, "ab")
    if not file then fail("can't write: %s", reason) end
    local descriptor = C.fileno(file)
    if C.flock(descriptor, exclusive_now) ~= 0 and ffi.errno() == would_block then
      file:close()
      fail "another process is writing it"
    end
    -- Whoever held the lock before may have renamed this very file: then it is no temporary one any more.
    local _, inode = status(descriptor, "")
    local _, inode_by_name = status(current_directory, temporary)
    if inode == inode_by_name then
      if C.ftruncate(descriptor, 0) == 0 then return file, descriptor end
      file:close()
      fail_with_errno()
    end
    file:close()
  end
end

-- The rename lasts once the directory is on the disk. Where directories can't be synced there is nothing more to do.
local function sync_directory(path)
  local descriptor = C.open(path:match("^.*/") or ".", read_only)
  if descriptor < 0 then return end
  C.fsync(descriptor)
  C.close(descriptor)
end

--- Writes a file in one piece as seen from outside. An error, of `write` too, leaves things as they were.
-- @param path  of the file; its directory has to exist
-- @param write write(put), which calls put(address or string, bytes) for one piece after the other
function atomic_file.write(path, write)
  path = find_target(path)
  local temporary = path .. ".tmp"
  local file, descriptor = open_temporary(temporary)
  local ok, failure = pcall(function()
    write(function(address, bytes)
      if tonumber(C.fwrite(address, 1, bytes, file)) ~= bytes then fail_with_errno() end
    end)
    local flushed, reason = file:flush()
    if not flushed then fail("can't write: %s", reason) end
    if C.fsync(descriptor) ~= 0 then fail_with_errno() end
    local renamed, why = os.rename(temporary, path)
    if not renamed then fail("can't write: %s", why) end
  end)
  if not ok then os.remove(temporary) end
  file:close()
  if not ok then error(failure, 0) end
  sync_directory(path)
end

return atomic_file
