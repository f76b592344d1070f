-- Random programs: sequences of operations with random shapes, views, dtypes, writes in place and gradients give what a
-- slow reference in plain Lua gives. It is exact where the promises about values (src/README.md) leave one result, and
-- bounded by the roundings on the way elsewhere. A difference prints the smallest program that shows it.
local fp8 = require "fp8"
local generate = require "spec.support.programs.generate"
local programs = require "spec.support.programs"
local seed = require "spec.support.seed"
local shrink = require "spec.support.programs.shrink"
local support = require "spec.support"

local count = tonumber(os.getenv "FP8_PROGRAMS") or 800
local longest = 24

-- Public functions that return tensors and are in no program, and why.
local elsewhere = {
  ["fp8.cuda"] = "its functions are about devices", ["fp8.cpu"] = "how the reference reads every tensor",
  ["fp8.create_dynamic_map"] = "a list of constants, in core/golden_spec",
  ["fp8.create_linear_map"] = "a list of constants, in core/golden_spec",
  ["fp8.alibi_slopes"] = "a list of constants, in ops/attention/mask_spec",
  ["fp8.rotary_embedding"] = "against its definition in nn/sequence_spec",
  ["fp8.create_float_map"] = "a list of constants, in linear/formats_spec",
  ["fp8.code_bits"] = "codes as other libraries write them, in linear/formats_spec",
  ["fp8.hadamard"] = "beside the quantization that it is for, in linear/formats_spec",
  ["fp8.linear_cross_entropy"] = "a matmul and a cross_entropy, beside which it is in linear/cross_entropy_spec",
  ["fp8.mse_loss"] = "composed of operations that are, as all losses here are: in nn/losses_spec",
  ["fp8.l1_loss"] = "a loss", ["fp8.smooth_l1_loss"] = "a loss", ["fp8.huber_loss"] = "a loss",
  ["fp8.binary_cross_entropy_with_logits"] = "a loss", ["fp8.kl_div"] = "a loss", ["fp8.nll_loss"] = "a loss",
  ["fp8.normal_"] = "numbers that randn gives, in ops/random_spec", ["x:normal_"] = "see fp8.normal_",
  ["fp8.uniform_"] = "numbers that rand gives, in ops/random_spec", ["x:uniform_"] = "see fp8.uniform_",
  ["fp8.bernoulli_"] = "numbers that rand gives, in ops/random_spec", ["x:bernoulli_"] = "see fp8.bernoulli_",
  ["fp8.quantile"] = "is between elements in order, in ops/order/quantile_spec", ["x:quantile"] = "see fp8.quantile",
  ["fp8.multinomial"] = "random numbers, in ops/order/sample_spec", ["x:multinomial"] = "see fp8.multinomial",
  ["fp8.searchsorted"] = "of ascending lists, in ops/order/search_spec", ["x:searchsorted"] = "see fp8.searchsorted",
  ["fp8.bucketize"] = "see fp8.searchsorted", ["x:bucketize"] = "see fp8.searchsorted",
  ["fp8.histogram"] = "has edges of its own, in ops/order/count_spec", ["x:histogram"] = "see fp8.histogram",
  ["fp8.histc"] = "see fp8.histogram", ["x:histc"] = "see fp8.histogram",
  ["fp8.einsum"] = "a text and products, in ops/matmul/einsum_spec",
  ["x:rows"] = "an iterator, in ops/index/slices_spec", ["fp8.rows"] = "an iterator",
  ["fp8.load"] = "reads files", ["fp8.data"] = "reads files", ["fp8.checkpoint"] = "reads files",
  ["fp8.recompute"] = "what its function returns, in spec/core/recompute_spec",
  ["fp8.nn"] = "layers are made of these functions", ["fp8.optim"] = "steps have formulas of their own, in spec/optim",
  ["fp8.Linear"] = "a layer", ["fp8.LinearMixed"] = "a layer", ["fp8.LinearGlobal"] = "a layer",
  ["x:cpu"] = "how the reference reads every tensor", ["x:cuda"] = "there may be no such device",
}

for name in ([[
  conv1d conv2d fold max_pool1d max_pool2d avg_pool1d avg_pool2d
  adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d
]]):gmatch "%S+" do
  elsewhere["fp8." .. name], elsewhere["x:" .. name] = "beside PyTorch's in ops/patches", "see fp8." .. name
end
for name in ([[
  cummax cummin logcumsumexp logaddexp diff nansum nanmean nanmedian amax amin aminmax std_mean var_mean softmin
  heaviside kron cross tensordot cdist mm trace diagonal repeat_interleave put put_ expand_as view_as reshape_as type_as
  atan asin acos sinh cosh exp2 frac logsigmoid mish softsign relu6 hardtanh clip clamp_min clamp_max nan_to_num
  concat hstack vstack moveaxis isin normalize cosine_similarity asinh acosh atanh selu celu hardsigmoid hardswish glu
  prelu fmod copysign logit xlogy rot90 cov corrcoef unflatten tensor_split inner trapezoid triu_indices tril_indices
  logspace randperm bernoulli
]]):gmatch "%S+" do
  elsewhere["fp8." .. name], elsewhere["x:" .. name] = "composed of others, in ops/composed_spec", "see fp8." .. name
end
for name in ([[
  take take_along_dim scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ index_add
  index_add_ index_copy index_copy_ index_fill index_fill_ index_put index_put_ masked_scatter masked_scatter_
]]):gmatch "%S+" do
  elsewhere["fp8." .. name], elsewhere["x:" .. name] = "in ops/index", "in ops/index"
end
for name in ([[
  acos acosh asin asinh atan atanh cosh sinh exp2 frac celu selu clip clamp_min clamp_max hardtanh copysign fmod
  heaviside logit nan_to_num xlogy eq ne lt le gt ge logical_and logical_or logical_xor logical_not
]]):gmatch "%S+" do
  elsewhere[("fp8.%s_"):format(name)] = "by a copy of the result, in ops/elementwise_spec"
  elsewhere[("x:%s_"):format(name)] = ("see fp8.%s_"):format(name)
end

-- Those that return none.
local no_tensors = {}
for name in ([[
  fp8.convert fp8.analyze fp8.watch fp8.sensitivity fp8.save fp8.manual_seed fp8.random_state fp8.set_default_device
  fp8.set_default_dtype fp8.set_deterministic fp8.is_deterministic fp8.is_tensor fp8.recipe fp8.recipes
  fp8.formats fp8.memory fp8.reset_peak_memory fp8.memory_report fp8.event fp8.version fp8._VERSION
  fp8.allclose fp8.equal x:allclose x:equal
  x:to_dlpack x:numel x:dim x:stride x:is_contiguous x:item x:totable x:size x:data x:__newindex
]]):gmatch "%S+" do no_tensors[name] = true end

-- What every program does besides its operations.
local by_name = {
  ["fp8.no_grad"] = true, ["fp8.scope"] = true, ["x:backward"] = true, ["x:retain_grad"] = true,
  ["x:requires_grad_"] = true, ["fp8.dequantize"] = true,
}

describe("Random programs", function()
  it("know every public function that returns a tensor", function()
    local missing = {}
    local function look(prefix, functions)
      for name in support.sorted_pairs(functions) do
        local full = prefix .. name
        local known = programs.operations[name] or elsewhere[full] or no_tensors[full] or by_name[full]
        if not known then table.insert(missing, full) end
      end
    end
    for _, name in ipairs {
      "nn", "optim", "data", "Linear", "LinearMixed", "LinearGlobal", "convert", "analyze", "watch", "sensitivity",
      "load", "save", "checkpoint", "memory_report",
    } do
      assert.is_truthy(fp8[name])
    end
    look("fp8.", fp8)
    look("x:", require "fp8.tensor")
    assert.same({}, missing)
  end)

  -- Against the fuzzer itself: a wrong result has to be found, and its program has to become small.
  it("find what is wrong, and print the few statements that show it", function()
    local right = programs.operations.silu.compute
    programs.operations.silu.compute = programs.operations.sigmoid.compute
    local failure
    for own = 1, 300 do
      local ok, found = pcall(generate, "cpu", own, longest)
      if not ok and found.operation == "silu" then
        failure = shrink("cpu", own, found)
        break
      end
    end
    programs.operations.silu.compute = right
    assert.is_truthy(failure)
    assert.equal(5, #failure.lines)
    assert.is_truthy(failure.lines[4]:find "^v%d+ = fp8")
    assert.is_truthy(failure.lines[5]:find ":silu%(%)")
  end)
end)

support.each_device(function(device)
  describe("fp8", function()
    -- A gradient that is found twice has the same bits.
    setup(function() fp8.set_deterministic(true) end)
    teardown(function() fp8.set_deterministic(false) end)

    it(("agrees with the reference in %d random programs"):format(count), function()
      local used = {}
      for own = 1, count do
        local number = (seed - 1) * 1000003 + own
        local ok, failure, state = pcall(generate, device, number, longest)
        if not ok then
          failure = shrink(device, number, failure)
          error(("program %d: %s\n\n%s\n"):format(number, failure.failed, table.concat(failure.lines, "\n")), 0)
        end
        for name, times in pairs(state.used) do used[name] = (used[name] or 0) + times end
      end
      local unused = {}
      for name in support.sorted_pairs(programs.operations) do
        if not used[name] and count >= 400 then table.insert(unused, name) end
      end
      assert.same({}, unused)
    end)
  end)
end)
