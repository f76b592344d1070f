--- Writing a file so that under its name there is a whole one at every moment, whatever is killed or loses power: the
-- one before, until the new one is complete and on the disk.
--
-- The bytes go to a file without a name, which a killed process doesn't leave behind. Once they are on the disk it gets
-- a random name that no other file has, .fp8-….tmp in the same directory, and is renamed. Where the file system has no
-- files without a name, it has that one from the beginning. No other file is opened, written or replaced.
--
-- Where PATH is a symbolic link, all this happens to the file that it leads to, and the link stays. Of several
-- processes that write to one path at a time, each writes a file of its own, and the last one to finish stays.
local ffi = require "ffi"
local paths = require "fp8.files.paths"

ffi.cdef [[
int close(int descriptor);
int fsync(int descriptor);
long getrandom(void *buffer, size_t size, unsigned int flags);
int linkat(int directory, const char *path, int new_directory, const char *new_path, int flags);
int open(const char *path, int flags, ...);
int rename(const char *path, const char *new_path);
char *strerror(int error);
int unlink(const char *path);
long write(int descriptor, const void *data, size_t size);
]]

local C = ffi.C

local read_only = 0x80000                           -- O_RDONLY | O_CLOEXEC
local write_unnamed = 0x490001                      -- O_WRONLY | O_CLOEXEC | O_TMPFILE
local write_new = 0xA00C1                           -- O_WRONLY | O_CLOEXEC | O_CREAT | O_EXCL | O_NOFOLLOW
local everyone = 0x1B6                              -- may read and write, but for the umask
local current_directory, follow_link = -100, 0x400  -- AT_FDCWD, AT_SYMLINK_FOLLOW
local interrupted, exists = 4, 17                   -- EINTR, EEXIST
local most_at_once = 2^30                           -- bytes for write, which takes less than 2^31

local atomic_file = {}

local function fail(message, ...) error({message = message:format(...)}, 0) end

local function fail_with_errno() fail("can't write: %s", ffi.string(C.strerror(ffi.errno()))) end

-- The path of the file to replace. Renaming the finished file over one that is no regular file, /dev/null say, would
-- replace that.
local function find_target(path)
  if path:find "%z" then fail "the path contains a zero byte" end
  if paths.is_regular(path) == false then fail "is not a regular file" end
  local target = paths.follow(path)
  if not target then fail(target == nil and "is not a regular file" or "leads through too many symbolic links") end
  return target
end

local function random_name(directory)
  local bytes = ffi.new "uint8_t[8]"
  if C.getrandom(bytes, 8, 0) ~= 8 then fail_with_errno() end
  return directory .. ".fp8-" .. ffi.string(bytes, 8):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
    .. ".tmp"
end

-- Calls make(name), which returns a negative number on failure, with random names until there is none of that name.
local function with_new_name(directory, make)
  while true do
    local name = random_name(directory)
    local result = make(name)
    if result >= 0 then return name, result end
    if ffi.errno() ~= exists then fail_with_errno() end
  end
end

local function path_of(descriptor) return ("/proc/self/fd/%d"):format(descriptor) end

-- A new file in a directory: its descriptor, and its name if it has one.
local function create(directory)
  local descriptor = C.open(directory == "" and "." or directory, write_unnamed, ffi.cast("unsigned int", everyone))
  if descriptor >= 0 then
    -- Without /proc it could never get a name.
    if paths.is_file(path_of(descriptor)) then return descriptor end
    C.close(descriptor)
  end
  local name
  name, descriptor = with_new_name(directory, function(new)
    return C.open(new, write_new, ffi.cast("unsigned int", everyone))
  end)
  return descriptor, name
end

local function put_all(descriptor, address, bytes)
  local data, position = ffi.cast("const uint8_t *", address), 0
  while position < bytes do
    local written = tonumber(C.write(descriptor, data + position, math.min(bytes - position, most_at_once)))
    if written >= 0 then
      position = position + written
    elseif ffi.errno() ~= interrupted then
      fail_with_errno()
    end
  end
end

-- The rename lasts once the directory is on the disk. Where directories can't be synced there is nothing more to do.
local function sync_directory(directory)
  local descriptor = C.open(directory == "" and "." or directory, read_only)
  if descriptor < 0 then return end
  C.fsync(descriptor)
  C.close(descriptor)
end

--- Writes a file in one piece as seen from outside. An error, of `write` too, leaves things as they were.
-- @param path  of the file; its directory has to exist
-- @param write write(put), which calls put(address or string, bytes) for one piece after the other
function atomic_file.write(path, write)
  path = find_target(path)
  local directory = path:match "^.*/" or ""
  local descriptor, name = create(directory)
  local ok, failure = pcall(function()
    write(function(address, bytes) put_all(descriptor, address, bytes) end)
    if C.fsync(descriptor) ~= 0 then fail_with_errno() end
    name = name or with_new_name(directory, function(new)
      return C.linkat(current_directory, path_of(descriptor), current_directory, new, follow_link)
    end)
    if C.rename(name, path) ~= 0 then fail_with_errno() end
  end)
  if not ok and name then C.unlink(name) end
  C.close(descriptor)
  if not ok then error(failure, 0) end
  sync_directory(directory)
end

return atomic_file
