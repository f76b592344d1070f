-- Running sums, sorting and quantiles against PyTorch: results and gradients (spec/fixtures/sort.py).
local fp8 = require "fp8"
local support = require "spec.support"

local tensors = fp8.load(support.fixture "sort.safetensors")

local calls = {
  ["cumsum.1"] = function(x) return x:cumsum(1) end,
  ["cumsum.2"] = function(x) return x:cumsum(2) end,
  ["cumsum.3"] = function(x) return x:cumsum(-1) end,
  ["cumsum.whole"] = function(x) return x:cumsum(2) end,
  ["cumprod.1"] = function(x) return x:cumprod(1) end,
  ["cumprod.2"] = function(x) return x:cumprod(2) end,
  ["cumprod.zeros"] = function(x) return x:cumprod(2) end,
  ["cumprod.whole"] = function(x) return x:cumprod(1) end,
  msort = fp8.msort,
  topk = function(x) return x:topk(4) end,
  ["topk.least"] = function(x) return x:topk(3, 1, false) end,
  ["topk.none"] = function(x) return x:topk(0, 2) end,
  kthvalue = function(x) return x:kthvalue(3) end,
  ["kthvalue.keep"] = function(x) return x:kthvalue(2, 1, true) end,
  ["median.1"] = function(x) return x:median(1) end,
  ["median.2"] = function(x) return x:median(2, true) end,
  ["median.broken"] = function(x) return (x:median(2)) end,
  ["median.ties"] = fp8.median,
  ["median.all"] = fp8.median,
  ["median.whole"] = function(x) return (x:median(2)) end,
  ["quantile.list"] = function(x) return x:quantile(tensors.levels:to(x.device), 2) end,
  ["quantile.list.keep"] = function(x) return x:quantile(tensors.levels:to(x.device), 2, true) end,
  ["quantile.keep"] = function(x) return x:quantile(0.5, -1, true) end,
  ["quantile.all.keep"] = function(x) return x:quantile(0.5, nil, true) end,
  ["quantile.broken"] = function(x) return x:quantile(0.5, 2) end,
}
for _, name in ipairs {"ties", "broken", "whole", "normal"} do
  calls["sort." .. name] = function(x) return x:sort(-1, false, true) end
  calls["sort.down." .. name] = function(x) return x:sort(1, true, true) end
  calls["argsort." .. name] = function(x) return x:argsort(-1, false, true) end
end
for _, how in ipairs {"linear", "lower", "higher", "midpoint", "nearest"} do
  calls["quantile." .. how] = function(x) return x:quantile(0.37, 2, false, how) end
  calls["quantile.all." .. how] = function(x) return x:quantile(0.81, nil, nil, how) end
end

support.each_device(function(device)
  describe("PyTorch's results of sorting and scanning", function()
    it("are all compared", function()
      local count = 0
      for name in pairs(tensors) do
        local case = name:match "^(.*)%.x$"
        if case then
          count = count + 1
          assert.is_truthy(calls[case], case)
        end
      end
      for _ in pairs(calls) do count = count - 1 end
      assert.equal(0, count)
    end)

    for case, call in support.sorted_pairs(calls) do
      it("are those of " .. case, function()
        local x = tensors[case .. ".x"]:to(device):clone()
        local dy = tensors[case .. ".dy"]
        if dy then x:requires_grad_() end
        local results = {call(x)}
        for i, result in ipairs(results) do
          local expected = tensors[("%s.y.%d"):format(case, i)]
          assert.equal(expected.dtype, result.dtype)
          assert.same(expected.shape, result.shape)
          if result.dtype == "f32" and expected:isfinite():all():item() == 1 then
            support.close(result:detach(), expected)
          else
            support.equal(result, expected)
          end
        end
        assert.is_nil(tensors[("%s.y.%d"):format(case, #results + 1)])
        if not dy then return end
        results[1]:backward(dy:to(device))
        local dx = tensors[case .. ".dx"]
        support.equal(x.grad:isnan(), dx:isnan())
        support.close(fp8.where(x.grad:isnan(), 0, x.grad), fp8.where(dx:isnan(), 0, dx))
      end)
    end
  end)
end)
