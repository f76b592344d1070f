-- cross_entropy of logits of any rank and of targets that are probabilities, against PyTorch (spec/fixtures/losses.py).
-- ops/cross_entropy_spec has rows with labels.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails
local tensors, cases = fp8.load(support.fixture "losses.safetensors"), {}
for name in support.sorted_pairs(tensors) do
  local case = name:match "^(cross_entropy%..*)%.y$"
  if case then table.insert(cases, case) end
end

support.each_device(function(device)
  local on = {device = device}

  local function options_of(case)
    return {
      reduction = case:match "[^.]*$", label_smoothing = case:find "%.smooth%." and 0.2 or case:find "%.both%." and 0.3,
      ignore_index = case:find "%.ignored%." and tensors[case .. ".in.target"]:view(-1):totable()[1] or nil,
    }
  end

  local function compare(case, dtype, label_dtype)
    local weight, options = tensors[case .. ".in.weight"], options_of(case)
    options.label_smoothing = options.label_smoothing or nil
    local x = tensors[case .. ".in.x"]:to({device = device, dtype = dtype}):clone()
    -- As a view of other strides.
    if x:dim() > 1 then x = fp8.stack({x, x}, 1)[1]:transpose(1, 2):contiguous():transpose(1, 2):detach() end
    x:requires_grad_()
    local target = tensors[case .. ".in.target"]:to(device)
    local is_label = target.dtype == "i64"
    if is_label then
      target = target:to(label_dtype)
    else
      target = target:to(dtype):clone():requires_grad_()
    end
    options.weight = weight and weight:to(device)
    local limit = dtype == "f32" and 2e-6 or 2e-2
    local y = fp8.cross_entropy(x, target, options)
    assert.equal("f32", y.dtype)
    support.close(y:detach():cpu(), tensors[case .. ".y"], limit)
    support.close(fp8.no_grad(fp8.cross_entropy, x, target, options):cpu(), tensors[case .. ".y"], limit)
    y:backward(tensors[case .. ".dy"]:to(device))
    assert.equal(dtype, x.grad.dtype)
    support.close(x.grad:cpu():float(), tensors[case .. ".grad.x"], limit)
    if not is_label then support.close(target.grad:cpu():float(), tensors[case .. ".grad.target"], limit) end
  end

  describe("cross_entropy agrees with PyTorch:", function()
    it("there are cases", function() assert.equal(3 * 4 * (3 + 2 + 4), #cases) end)

    for i, case in ipairs(cases) do
      it(case, function()
        compare(case, "f32", ({"i64", "i32", "u8"})[i % 3 + 1])
        compare(case, i % 2 == 0 and "bf16" or "f16", "i64")
      end)
    end
  end)

  describe("cross_entropy", function()
    it("calls its class_weight weight, as PyTorch does", function()
      local x, target = fp8.randn(4, 3, on), fp8.tensor({0, 1, 2, 1}, {dtype = "i64", device = device})
      local weight = fp8.rand(3, on)
      support.equal(fp8.cross_entropy(x, target, {weight = weight}),
        fp8.cross_entropy(x, target, {class_weight = weight}))
      fails("cross_entropy: options weight and class_weight are two names of one", fp8.cross_entropy, x, target,
        {weight = weight, class_weight = weight})
      fails("cross_entropy: option weight must be a tensor, got number", fp8.cross_entropy, x, target, {weight = 1})
    end)

    it("of nothing is NaN, 0 or nothing", function()
      local x, target = fp8.zeros(0, 3, 2, on):requires_grad_(), fp8.zeros(0, 2, {dtype = "i64", device = device})
      for _, targets in ipairs {target, fp8.zeros(0, 3, 2, on)} do
        local mean = fp8.cross_entropy(x, targets):item()
        assert.is_true(mean ~= mean)
        assert.equal(0, fp8.cross_entropy(x, targets, {reduction = "sum"}):item())
        local none = fp8.cross_entropy(x, targets, {reduction = "none"})
        assert.same({0, 2}, none.shape)
        none:sum():backward()
        assert.same({0, 3, 2}, x.grad.shape)
      end
    end)

    it("says which shapes targets have", function()
      local x = fp8.zeros(2, 3, 4, on)
      local text = "cross_entropy: logits of shape (2, 3, 4) need targets that are labels, integers of " ..
        "shape (2, 4), or probabilities, f32, f16 or bf16 of shape (2, 3, 4); got "
      fails(text .. "i64 of shape (2, 3)", fp8.cross_entropy, x, fp8.zeros(2, 3, {dtype = "i64", device = device}))
      fails(text .. "i64 of shape (2, 3, 4)", fp8.cross_entropy, x,
        fp8.zeros(2, 3, 4, {dtype = "i64", device = device}))
      fails(text .. "f32 of shape (2, 4)", fp8.cross_entropy, x, fp8.zeros(2, 4, on))
      fails("labels, integers of shape (2), or probabilities", fp8.cross_entropy, fp8.zeros(2, 3, on), fp8.zeros(2, on))
      fails("cross_entropy: the logits must have a dimension of classes, got shape ()", fp8.cross_entropy,
        fp8.zeros({}, on), fp8.zeros({}, {dtype = "i64", device = device}))
      fails("cross_entropy: argument 2: tensor expected, got number", fp8.cross_entropy, x, 3)
      fails("cross_entropy: argument 1: tensor expected, got nil", fp8.cross_entropy)
    end)

    it("refuses what goes with labels only, and what does not fit, beside probabilities", function()
      local x = fp8.zeros(2, 3, on)
      local shares = fp8.full({2, 3}, 1 / 3, on)
      fails("cross_entropy: option ignore_index is for labels", fp8.cross_entropy, x, shares, {ignore_index = -100})
      fails("cross_entropy: weights of shape (3), one a class, are needed, got (4)", fp8.cross_entropy, x, shares,
        {weight = fp8.ones(4, on)})
      fails("cross_entropy: label smoothing must be from 0 to 1, got 2", fp8.cross_entropy, x, shares,
        {label_smoothing = 2})
      fails("cross_entropy: argument 2 must be f32, f16 or bf16, got e4m3", fp8.cross_entropy, x, shares:to "e4m3")
      fails("cross_entropy: the logits have no classes", fp8.cross_entropy, fp8.zeros(2, 0, on), fp8.zeros(2, 0, on))
    end)
  end)
end)
