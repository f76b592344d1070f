-- Memory that runs out anywhere: in fp8, in Lua, in the libraries. Every allocation of every public function is made to
-- fail, alone and with all that follow it (spec/fixtures/allocations.lua says what has to hold), in processes of their
-- own. FP8_ALLOCATION_STRIDE=1 fails all of them instead of every twenty-third.
--
-- Some libraries can't go on without memory, so that what they need is there before they are called, and their own
-- allocations are spared here: lua-cjson, OpenBLAS and OpenMP end the process, oneDNN and, where a capture begins,
-- CUDA's driver write to what they have not got.
local support = require "spec.support"

local stride = tonumber(os.getenv "FP8_ALLOCATION_STRIDE") or 23
local spared = "cjson.so,libgomp,libopenblas,libdnnl,libcuda.so,"

-- Work only on a CUDA device or among several processes, or always raise an error.
local untouched = "core.attention_backward core.distributed_agree core.distributed_all_gather " ..
  "core.distributed_all_reduce core.distributed_average core.distributed_broadcast " ..
  "core.distributed_broadcast_each core.distributed_gather_parts core.distributed_join core.distributed_receive " ..
  "core.distributed_reduce_scatter core.distributed_send core.distributed_start core.graph_begin core.graph_end " ..
  "core.graph_prepare core.graph_release core.graph_replay cuda.graph distributed.all_gather " ..
  "distributed.all_reduce_ distributed.barrier distributed.broadcast_ distributed.device distributed.recv_ " ..
  "distributed.send metatable.__le metatable.__lt methods.cuda module.forward"

describe("An allocation that fails", function()
  local library

  setup(function()
    library = os.tmpname()
    local luajit = "$(pkg-config --cflags luajit 2>/dev/null || echo -I/usr/include/luajit-2.1)"
    support.compile(support.fixture "failing.c", library, "-shared -fPIC -fno-builtin " .. luajit .. " -ldl")
  end)

  teardown(function() os.remove(library) end)

  for way, what in support.sorted_pairs {once = "alone", on = "and all that follow"} do
    it(what .. ", is an error that changes nothing, or none", function()
      if not support.can_limit_memory then return end
      local arguments = ("-joff '%s' '%s' %d %s"):format(support.fixture "allocations.lua", library, stride, way)
      local ok, output = support.run(arguments, ("LD_PRELOAD='%s' FAILING_SPARES=%s"):format(library, spared))
      assert.is_true(ok, output)
      local complaints, missing, functions, places =
        output:match "^(.-)missing: ([^\n]*)\n(%d+) functions, (%d+) places"
      assert.equal("", complaints)
      if #support.devices == 1 then assert.equal(untouched, missing) end
      assert.is_true(tonumber(functions) > 300 and tonumber(places) > 3000 / stride)
    end)
  end

  -- What is not to be had is tried with limits of the address space, from nothing to enough.
  for name, code in support.sorted_pairs {
    ["a product of OpenBLAS"] = "local a = fp8.full({100, 100}, 0.5) function work() " ..
      "assert(a:matmul(a):sum():item() == 100 * 100 * 25) end",
    ["a float32 product of either"] = "local a = fp8.full({300, 300}, 0.5) function work() " ..
      "assert(a:matmul(a):sum():item() == 300 * 300 * 75) end",
    ["a product of oneDNN"] = "local a = fp8.full({300, 300}, 0.5, {dtype = 'bf16'}) function work() " ..
      "assert(a:matmul(a):float():sum():item() == 300 * 300 * 75) end",
    ["a convolution of oneDNN"] = "local a, w = fp8.full({4, 64, 20, 20}, 0.5), fp8.full({64, 64, 3, 3}, 0.5) " ..
      "function work() assert(fp8.conv2d(a, w):sum():item() == 4 * 64 * 18 * 18 * 64 * 9 / 4) end",
    ["threads"] = "local a = fp8.full({300, 300}, 0.5) function work() assert((a + a):sum():item() == 90000) end",
  } do
    it("is an error in the first of " .. name, function()
      if not support.can_limit_memory then return end
      for megabytes = 0, 480, 20 do
        local ok, output = support.run_lua(([[
          local fp8 = require "fp8"
          %s
          local leave = dofile %q
          collectgarbage()
          leave(%d)
          local ok, message = pcall(work)
          assert(ok or message:find "out of memory", message)
          print "done"
        ]]):format(code, support.fixture "address_space.lua", megabytes * 2 ^ 20))
        assert.is_true(ok, output)
        assert.equal("done\n", output)
      end
    end)
  end
end)

describe("What the cache of freed tensors keeps", function()
  it("is given back for Lua, and for the library's own blocks", function()
    if not support.can_limit_memory then return end
    local ok, output = support.run_lua(([[
      local fp8 = require "fp8"
      local kept = fp8.quantize_blockwise(fp8.ones(4096), fp8.create_map(), 64)
      local list = {}
      for i = 1, 100 do list[i] = fp8.ones(2 ^ 20) end
      list = nil
      collectgarbage()
      collectgarbage()
      assert(fp8.memory("cpu").cached > 200 * 2 ^ 20)
      local leave = dofile %q
      leave(2 ^ 20)
      -- More than is left for Lua, then for compiled maps.
      local tables = {}
      for i = 1, 60 do tables[i] = ("x"):rep(2 ^ 20) .. i end
      assert(fp8.memory("cpu").cached == 0)
      for i = 1, 300 do fp8.quantize_blockwise(kept:float(), fp8.tensor {unpack((function()
        local map = {}
        for k = 1, 256 do map[k] = (k - 128) * (1 + i / 1000) end
        return map
      end)())}, 64) end
      print "done"
    ]]):format(support.fixture "address_space.lua"))
    assert.is_true(ok, output)
    assert.equal("done\n", output)
  end)
end)
