-- fp8.sensitivity against copies of the model that are converted by hand.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

-- A model with all that a pass may change: running means, histories, random numbers; and a batch for it.
local function build(device)
  fp8.manual_seed(7)
  local on = {device = device}
  local model = fp8.nn.Sequential(
    fp8.Linear(24, 32, {device = device, recipe = "delayed"}), fp8.nn.BatchNorm1d(32, on), fp8.nn.GELU(),
    fp8.nn.Dropout(0.25), fp8.nn.Sequential(fp8.LinearMixed(32, 32, on), fp8.nn.ReLU(), fp8.Linear(32, 16, on)),
    fp8.Linear(16, 5, on))
  return model, {fp8.randn(40, 24, on), fp8.randint(0, 5, {40}, on)}
end

-- The same model again: its layers as the recipes of a table by name say, the others plain.
local function copy_of(model, device, recipes)
  local copy = build(device)
  fp8.convert(copy, false)
  local state = {}
  for name, tensor in pairs(model:state_dict()) do
    if not name:find "_history$" then state[name] = tensor end
  end
  copy:load_state_dict(state)
  fp8.convert(copy, function(name) return recipes[name] end)
  return copy
end

-- Loss, output and gradients, in lists of numbers, of a fresh copy with these recipes.
local function reference(model, device, batch, recipes)
  local copy = copy_of(model, device, recipes)
  fp8.manual_seed(99, 5)
  local output = copy(batch[1])
  local loss = fp8.cross_entropy(output, batch[2])
  loss:backward()
  local gradients = {}
  for _, parameter in copy:named_parameters() do
    for _, value in ipairs(support.flat(parameter.grad)) do gradients[#gradients + 1] = value end
  end
  return {loss = loss:item(), output = support.flat(output:detach()), gradients = gradients}
end

local function distance(a, b)
  local aa, bb, ab, dd = 0, 0, 0, 0
  for i = 1, #a do
    aa, bb, ab, dd = aa + a[i] ^ 2, bb + b[i] ^ 2, ab + a[i] * b[i], dd + (a[i] - b[i]) ^ 2
  end
  return math.sqrt(dd / aa), ab / math.sqrt(aa * bb)
end

local function near(expected, found, tolerance, what)
  assert.is_true(math.abs(expected - found) <= tolerance * math.max(math.abs(expected), 1e-3),
    ("%s: expected %.9g, got %.9g"):format(what, expected, found))
end

local function check(base, expected, found, what)
  near(expected.loss, found.loss, 1e-6, what .. " loss")
  near(expected.loss - base.loss, found.loss_change, 1e-3, what .. " change of the loss")
  local error, cosine = distance(base.output, expected.output)
  near(error, found.output_error, 1e-3, what .. " output")
  near(cosine, found.output_cosine, 1e-6, what .. " cosine of the output")
  error, cosine = distance(base.gradients, expected.gradients)
  near(error, found.gradient_error, 1e-3, what .. " gradient")
  near(cosine, found.gradient_cosine, 1e-6, what .. " cosine of the gradient")
end

local names = {"1", "5.1", "5.3", "6"}

-- What a run is made of, down to the bits, with what has no bits as it is.
local function state_of(model, optimizer)
  local state, fields = {}, {}
  for name, tensor in pairs(model:state_dict()) do state[name] = support.bytes(tensor) end
  for name, tensor in pairs(optimizer:state_dict()) do state["optimizer " .. name] = support.bytes(tensor) end
  for name, parameter in model:named_parameters() do
    state["gradient " .. name] = parameter.grad and support.bytes(parameter.grad) or "none"
    fields["gradient " .. name] = parameter.grad or false
  end
  for name, module in model:named_modules() do
    for _, field in ipairs {"plan", "recipe", "state", "forward", "training"} do
      fields[name .. " " .. field] = rawget(module, field)
    end
    if rawget(module, "state") then
      fields[name .. " observer"], state[name .. " recorded"] = module.state.observer, fp8.text(module.state.recorded)
    end
  end
  state.seed, state.position = fp8.random_state()
  return state, fields
end

support.each_device(function(device)
  describe("fp8.sensitivity", function()
    it("measures what copies converted by hand give", function()
      local model, batch = build(device)
      local recipe = fp8.recipe("global", {grad_output = {format = "e5m2"}})
      local everywhere, expected = {}, {}
      for _, name in ipairs(names) do everywhere[name] = recipe end
      local base = reference(model, device, batch, {})
      fp8.manual_seed(99, 5)
      local result = fp8.sensitivity(model, batch, recipe)
      near(base.loss, result.loss, 1e-6, "loss")
      check(base, reference(model, device, batch, everywhere), result.all, "all")
      assert.equal(#names, #result)
      for _, row in ipairs(result) do
        local others = {}
        for name in pairs(everywhere) do others[name] = name ~= row.layer and recipe or nil end
        check(base, reference(model, device, batch, {[row.layer] = recipe}), row.alone, row.layer .. " alone")
        check(base, reference(model, device, batch, others), row.others, row.layer .. " others")
        expected[row.layer] = true
      end
      for _, name in ipairs(names) do assert.is_true(expected[name]) end
    end)

    it("sorts by what is asked for, what is not finite first", function()
      local model, batch = build(device)
      local function nan(x) return x * (0 / 0) end
      local function recipe(name)
        if name ~= "5.3" then return "global" end
        return fp8.recipe("global", {grad_output = {quantize = nan}})
      end
      for by, field in pairs {gradient = "gradient_error", output = "output_error", loss = "loss_change"} do
        local result = fp8.sensitivity(model, batch, recipe, {by = by})
        local last = math.huge
        for i, row in ipairs(result) do
          local value = math.abs(row.alone[field])
          if value ~= value then assert.equal(1, i) else assert.is_true(value <= last) end
          last = value == value and value or last
        end
        local found
        for _, row in ipairs(result) do found = row.layer == "5.3" and row or found end
        assert.is_true(found.alone.gradient_error ~= found.alone.gradient_error)
        assert.is_true(found.alone.gradient_cosine ~= found.alone.gradient_cosine)
        assert.is_true(found.alone.output_error < 0.1)
        assert.is_true(found.others.gradient_error < 1)
      end
    end)

    it("takes only layers that the recipe and the filter name, and leaves the others as they are", function()
      local model, batch = build(device)
      local function layers(...)
        local list = {}
        for i, row in ipairs(fp8.sensitivity(model, batch, ...)) do list[i] = row.layer end
        table.sort(list)
        return table.concat(list, " ")
      end
      assert.equal("1 5.1 5.3 6", layers("mx"))
      assert.equal("5.1 6", layers("mx", {filter = function(name) return name == "5.1" or name == "6" end}))
      assert.equal("5.1 5.3", layers({default = false, ["5.*"] = "mx", until_step = 3}))
      assert.equal("6", layers(function(name) return name == "6" and "mixed" end))
      -- A layer that is left out computes by its own recipe.
      fp8.manual_seed(99, 5)
      local result = fp8.sensitivity(model, batch, "global", {filter = function(name) return name == "6" end})
      near(reference(model, device, batch, {["1"] = "delayed", ["5.1"] = "mixed"}).loss, result.loss, 1e-6, "loss")
      assert.equal(0, result[1].others.gradient_error)
      assert.equal(1, result[1].others.gradient_cosine)
      assert.equal(0, result[1].others.output_error)
    end)

    it("takes functions, with an output of their own or none, and models that are a layer", function()
      local model, batch = build(device)
      local function loss() return fp8.cross_entropy(model(batch[1]), batch[2]) end
      fp8.manual_seed(3)
      local one = fp8.sensitivity(model, batch, "global")
      assert.same(one, fp8.sensitivity(model, loss, "global"))
      local other = fp8.sensitivity(model, function() return loss(), batch[1] end, "global")
      assert.equal(0, other.all.output_error)
      assert.equal(one.all.gradient_error, other.all.gradient_error)
      local layer = fp8.Linear(24, 5, {device = device})
      local none = fp8.sensitivity(layer, function() return layer:cross_entropy(batch[1], batch[2]) end, "mx")
      assert.equal("Linear", none[1].layer)
      assert.is_nil(none.all.output_error)
      assert.is_truthy(tostring(none):find("output -, of the gradient", 1, true))
    end)

    it("leaves everything as it was, whatever happens", function()
      local model, batch = build(device)
      local optimizer = fp8.optim.AdamW(model, {lr = 0.01})
      local watcher = fp8.watch(model, {every = 1})
      for _ = 1, 2 do
        optimizer:zero_grad()
        fp8.cross_entropy(model(batch[1]), batch[2]):backward()
        optimizer:step()
        watcher:step()
      end
      local before, fields = state_of(model, optimizer)
      local rows = #watcher:rows()
      local function same()
        local after, fields_after = state_of(model, optimizer)
        assert.same(before, after)
        for name, value in pairs(fields) do assert.is_true(rawequal(value, fields_after[name]), name) end
        for name, value in pairs(fields_after) do assert.is_true(rawequal(value, fields[name]), name) end
        assert.equal(rows, #watcher:rows())
      end
      for _, recipe in ipairs {"global", "delayed", fp8.recipe("mixed", {rounding = "stochastic"})} do
        fp8.sensitivity(model, batch, recipe)
        same()
      end
      fp8.no_grad(fp8.sensitivity, model, batch, "global", {filter = function(name) return name == "6" end})
      same()
      local calls = 0
      fails("enough", fp8.sensitivity, model, function()
        calls = calls + 1
        local loss = fp8.cross_entropy(model(batch[1]), batch[2])
        if calls == 4 then error "enough" end
        return loss
      end, "global")
      same()
      watcher:close()
    end)

    it("holds nothing afterwards", function()
      local model, batch = build(device)
      fp8.sensitivity(model, batch, "mx")
      local before = support.in_use(device)
      fp8.sensitivity(model, batch, "mx")
      assert.equal(before, support.in_use(device))
    end)

    it("prints a table", function()
      local model, batch = build(device)
      local text = tostring(fp8.sensitivity(model, batch, "global"))
      assert.is_truthy(text:find "^loss %d%.%d+ in full precision, %d%.%d+ by the recipe: relative error of the output")
      assert.is_truthy(text:find
        "\n  layer +alone: loss +output +gradient +cosine +others: loss +output +gradient +cosine\n")
      assert.is_truthy(text:find "\n  5%.1 +[+-]%S+ +0%.%S+ +0%.%S+ +%d%.%d%d%d%d +[+-]")
      for line in text:gmatch "[^\n]+" do assert.is_true(#line <= 120, line) end
    end)
  end)
end)

describe("fp8.sensitivity", function()
  it("refuses what it can't measure", function()
    local model, batch = build "cpu"
    local text = "sensitivity: a function that returns the loss is needed, or a batch {inputs, labels}, got "
    fails("sensitivity: model must be a module, got table", fp8.sensitivity, {}, batch, "mx")
    fails(text .. "nil", fp8.sensitivity, model)
    fails(text .. "table", fp8.sensitivity, model, {batch[1]}, "mx")
    fails(text .. "table", fp8.sensitivity, model, {batch[1], batch[2], batch[2]}, "mx")
    fails("sensitivity: recipe must be a table, the name of one, or false", fp8.sensitivity, model, batch)
    fails("sensitivity: there is no recipe 'mxx' in fp8.recipes", fp8.sensitivity, model, batch, "mxx")
    fails("sensitivity: no layer is called 7", fp8.sensitivity, model, batch, {default = "mx", ["7"] = false})
    fails("sensitivity: the recipe is for none of the model's layers", fp8.sensitivity, model, batch, false)
    fails("sensitivity: unknown option filters; did you mean filter?", fp8.sensitivity, model, batch, "mx",
      {filters = 1})
    fails("sensitivity: filter must be a function, got string", fp8.sensitivity, model, batch, "mx", {filter = "6"})
    fails("sensitivity: option by must be gradient, output or loss, got grad", fp8.sensitivity, model, batch, "mx",
      {by = "grad"})
    for got, value in pairs {["number"] = 3, ["a tensor of 2"] = fp8.ones(2, {requires_grad = true}),
                             ["a tensor of 1"] = fp8.ones(1)} do
      fails("a tensor of one element that requires a gradient, got " .. got, fp8.sensitivity, model,
        function() return value end, "mx")
    end
    local calls = 0
    fails("sensitivity: the output was f32 of shape (1), and now is f32 of shape (2)", fp8.sensitivity, model,
      function()
        calls = calls + 1
        return fp8.cross_entropy(model(batch[1]), batch[2]), fp8.ones(calls)
      end, "mx")
  end)
end)
