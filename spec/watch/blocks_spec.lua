-- What fp8.analyze and fp8.watch tell of blocks, against a slow reference.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

-- Which block each element of a matrix is in, by the rule of fp8.recipes.
local function block_of(scale, row, column, columns)
  if scale == "tensor" then return "all" end
  if scale == "row" then return row end
  if scale == "column" then return column end
  if type(scale) == "table" then
    return ("%d %d"):format(math.floor((row - 1) / scale[1]), math.floor((column - 1) / scale[2]))
  end
  return math.floor(((row - 1) * columns + column - 1) / scale)
end

local function reference(list, columns, scale)
  local found = {}
  for i, value in ipairs(list) do
    local key = block_of(scale, math.floor((i - 1) / columns) + 1, (i - 1) % columns + 1, columns)
    found[key] = found[key] or {absmax = 0, squares = 0}
    local block = found[key]
    block.squares = block.squares + value * value
    block.absmax = value ~= value and value or math.max(block.absmax, math.abs(value))
  end
  local exponents, dominated = {}, 0
  for _, block in pairs(found) do
    if block.squares > 0 and block.squares < math.huge then
      table.insert(exponents, math.log(block.absmax) / math.log(2))
      if block.absmax ^ 2 > block.squares / 2 then dominated = dominated + 1 end
    end
  end
  table.sort(exponents)
  return exponents, dominated
end

local function check(list, columns, scale, entry)
  local exponents, dominated = reference(list, columns, scale)
  assert.equal(#exponents, entry.blocks)
  assert.equal(#exponents > 0 and dominated / #exponents or 0, entry.dominated)
  if #exponents == 0 then
    assert.is_nil(entry.exponents)
    assert.is_nil(entry.spread)
    return
  end
  for i = 0, 4 do
    -- Halves are rounded to even.
    local place = (#exponents - 1) * i / 4
    local below = math.floor(place)
    if place - below > 0.5 or place - below == 0.5 and below % 2 == 1 then below = below + 1 end
    assert.is_true(math.abs(exponents[below + 1] - entry.exponents[i + 1]) < 1e-5)
  end
  assert.is_true(math.abs(exponents[#exponents] - exponents[1] - entry.spread) < 2e-5)
end

support.each_device(function(device)
  describe("Blocks", function()
    local scales = {"tensor", "row", "column", 16, 7, 1000, {1, 32}, {16, 16}, {3, 5}, {1000, 1}}

    it("are what fp8.analyze tells of them", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, shape in ipairs {{1}, {70}, {5, 70}, {33, 64}, {2, 3, 129}} do
          local x = (fp8.randn(shape) * (fp8.randn(shape) * 2):exp()):to(dtype):to(device)
          local result = fp8.analyze(x, {formats = {"e4m3", "linear"}, scales = scales, blocks = true})
          assert.equal(2 * #scales, #result)
          for i, entry in ipairs(result) do
            check(support.flat(x), shape[#shape], scales[(i - 1) % #scales + 1], entry)
          end
        end
      end
    end)

    it("count where they are finite and not 0, whatever their size", function()
      local x = fp8.randn(12, 8, {device = device})
      x[2]:fill_(0)
      x[4][3], x[5][1], x[6][8] = 0 / 0, math.huge, -math.huge
      x[7]:fill_(1e38)
      x[8]:fill_(1e-42)
      x[9]:fill_(0)
      x[9][2] = -3
      for _, scale in ipairs {"row", {1, 4}, 8, "tensor"} do
        local entry = fp8.analyze(x, {formats = {{format = "e4m3", scale = scale}}, blocks = true})[1]
        check(support.flat(x), 8, scale, entry)
      end
      for _, empty in ipairs {fp8.zeros(3, 4, {device = device}), fp8.zeros(0, 4, {device = device})} do
        check(support.flat(empty), 4, "row", fp8.analyze(empty, {formats = "e4m3", scales = "row", blocks = true})[1])
      end
      assert.equal(1, fp8.analyze(fp8.tensor(-8, {device = device}), {formats = "e4m3", blocks = true})[1].blocks)
      local strided = fp8.randn(6, 40, {device = device}):t()
      assert.same(fp8.analyze(strided:contiguous(), {scales = {{4, 2}}, blocks = true})[1],
        fp8.analyze(strided, {scales = {{4, 2}}, blocks = true})[1])
    end)

    it("have columns where they are asked for", function()
      local x = fp8.randn(64, 64, {device = device})
      local usual, text = tostring(fp8.analyze(x)), tostring(fp8.analyze(x, {blocks = true}))
      assert.is_nil(usual:find("blocks", 1, true))
      assert.is_truthy(text:find "largest rel. error  blocks  dominated %%  +log2 absmax\n")
      assert.is_truthy(text:find "e4m3 +row .- 64 +%d[%d.]* +%-?%d%.%d%.%.%d%.%d%.%.%d%.%d\n")
      assert.is_nil(fp8.analyze(x)[1].blocks)
      fails("analyze: option blocks must be a boolean, got number", fp8.analyze, x, {blocks = 3})
      fails("watch: option blocks must be a boolean, got string", fp8.watch, fp8.Linear(2, 2), {blocks = "row"})
    end)

    it("are what fp8.watch records of them", function()
      local on = {device = device}
      local model = fp8.nn.Sequential(fp8.Linear(40, 24, {device = device, recipe = "mx"}), fp8.nn.ReLU(),
        fp8.Linear(24, 8, on))
      local watcher = fp8.watch(model, {every = 1, blocks = true})
      local inputs, gradients = {}, {}
      for step = 1, 3 do
        inputs[step] = (fp8.randn(16, 40, on) * 2 ^ step):requires_grad_()
        local y = model[1](inputs[step]):retain_grad()
        model[3](model[2](y)):square():sum():backward()
        gradients[step] = y.grad:clone()
        watcher:step()
      end
      local weight, seen = model[1].weight:detach(), 0
      for _, row in ipairs(watcher:rows()) do
        local tensors = {input = inputs[row.step], weight = weight, grad_output = gradients[row.step]}
        local x = tensors[row.tensor:match "^%S+"]
        if row.layer == "1" then
          local tile = row.tensor:find " for " and {32, 1} or {1, 32}
          assert.equal(("%dx%d_mx"):format(tile[1], tile[2]), row.scale)
          check(support.flat(x:detach()), x:size(2), tile, row)
          seen = seen + 1
        else
          assert.equal(0, row.blocks)
        end
      end
      assert.equal(3 * 6, seen)
      local text = tostring(watcher)
      assert.is_truthy(text:find "non%-finite  blocks  dominated %%  +log2 absmax\n")
      local path = os.tmpname()
      watcher:save(path)
      local saved = support.read_file(path)
      assert.is_truthy(saved:find(",relative_error,blocks,dominated,spread,exponents\n", 1, true))
      assert.is_truthy(saved:find "\n1,1,input,e4m3,1x32_mx,.-,32,%d%S*,%d%S*,%S+ %S+ %S+ %S+ %S+\n")
      os.remove(path)
      watcher:close()
    end)

    it("leave a run as it is, and the device's memory", function()
      local function run(watched)
        fp8.manual_seed(4)
        local model = fp8.nn.Sequential(fp8.LinearMixed(16, 8, {device = device, rounding = "stochastic"}))
        local watcher = watched and fp8.watch(model, {every = 1, blocks = true})
        for _ = 1, 3 do
          model(fp8.randn(8, 16, {device = device, requires_grad = true})):sum():backward()
          if watcher then watcher:step() end
        end
        if watcher then watcher:close() end
        return support.bytes(model[1].weight.grad)
      end
      assert.equal(run(false), run(true))
      local before = support.in_use(device)
      run(true)
      assert.is_true(support.in_use(device) <= before)
    end)
  end)
end)
