--- Writing a file so that under its name there is a whole one at every moment, whatever is killed or loses power: the
-- one before, until the new one is complete and on the disk.
--
-- The bytes go to a file without a name, which a killed process doesn't leave behind. Once they are on the disk it gets
-- a random name that no other file has, .fp8-….tmp in the same directory, and is renamed. Where the file system has no
-- files without a name, it has that one from the beginning. No other file is opened, written or replaced.
--
-- Where PATH is a symbolic link, all this happens to the file that it leads to, and the link stays. Of several
-- processes that write to one path at a time, each writes a file of its own, and the last one to finish stays.
local core = require "fp8.core"
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

-- Calls make(name), which returns a negative number on failure, with random names until there is none of that name;
-- file.name is the one that it made.
local function with_new_name(file, make)
  while true do
    file.name = random_name(file.directory)
    local result = make(file.name)
    if result >= 0 then return result end
    file.name = nil
    if ffi.errno() ~= exists then fail_with_errno() end
  end
end

local function path_of(descriptor) return ("/proc/self/fd/%d"):format(descriptor) end

local function close(file)
  local descriptor = file.descriptor
  file.descriptor = -1 -- first: closed twice it might be another file
  if descriptor >= 0 then C.close(descriptor) end
end

-- A new file in file.directory, file.descriptor and file.name if it has one.
local function create(file)
  local directory = file.directory == "" and "." or file.directory
  file.descriptor = C.open(directory, write_unnamed, ffi.cast("unsigned int", everyone))
  if file.descriptor >= 0 then
    -- Without /proc it could never get a name.
    if paths.is_file(path_of(file.descriptor)) then return end
    close(file)
  end
  file.descriptor = with_new_name(file, function(new)
    return C.open(new, write_new, ffi.cast("unsigned int", everyone))
  end)
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

local function write_file(file, path, write)
  create(file)
  local descriptor = file.descriptor
  write(function(address, bytes) put_all(descriptor, address, bytes) end)
  if C.fsync(descriptor) ~= 0 then fail_with_errno() end
  if not file.name then
    with_new_name(file, function(new)
      return C.linkat(current_directory, path_of(descriptor), current_directory, new, follow_link)
    end)
  end
  if C.rename(file.name, path) ~= 0 then fail_with_errno() end
  file.name = nil
end

-- May be interrupted, and called again.
local function clean(file)
  if file.name then C.unlink(file.name) end
  file.name = nil
  close(file)
end

--- Writes a file in one piece as seen from outside. An error, of `write` too, leaves things as they were.
-- @param path  of the file; its directory has to exist
-- @param write write(put), which calls put(address or string, bytes) for one piece after the other
function atomic_file.write(path, write)
  path = find_target(path)
  local file = {directory = path:match "^.*/" or "", descriptor = -1}
  core.finally(function() clean(file) end, write_file, file, path, write)
  sync_directory(file.directory)
end

return atomic_file
