-- examples/lib/csv.lua: what becomes of the file that is there.
local ffi = require "ffi"
local support = require "spec.support"

ffi.cdef "int fileno(void *file);"

local root = support.path ""
local csv = dofile(root .. "examples/lib/csv.lua")

describe("A log of comma-separated values", function()
  local directory = support.temporary_directory(before_each, after_each)

  -- Whether test(1) says so.
  local function is(kind, path)
    local status = os.execute(("test -%s %s"):format(kind, path))
    return status == 0 or status == true
  end

  -- Two runs of two steps.
  local function write_runs(path)
    local log = csv.open(path, {"name", "seed", "step", "loss"})
    for seed = 1, 2 do
      log:begin("f32," .. seed, 0)
      for step = 1, 2 do log:write {step, step / 2} end
      log:flush()
    end
    return log
  end

  local expected = "name,seed,step,loss\nf32,1,1,0.5\nf32,1,2,1\nf32,2,1,0.5\nf32,2,2,1\n"

  local function list_files()
    local pipe = io.popen("ls " .. directory)
    local text = pipe:read "*a"
    pipe:close()
    return text
  end

  it("replaces a file, and goes on in one that is kept where the checkpoint is", function()
    local path = directory .. "/log.csv"
    support.write_file(path, "something else\n")
    write_runs(path)
    assert.equal(expected, support.read_file(path))
    support.write_file(path, expected .. "f32,2,3,9\nf32,2,4,1.")
    local log = csv.open(path, {"name", "seed", "step", "loss"}, true)
    log:begin("f32,2", 1)
    log:write {2, 7}
    log:flush()
    assert.equal((expected:gsub("2,2,1\n", "2,2,7\n")), support.read_file(path))
    support.fails("other columns", csv.open, path, {"step"}, true)
  end)

  it("writes the file behind a symbolic link, which stays", function()
    os.execute(("mkdir %s/far && ln -s far/log.csv %s/link.csv"):format(directory, directory))
    for _ = 1, 2 do -- the first one makes the file
      write_runs(directory .. "/link.csv")
      assert.equal(expected, support.read_file(directory .. "/far/log.csv"))
      assert.is_true(is("L", directory .. "/link.csv"))
    end
    assert.equal("far\nlink.csv\n", list_files())
  end)

  it("writes into a pipe as it goes, and leaves it there", function()
    local path, output = directory .. "/pipe", directory .. "/output"
    assert.equal(0, os.execute(("mkfifo %s"):format(path)))
    os.execute(("(cat %s >%s; echo end >>%s) &"):format(path, output, output))
    write_runs(path).file:close()
    for _ = 1, 500 do
      local file = io.open(output)
      local text = file and file:read "*a" or ""
      if file then file:close() end
      if text:find "end\n$" then break end
      os.execute "sleep 0.01"
    end
    assert.equal(expected .. "end\n", support.read_file(output))
    assert.equal("output\npipe\n", list_files())
  end)

  it("writes into an open file by its descriptor, and leaves it there", function()
    local path = directory .. "/output"
    local file = assert(io.open(path, "w"))
    file:write "before\n"
    file:flush()
    write_runs("/dev/fd/" .. ffi.C.fileno(file)).file:close()
    file:seek "end"
    file:write "after\n"
    file:close()
    assert.equal("before\n" .. expected .. "after\n", support.read_file(path))
    assert.equal("output\n", list_files())
  end)

  it("says which path can't be written", function()
    support.fails(directory, write_runs, directory)
    support.fails(directory .. "/none/log.csv", write_runs, directory .. "/none/log.csv")
    os.execute(("ln -s loop %s/loop"):format(directory))
    support.fails("symbolic links", write_runs, directory .. "/loop")
  end)
end)
