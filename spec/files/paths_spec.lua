-- Where fp8.save writes, and what it and the readers refuse to open: no other file is ever touched, and nothing waits.
local ffi = require "ffi"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

ffi.cdef "unsigned int umask(unsigned int mask);"

local function run(command, ...)
  assert.equal(0, os.execute(command:format(...)))
end

local function output_of(command, ...)
  local pipe = io.popen(command:format(...))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

describe("fp8.save", function()
  local directory = support.temporary_directory(before_each, after_each)
  local path = directory .. "/run.safetensors"

  local function list_files() return output_of("ls -A %s", directory) end

  local function assert_holds(values, file)
    assert.same(values, fp8.load(file).x:totable())
  end

  it("leaves what others have beside its file alone, whatever it is called", function()
    for _, kind in ipairs {"file", "link", "hard link", "FIFO"} do
      local beside, other = path .. ".tmp", directory .. "/other"
      support.write_file(other, "mine")
      if kind == "file" then
        support.write_file(beside, "mine")
      elseif kind == "FIFO" then
        run("mkfifo %s", beside)
      else
        run("ln %s %s %s", kind == "link" and "-s" or "", other, beside)
      end
      for i = 1, 3 do fp8.save(path, {x = fp8.tensor {i, 2}}) end
      assert_holds({3, 2}, path)
      assert.equal("mine", support.read_file(other))
      if kind ~= "FIFO" then assert.equal("mine", support.read_file(beside)) end
      assert.equal("other\nrun.safetensors\nrun.safetensors.tmp\n", list_files())
      assert.equal("regular file\n", output_of("stat -c %%F %s", path))
      run("rm %s %s %s", path, beside, other)
    end
  end)

  it("replaces one name of a file with several, and not what the others hold", function()
    fp8.save(path, {x = fp8.tensor {1, 2}})
    run("ln %s %s/second", path, directory)
    fp8.save(path, {x = fp8.tensor {3}})
    assert_holds({3}, path)
    assert_holds({1, 2}, directory .. "/second")
  end)

  it("writes into the directory that a path without one means, and takes the longest names", function()
    local names = {("n"):rep(255), "plain"}
    for _, name in ipairs(names) do
      local ended, text = support.run_lua(([[
        local fp8 = require "fp8"
        local save, tensors = fp8.save, {x = fp8.tensor {7}}
        require("ffi").cdef "int chdir(const char *path);"
        assert(require("ffi").C.chdir "%s" == 0)
        save("%s", tensors)]]):format(directory, name))
      assert.is_true(ended, text)
      assert_holds({7}, directory .. "/" .. name)
    end
    assert.equal(table.concat(names, "\n") .. "\n", list_files())
  end)

  it("gives a new file the permissions that the umask leaves", function()
    local before = ffi.C.umask(tonumber("027", 8))
    local ok, message = pcall(fp8.save, path, {x = fp8.zeros(1)})
    ffi.C.umask(before)
    assert(ok, message)
    assert.equal("640\n", output_of("stat -c %%a %s", path))
  end)

  it("leaves nothing where it fails in the middle", function()
    for _, target in ipairs {directory .. "/none/x", directory .. "/loop/x", "/proc/x"} do
      fails("save: " .. target, fp8.save, target, {x = fp8.zeros(2)})
    end
    -- Room for the header, not for the numbers.
    fp8.save(path, {x = fp8.tensor {1}})
    local ended, text = support.run_lua(([[
      local fp8, ffi = require "fp8", require "ffi"
      ffi.cdef [=[
        typedef struct { long now, most; } Limit;
        int setrlimit(int which, const Limit *limit);
        void *signal(int number, void *handler);
      ]=]
      ffi.C.signal(25, ffi.cast("void *", 1)) -- SIGXFSZ, SIG_IGN
      ffi.C.setrlimit(1, ffi.new("Limit", 4096, 4096)) -- RLIMIT_FSIZE
      print(pcall(fp8.save, "%s", {x = fp8.zeros(5000)}))]]):format(path))
    assert.is_true(ended, text)
    assert.is_truthy(text:find("save: " .. path .. ": can't write: File too large", 1, true), text)
    assert_holds({1}, path)
    assert.equal("run.safetensors\n", list_files())
  end)

  it("replaces nothing but a regular file, and waits for nobody", function()
    run("mkfifo %s/pipe", directory)
    run("ln -s pipe %s/link", directory)
    for _, name in ipairs {"/pipe", "/link", "/", ""} do
      fails("is not a regular file", fp8.save, directory .. name, {x = fp8.zeros(2)})
    end
    for _, name in ipairs {"/dev/zero", "/dev/stdout", "/dev/fd/1"} do
      fails(name .. ": is not a regular file", fp8.save, name, {x = fp8.zeros(2)})
    end
    assert.equal("link\npipe\n", list_files())
    assert.equal("fifo\n", output_of("stat -c %%F %s/pipe", directory))
  end)

  it("takes no path with a zero byte for a shorter one", function()
    for _, wrong in ipairs {path .. "\0", path .. "\0.safetensors", "\0" .. path, "\0"} do
      fails("save: path contains a zero byte", fp8.save, wrong, {x = fp8.zeros(2)})
    end
    assert.equal("", list_files())
  end)
end)

describe("A reader", function()
  local directory = support.temporary_directory(setup, teardown)

  for name, read in support.sorted_pairs {load = fp8.load, read_idx = fp8.data.read_idx} do
    it("refuses what is no regular file and waits for nobody: " .. name, function()
      run("mkfifo %s/%s", directory, name)
      run("ln -s %s %s/%s.link", name, directory, name)
      for _, path in ipairs {directory .. "/" .. name, directory .. "/" .. name .. ".link", directory, "/dev/zero"} do
        fails(("%s: %s: is not a regular file"):format(name, path), read, path)
      end
    end)

    it("takes no path with a zero byte for a shorter one: " .. name, function()
      local path = directory .. "/" .. name .. ".x"
      support.write_file(path, support.safetensors "{}")
      fails(name .. ": path contains a zero byte", read, path .. "\0")
      fails(name .. ": path contains a zero byte", read, path .. "\0" .. path)
    end)
  end

  it("reads a regular file through any link", function()
    fp8.save(directory .. "/x", {x = fp8.tensor {4}})
    run("cd %s && ln -s x one && ln -s $PWD/one two && ln x three", directory)
    for _, name in ipairs {"one", "two", "three"} do
      assert.same({4}, fp8.load(directory .. "/" .. name).x:totable())
    end
  end)

  it("does not wait for the files of Fashion-MNIST either", function()
    local images = directory .. "/t10k-images-idx3-ubyte"
    run("mkfifo %s", images)
    local ended, text = support.run_lua(([[
      local fp8 = require "fp8"
      require("ffi").C.setenv("FASHION_MNIST", "%s", 1)
      print(pcall(fp8.data.fashion_mnist, "test"))]]):format(directory))
    assert.is_true(ended, text)
    assert.is_truthy(text:find("is not a regular file", 1, true), text)
  end)
end)
