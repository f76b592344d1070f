-- What a recipe has to be like: every wrong one is refused with the name of the field, and fp8.recipe alters a copy.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

describe("A wrong recipe", function()
  local recipes = fp8.recipes

  local function refused(words, recipe)
    for _, word in ipairs(words) do fails(word, fp8.Linear, 4, 4, {recipe = recipe}) end
  end

  local function changed(field, value)
    local copy = {}
    for name, old in pairs(recipes.mixed) do copy[name] = old end
    copy[field] = value
    return copy
  end

  it("is refused with the name of the field", function()
    refused({"recipe.input"}, changed("input", nil))
    refused({"recipe.weight", "table", "3"}, changed("weight", 3))
    refused({"recipe.grad_output.format", "e4m4"}, changed("grad_output", {format = "e4m4", scale = "row"}))
    refused({"recipe.input.format"}, changed("input", {scale = "row"}))
    refused({"recipe.input.format", "(2)"}, changed("input", {format = fp8.zeros(2), scale = "row"}))
    refused({"recipe.input.format", "ascending"}, changed("input", {format = -fp8.arange(256), scale = "row"}))
    local freed
    fp8.scope(function() freed = fp8.arange(256) end)
    refused({"recipe.input.format: this tensor was freed"}, changed("input", {format = freed, scale = "row"}))
    refused({"recipe.input.scale"}, changed("input", {format = "e4m3"}))
    refused({"recipe.input.scale", "colum"}, changed("input", {format = "e4m3", scale = "colum"}))
    local odd = setmetatable({}, {__index = function() return 4 end})
    local wrong = {
      0, -1, 1.5, 0 / 0, 2 ^ 60, true, {}, {1}, {1, 2, 3}, {0, 1}, {1, -1}, {1, 1.5}, {"1", 2}, {rows = 1, columns = 2},
      {1, 2 ^ 60}, {1, 0 / 0}, {1, 2, extra = 3}, {{1, 2}, 3}, odd,
    }
    for _, scale in ipairs(wrong) do
      refused({"recipe.input.scale must be"}, changed("input", {format = "e4m3", scale = scale}))
    end
    for _, rounding in ipairs {"up", 2, true, {}} do
      refused({"recipe.weight.scale_rounding must be"},
        changed("weight", {format = "e4m3", scale = "row", scale_rounding = rounding}))
    end
    local function operand(fields)
      local whole = {format = "e2m1", scale = {1, 16}}
      for field, value in pairs(fields) do whole[field] = value end
      return changed("weight", whole)
    end
    refused({"recipe.weight.second_scale must be", "rows"}, operand {second_scale = "rows"})
    refused({"recipe.weight.second_scale", "e4m3"}, operand {second_scale = "tensor"})
    refused({"recipe.weight.second_scale", "{1, columns}"},
      operand {scale = {16, 16}, scale_rounding = "e4m3", second_scale = "row"})
    for _, value in ipairs {0, -1, 0 / 0, 1 / 0, "2", {}} do
      refused({"recipe.weight.headroom must be"}, operand {headroom = value})
      refused({"recipe.weight.constant_scale must be"}, operand {constant_scale = value})
    end
    refused({"recipe.weight.headroom", "e4m3"}, operand {headroom = 2, scale_rounding = "e4m3"})
    refused({"recipe.weight.constant_scale", "history"},
      operand {constant_scale = 2, scale = "tensor", history = 2})
    refused({"recipe.weight.history", "e4m3"}, operand {scale_rounding = "e4m3", scale = "tensor", history = 2})
    refused({"recipe.weight.hadamard must be", "24"}, operand {hadamard = 24})
    refused({"recipe.weight.hadamard", "history"}, operand {hadamard = 16, scale = "tensor", history = 2})
    refused({"recipe.weight.signs", "hadamard"}, operand {signs = "random"})
    for _, signs in ipairs {"fixed", {1, -1}, 3, true} do
      refused({'recipe.weight.signs must be "random", "step" or a list of 16'}, operand {hadamard = 16, signs = signs})
    end
    refused({"recipe.forward", "transformed alike", "hadamard = 16"}, operand {hadamard = 16})
    for _, history in ipairs {0, -1, 1.5, "16", 2 ^ 21, true, {}} do
      refused({"recipe.weight.history must be"},
        changed("weight", {format = "e4m3", scale = "tensor", history = history}))
    end
    for _, scale in ipairs {"row", "column", 64, {1, 32}} do
      refused({"recipe.weight.history", "tensor"}, changed("weight", {format = "e4m3", scale = scale, history = 16}))
    end
    refused({'recipe.input_grad must be a table {grad_output =, weight =, accumulate =} or "full", got "half"'},
      changed("input_grad", "half"))
    refused({"recipe.forward must be", "quantized"}, changed("forward", "quantized"))
    refused({"recipe.forward: unknown field input"}, changed("forward", {input = recipes.mx.input}))
    refused({'recipe.forward.accumulate must be "fast" or "accurate", got "slow"'},
      changed("forward", {accumulate = "slow"}))
    refused({'recipe.input must be a table', 'or "full", got "fulll"'}, changed("input", "fulll"))
    refused({"recipe.input.rounding must be", "up"},
      changed("input", {format = "e4m3", scale = "row", rounding = "up"}))
    refused({"recipe.weight.quantize must be a function, got"}, changed("weight", {quantize = true}))
    refused({"recipe.weight.scale has no meaning beside quantize"},
      changed("weight", {quantize = function() end, scale = "row"}))
    refused({"recipe.input_grad: unknown field input"}, changed("input_grad", {input = recipes.mx.input}))
    refused({"recipe.input_grad.weight must be"}, changed("input_grad", {weight = "column"}))
    refused({"recipe.input_grad.weight.format"}, changed("input_grad", {weight = {scale = "column"}}))
    refused({"recipe.weight_grad: unknown field weight"}, changed("weight_grad", {weight = recipes.mx.input}))
    refused({"recipe.weight_grad.input.scale must be"}, changed("weight_grad", {input = {format = "e4m3"}}))
    refused({"recipe.weight_grad.grad_output.scale_rounding must be"},
      changed("weight_grad", {grad_output = {format = "e4m3", scale = "row", scale_rounding = "down"}}))
    refused({"recipe.weight_grad", "half"}, changed("weight_grad", "half"))
    refused({"recipe.rounding", "up"}, changed("rounding", "up"))
    refused({"roundign"}, changed("roundign", "nearest"))
    refused({"blocksize"}, changed("input", {format = "e4m3", scale = "row", blocksize = 3}))
    refused({"recipe", "boolean"}, true)
    refused({"mxied"}, "mxied")
  end)

  it("is refused as options, too", function()
    fails("unknown option", fp8.LinearMixed, 4, 4, {naitve = true})
    fails("native", fp8.Linear, 4, 4, {native = true})
    fails("native", fp8.LinearMixed, 4, 4, {native = true, recipe = recipes.global})
    fails("native", fp8.LinearMixed, 4, 4, {native = 1})
    fails("bias", fp8.Linear, 4, 4, {bias = 1})
    fails("input", fp8.Linear, 4, 4, {input = {scale = "row"}})
    fails("input", fp8.LinearMixed, 4, 4, {input = "row"})
    fails("rounding", fp8.LinearMixed, 4, 4, {rounding = true})
    fails("recipe.input_grad must be", fp8.LinearMixed, 4, 4, {input_grad = 3})
    fails("recipe.weight_grad.input.format", fp8.LinearMixed, 4, 4, {weight_grad = {input = {scale = "row"}}})
    fails("matmul_global: delayed scaling", fp8.matmul_global, fp8.zeros(2, 2), fp8.zeros(2, 2), {
      input = {history = 3},
    })
    fails("matmul_mixed: ", fp8.matmul_mixed, fp8.zeros(2, 2), fp8.zeros(2, 2), {blocksize = 0})
    fails("matmul_global: ", fp8.matmul_global, fp8.zeros(2, 2), fp8.zeros(2, 2), {size = 0})
    fails("matmul_global: ", fp8.matmul_global, fp8.zeros(2, 2), fp8.zeros(2))
    fails("matmul_mixed: ", fp8.matmul_mixed, fp8.zeros(2, 2), 3)
  end)
end)

describe("fp8.recipe", function()
  it("makes an altered copy", function()
    local copy = fp8.recipe("mixed", {grad_output = {scale = "row"}, weight_grad = "quantized"})
    assert.equal("row", copy.grad_output.scale)
    assert.equal(fp8.recipes.mixed.grad_output.format, copy.grad_output.format)
    assert.equal("block", fp8.recipes.mixed.grad_output.scale)
    copy.input.scale = "tensor"
    assert.equal("block", fp8.recipes.mixed.input.scale)
    assert.same(fp8.recipes.mx, fp8.recipe(fp8.recipes.mx))
    local other = fp8.recipe(copy, {input = "full"})
    assert.equal("full", other.input)
    assert.equal("tensor", copy.input.scale)
  end)

  it("is not changed by what becomes of a table that a layer was made with", function()
    local recipe = fp8.recipe("mixed", {input = {scale = {1, 16}}})
    local layer, other = fp8.Linear(4, 4, {recipe = recipe}), fp8.convert(fp8.Linear(4, 4), recipe)
    local cell = fp8.nn.GRUCell(4, 4, {recipe = recipe})
    recipe.weight.scale, recipe.input.scale[2] = "row", 32
    for _, module in ipairs {layer, other, cell} do
      assert.equal("tensor", module.recipe.weight.scale)
      assert.same({1, 16}, module.recipe.input.scale)
    end
  end)

  it("refuses what no recipe can be", function()
    fails("recipe: unknown field wieght; did you mean weight?", fp8.recipe, "mixed", {wieght = "full"})
    fails("recipe: recipe.input.scale", fp8.recipe, "mixed", {input = {scale = "rwo"}})
    fails("there is no recipe 'mxied'", fp8.recipe, "mxied")
    fails("recipe: changes must be a table", fp8.recipe, "mixed", 3)
    fails("recipe must be a table", fp8.recipe, nil)
  end)
end)
