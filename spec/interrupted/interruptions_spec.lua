-- Every public function, interrupted at its allocations by finalizers that call random others: it gives what it gives
-- alone, leaves the state as it was and no memory in use, or says what was taken away from it.
local seed = require "spec.support.seed"
local support = require "spec.support"

local count = tonumber(os.getenv "FP8_INTERRUPTIONS") or 2000

support.each_device(function(device)
  describe("Public functions", function()
    local folder = support.temporary_directory(setup, teardown)

    it(("can be interrupted %d times"):format(count), function()
      local core_folder = package.searchpath("fp8.core", package.cpath):match "^(.*)/"
      local headers = io.popen "pkg-config --cflags luajit 2>/dev/null || echo -I/usr/include/luajit-2.1"
      support.compile(support.fixture "interrupt.c", folder .. "/interrupt.so",
        ("-shared -fPIC -I'%s' %s -L'%s' -l:core.so -Wl,-rpath,\"$(realpath '%s')\""):format(support.path "src",
          headers:read "*l", core_folder, core_folder))
      headers:close()
      local ok, output = support.run(("%s %d %d %s %s/file %s"):format(support.fixture "interruptions.lua", count, seed,
        device, folder, folder))
      assert.is_true(ok, output)
      assert.is_truthy(output:find "^%d+ interruptions %(%d+ where a tensor was allocated%)", output)
    end)
  end)
end)
