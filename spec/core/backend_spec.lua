-- Libraries beside fp8/core.so that are no backend of this build are refused, by an error.
local support = require "spec.support"

local function shell(command) assert(os.execute(command)) end

describe("A cuda.so", function()
  local folder

  --- What a program says that asks for CUDA, with core.so and whatever lies at `folder`/fp8/cuda.so.
  local function asked()
    local code = ([[
      package.cpath = "%s/?.so;" .. package.cpath
      local fp8 = require "fp8"
      local available, reason = fp8.cuda.is_available()
      assert(not available)
      print(select(2, pcall(fp8.zeros, 1, {device = "cuda"})))
      print(reason)
      print(fp8.ones(2):sum():item())
    ]]):format(folder)
    local ok, output = support.run_lua(code)
    assert.is_true(ok, output)
    local raised, reason, sum = output:match "^(.-)\n(.-)\n(.-)\n$"
    assert.equal("2", sum)
    assert.is_truthy(raised:find(reason, 1, true), output)
    return reason
  end

  local function compiled(flags)
    support.compile(support.fixture "backend.c", folder .. "/fp8/cuda.so",
      ("-shared -fPIC -I'%s' %s"):format(support.path "src", flags))
    return asked()
  end

  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    shell(("mkdir -p '%s/fp8'"):format(folder))
    shell(("cp '%s' '%s/fp8/core.so'"):format(package.searchpath("fp8.core", package.cpath), folder))
  end)

  teardown(function() shell(("rm -r '%s'"):format(folder)) end)

  it("with a table of another version or size is refused", function()
    for _, flags in ipairs {"-DVERSION=BACKEND_VERSION+1", "-DVERSION=0", "'-DSIZE=sizeof(Backend)-8'", "-DSIZE=0"} do
      local reason = compiled(flags)
      assert.is_truthy(reason:find("is of another build of fp8", 1, true), reason)
      assert.is_truthy(reason:find("build and install both together", 1, true), reason)
    end
  end)

  it("from before backends said their version is refused", function()
    assert.is_truthy(compiled("-DNAME=fp8_cuda_backend_open"):find("fp8_backend_open", 1, true))
  end)

  it("that needs what this core.so does not have is refused", function()
    assert.is_truthy(compiled("-DNEEDS=gone_from_core"):find("gone_from_core", 1, true))
  end)

  it("that is no library is refused", function()
    support.write_file(folder .. "/fp8/cuda.so", "not a library")
    assert.is_truthy(asked():find("can't be loaded", 1, true))
  end)

  it("without a device is none", function()
    support.compile(support.fixture "backend.c", folder .. "/fp8/cuda.so",
      ("-shared -fPIC -I'%s'"):format(support.path "src"))
    local ok, output = support.run_lua(([[
      package.cpath = "%s/?.so;" .. package.cpath
      local fp8 = require "fp8"
      print(fp8.cuda.is_available())
      print(pcall(fp8.zeros, 1, {device = "cuda:3"}))
    ]]):format(folder))
    assert.is_true(ok, output)
    assert.is_truthy(output:find("there is no CUDA device", 1, true), output)
    assert.is_truthy(output:find("no device cuda:3: there are 0", 1, true), output)
  end)
end)
