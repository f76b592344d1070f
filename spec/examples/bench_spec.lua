-- Every benchmark, on the smallest inputs, prints its whole table: each kernel and layer that it names can be called.
local support = require "spec.support"

local benchmarks = {
  {"quantize", "--shape 64,256 --dtype bf16,f32 --steps 1", {"transpose of codes"}},
  {"linear", "--shapes 32,64,64 --dtype f32 --steps 1", {"LinearMixed", "LinearGlobal native"}},
  {"layers", "--rows 64 --features 32 --vocabulary 50 --positions 32 --dtype f32 --steps 1", {"causal"}},
  {"attention", "--shapes 1,2,32,64 --dtype bf16 --steps 1", {"1, 2, 32, 64"}},
  {"optimizer", "--layers 1 --dtype bf16 --steps 1", {"AdamW", "StableAdamW", "clipping"}},
  {"gpt2", "--layers 1 --width 32 --heads 2 --context 16 --vocabulary 64 --batch 1 --steps 1 --profile",
    {"global_native", "clipping and optimizer"}},
  {"deterministic", "--dtype f32,bf16 --width 64 --batch 2 --context 16 --rounds 1 --steps 1", {"step of a block"}},
  {"start", "--processes 1", {"second step"}},
  {"watch", "--layers 1 --width 32 --context 16 --batch 1 --every 2 --steps 1", {"mixed", "global_native"}},
}

describe("examples/bench", function()
  support.each_device(function(device)
    for _, benchmark in ipairs(benchmarks) do
      local name, options, rows = unpack(benchmark)
      it("measures with " .. name .. ".lua", function()
        local script = support.path("examples/bench/" .. name .. ".lua")
        local ok, output = support.run(("%s --device %s %s"):format(script, device, options))
        assert.is_true(ok, output)
        for _, row in ipairs(rows) do assert.is_truthy(output:find(row, 1, true), output) end
        assert.is_nil(output:find "%f[%w]nan%f[%W]", output)
      end)
    end
  end)

  it("estimates with scaling.lua a step on more GPUs, which are never faster than as many alone", function()
    local ok, output = support.run(support.path "examples/bench/scaling.lua" .. " --gpus 2,512 --tokens 4096")
    assert.is_true(ok, output)
    local shares = {}
    for share in output:gmatch "all [^%%]* ([%d.]+)%%" do shares[#shares + 1] = tonumber(share) end
    assert.equal(6, #shares)
    for i = 1, 6, 2 do assert.is_true(shares[i] < 100 and shares[i + 1] < shares[i]) end
  end)
end)
