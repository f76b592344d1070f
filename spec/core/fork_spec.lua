-- A child process, by fork, has none of its parent's threads.
local support = require "spec.support"

local function forked(size, before, inside)
  return support.run_lua(([[
    local ffi = require "ffi"
    local fp8 = require "fp8"
    ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int); unsigned alarm(unsigned);"
    local x = fp8.full({%d, %d}, 0.5)
    %s
    local child = ffi.C.fork()
    if child == 0 then
      ffi.C.alarm(20) -- ends what hangs
      local ok, message = pcall(function() %s end)
      io.stderr:write(ok and "worked" or message, "\n")
      ffi.C._exit(0)
    end
    local status = ffi.new "int[1]"
    assert(ffi.C.waitpid(child, status, 0) == child)
    print(status[0], x:sum():item(), (x:matmul(x)):max():item())
  ]]):format(size, size, before, inside))
end

describe("A forked process", function()
  local training = [[
    local layer = fp8.LinearMixed(500, 10)
    layer(x):sum():backward()
    fp8.optim.SGD(layer, {lr = 1}):step()
  ]]
  local works = {
    exp = "local _ = x:exp():sum():item()", matmul = "local _ = x:matmul(x):sum():item()", training = training,
    ["matmul of bf16"] = "local y = x:bfloat16() local _ = y:matmul(y)",
  }
  -- Whatever the parent had done, whatever the child wants.
  for had, before in support.sorted_pairs(works) do
    it("is refused what needs threads that its parent had started in " .. had, function()
      for wanted, inside in support.sorted_pairs(works) do
        local ok, output = forked(500, before, inside)
        assert.is_true(ok, output)
        assert.is_truthy(output:find("this process was forked", 1, true), wanted .. ": " .. output)
        assert.is_truthy(output:find "\n0%s+125000%s+125%s", wanted .. ": " .. output)
      end
    end)
  end

  it("can compute if its parent had not begun", function()
    local ok, output = forked(4, "", "assert((fp8.full({3}, 2) * 2):totable()[3] == 4)")
    assert.is_true(ok, output)
    assert.is_truthy(output:find("worked\n", 1, true), output)
  end)
end)
