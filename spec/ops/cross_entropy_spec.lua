-- Cross entropy: reductions, and targets that are refused. (nn/pytorch_spec compares with PyTorch.)
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  describe("cross_entropy", function()
    it("is the mean, sum or list of -log softmax at the targets", function()
      local logits = fp8.randn(7, 11, {device = device})
      local targets = fp8.tensor({0, 3, 10, 5, 5, 1, 9}, {dtype = "i64", device = device})
      local picked = -logits:log_softmax(2):gather(2, targets:view(7, 1)):view(7)
      support.close(fp8.cross_entropy(logits, targets, {reduction = "none"}), picked, 1e-6)
      support.close(fp8.cross_entropy(logits, targets), picked:mean(), 1e-6)
      support.close(fp8.cross_entropy(logits, targets:to("u8"), {reduction = "sum"}), picked:sum(), 1e-6)
    end)

    it("refuses targets out of range", function()
      local logits = fp8.zeros(2, 3, {device = device})
      for _, wrong in ipairs {3, -1, 2 ^ 40} do
        local targets = fp8.tensor({0, wrong}, {dtype = "i64", device = device})
        support.fails("out of range", function() fp8.cross_entropy(logits, targets):item() end)
      end
      local targets = fp8.zeros(2, {dtype = "i64", device = device})
      assert.is_true(math.abs(fp8.cross_entropy(logits, targets):item() - math.log(3)) < 1e-6)
    end)
  end)
end)
