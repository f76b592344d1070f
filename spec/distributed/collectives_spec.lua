-- Collectives of every dtype against what one process computes: spec/fixtures/distributed/collectives.lua.
local fp8 = require "fp8"
local ranks = require "spec.support.ranks"

describe("collectives", function()
  ranks.each_count(function(launcher, count)
    it("give what one process computes from all ranks' tensors", function()
      local output, status = ranks.run("collectives.lua", {launcher = launcher, count = count})
      assert.equal("all is well\n", output)
      assert.equal(0, status)
    end)
  end)

  it("are those of one rank in a script that was started alone, without any library", function()
    local distributed = fp8.distributed
    assert.same({0, 1}, {distributed.init()})
    local x = fp8.tensor {1, 2}
    assert.equal(x, distributed.all_reduce_(x))
    assert.same({1, 2}, distributed.all_gather(x):totable())
    assert.same({1, 2}, distributed.reduce_scatter(x, "mean"):totable())
    assert.same({1, 2}, distributed.broadcast_(x, 0):totable())
    distributed.barrier()
    assert.same({0, 1, 0}, {distributed.rank(), distributed.size(), distributed.local_rank()})
    assert.has_error(function() distributed.broadcast_(x, 1) end)
  end)
end)
