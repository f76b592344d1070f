-- fp8.convert with recipes by name and by step, and the checkpoints that remember them.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

-- A model with layers called blocks.1.fc1, blocks.1.fc2, …, blocks.11.fc2 and head.
local function build(device)
  local Block = fp8.nn.Module:extend "Block"
  function Block:init()
    self.fc1, self.fc2 = fp8.Linear(8, 8, {device = device}), fp8.Linear(8, 8, {device = device})
  end
  function Block:forward(x) return x + self.fc2(self.fc1(x)) end
  local Net = fp8.nn.Module:extend "Net"
  function Net:init()
    self.blocks = {}
    for i = 1, 11 do self.blocks[i] = Block() end
    self.head = fp8.Linear(8, 4, {device = device})
  end
  function Net:forward(x)
    for _, block in ipairs(self.blocks) do x = block(x) end
    return self.head(x)
  end
  return Net()
end

-- The names of the recipes of all layers: "plain" where there is none.
local function recipes_of(model)
  local found = {}
  for name, module in model:named_modules() do
    if fp8.nn.Linear.forward == module.forward then
      found[name] = module.recipe and module.recipe_text(module.recipe) or "plain"
    end
  end
  return found
end

support.each_device(function(device)
  describe("fp8.convert by name", function()
    local model
    before_each(function() model = build(device) end)

    it("gives each layer what the most exact name says", function()
      local same, count = fp8.convert(model, {
        default = "mx", ["blocks.1.*"] = false, ["blocks.1?.*"] = "rowwise", ["*.fc2"] = "global",
        ["blocks.1.fc1"] = "mixed", head = fp8.recipes.blocks,
      })
      assert.equal(model, same)
      assert.equal(23, count)
      local found = recipes_of(model)
      assert.equal("mixed", found["blocks.1.fc1"]) -- its own name
      assert.equal("plain", found["blocks.1.fc2"]) -- 9 characters beside 4
      assert.equal("mx", found["blocks.2.fc1"])
      assert.equal("global", found["blocks.2.fc2"])
      assert.equal("rowwise", found["blocks.10.fc1"])
      assert.equal("rowwise", found["blocks.11.fc2"])
      assert.equal("blocks", found.head)
    end)

    it("computes what layers converted one by one do", function()
      local other = build(device):load_state_dict(model:state_dict())
      fp8.convert(model, {default = false, ["*.fc1"] = "mixed", head = "global"})
      for i = 1, 11 do fp8.convert(other.blocks[i].fc1, "mixed") end
      fp8.convert(other.head, "global")
      local x = fp8.randn(5, 8, {device = device})
      support.same_bytes(model(x):detach(), other(x):detach())
      assert.is_true(support.error(model(x):detach(), fp8.convert(other, false)(x):detach()) > 1e-4)
    end)

    it("takes a name that is a layer's and has the letters of patterns", function()
      local layers = fp8.nn.ModuleDict {["a-b+c%d"] = fp8.Linear(4, 4), ["a-bbc%d"] = fp8.Linear(4, 4)}
      fp8.convert(layers, {default = false, ["a-b+c%d"] = "mx"})
      local count = 0
      for _, module in layers:named_modules() do count = count + (module.recipe and 1 or 0) end
      assert.equal(1, count)
    end)

    it("changes recipes after a step, and leaves layers alone whose recipe stays", function()
      local recipes = {
        default = "delayed", ["blocks.*"] = "mx", until_step = 3,
        after = {default = "delayed", ["blocks.*"] = "mixed", until_step = 5},
      }
      local counts, x = {}, fp8.randn(4, 8, {device = device})
      for step = 1, 7 do
        counts[step] = select(2, fp8.convert(model, recipes, step))
        model(x):sum():backward()
        local largest = model.head.input_history and model.head.input_history:max():item()
        if step <= 5 then assert.is_true(largest > 0) else assert.is_nil(largest) end
        local found = recipes_of(model)
        assert.equal(step <= 3 and "mx" or step <= 5 and "mixed" or "plain", found["blocks.3.fc2"])
        assert.equal(step <= 5 and "delayed" or "plain", found.head)
      end
      assert.same({23, 0, 0, 22, 0, 23, 0}, counts)
      assert.equal(23, select(2, fp8.convert(model, recipes, 1))) -- and back
      assert.equal(23, select(2, fp8.convert(model, recipes))) -- without a step: anew
    end)

    it("refuses what fits nothing, and changes nothing", function()
      fp8.convert(model, "global")
      local function refuses(text, recipes, step)
        fails("convert: " .. text, fp8.convert, model, recipes, step)
        for _, recipe in pairs(recipes_of(model)) do assert.equal("global", recipe) end
      end
      refuses("no layer is called block.1.*; did you mean blocks.1.*?", {default = "mx", ["block.1.*"] = false})
      refuses("no layer is called blocks.1.fc3; did you mean blocks.1.fc1?", {default = "mx", ["blocks.1.fc3"] = false})
      refuses("no layer is called untill_step; did you mean until_step?", {default = "mx", untill_step = 3})
      refuses("no layer is called tail", {default = "mx", tail = "mx"})
      refuses("layer blocks.1.fc1 is called *.1.fc1 and block*1, which say as much and differ",
        {default = "mx", ["*.1.fc1"] = "mixed", ["block*1"] = false})
      refuses("there is no recipe 'mixd' in fp8.recipes; did you mean mixed?", {default = "mx", head = "mixd"})
      refuses("recipe must be a table or the name of one, got number", {default = 3})
      refuses("until_step must be a whole number of at least 1, got 0", {default = "mx", until_step = 0})
      refuses("until_step must be a whole number of at least 1, got nil", {default = "mx", after = "mixed"})
      refuses("until_step must be a whole number of at least 4, got 3",
        {default = "mx", until_step = 3, after = {default = "mixed", until_step = 3}})
      refuses("there is no recipe 'mxi'", {default = "mx", until_step = 3, after = "mxi"})
      refuses("no layer is called tail", {default = "mx", until_step = 3, after = {default = false, tail = "mx"}})
      refuses("the names of layers must be strings, got 1", {default = "mx", "mixed"})
      refuses("recipes by name need a default", {["blocks.*"] = "mx"})
      refuses("recipes by name need a default: a recipe, or false for plain products; did you mean default?",
        {defualt = "mx"})
      refuses("no layer is called keep, which is a field of a recipe: default = {…, keep = …}",
        {default = "mx", keep = {format = "e4m3", scale = "row"}})
      refuses("with recipes by name, the third argument must be the number of a step, got function", {default = "mx"},
        function() return true end)
      refuses("with recipes by name, the third argument must be the number of a step, got 1.5", {default = "mx"}, 1.5)
    end)

    describe("for a whole network", function()
      local rows, tiles = {format = "e4m3", scale = "row"}, {format = "e2m1", scale = {1, 4}, scale_rounding = "mx"}
      local net, tokens
      before_each(function()
        net = fp8.nn.Sequential(fp8.nn.Embedding(10, 8, {device = device}),
          fp8.nn.TransformerBlock(8, 2, {causal = true, device = device}),
          fp8.nn.TransformerBlock(8, 2, {causal = true, device = device}), fp8.Linear(8, 10, {device = device}))
        tokens = fp8.randint(0, 10, {2, 5}, {dtype = "i64", device = device})
      end)

      it("gives attention and embeddings recipes of their own", function()
        local attention = {q = rows, k = rows, v = tiles, probabilities = rows}
        local recipes = {
          default = "mx", ["1"] = {rows = rows}, ["4"] = false, ["*.attention"] = attention, ["3.*"] = false,
          ["3.attention"] = {v = rows},
        }
        assert.equal(9 + 1 + 2, select(2, fp8.convert(net, recipes)))
        assert.same({rows = rows}, net[1].recipe)
        assert.same(attention, net[2].attention.recipe)
        assert.same({v = rows}, net[3].attention.recipe)
        assert.equal("mx", net[2].attention.in_proj.recipe_text(net[2].attention.in_proj.recipe))
        assert.is_nil(net[3].mlp.fc1.recipe)
        assert.is_nil(net[4].recipe)
        assert.is_truthy(tostring(net):find("2 heads, causal, recipe: v: e4m3 by row", 1, true))
        assert.is_truthy(tostring(net):find("Embedding(10, 8, recipe: rows: e4m3 by row)", 1, true))
        -- The same by hand.
        local x = fp8.embedding(net[1].weight, tokens, {recipe = {rows = rows}})
        local inputs = net[2].norm1(x)
        local y = fp8.self_attention(net[2].attention.in_proj(inputs), 2, {causal = true, recipe = attention})
        support.same_bytes(net[2].attention.out_proj(y):detach(), net[2].attention(inputs):detach())
        support.same_bytes(net[1](tokens):detach(), x:detach())
      end)

      it("changes them at their step, and false is for all kinds", function()
        local recipes = {
          default = "mx", ["2.attention"] = {q = rows}, until_step = 2,
          after = {default = "mx", ["2.attention"] = {q = tiles}, ["1"] = {rows = rows}, until_step = 3},
        }
        local counts = {}
        for step = 1, 5 do
          counts[step] = select(2, fp8.convert(net, recipes, step))
          local recipe = net[2].attention.recipe
          assert.same(step <= 2 and rows or step <= 3 and tiles or nil, recipe and recipe.q)
          assert.equal(step == 3, net[1].recipe ~= nil)
          assert.equal(step > 3, net[4].recipe == nil)
        end
        assert.same({10, 0, 2, 11, 0}, counts)
        fp8.convert(net, {default = "mx", ["*.attention"] = {q = rows}, ["1"] = {rows = rows}})
        fp8.convert(net, {default = "mx", ["*"] = false, ["3.attention"] = {q = rows}})
        assert.is_nil(net[1].recipe)
        assert.is_nil(net[2].attention.recipe)
        assert.is_nil(net[4].recipe)
        assert.same({q = rows}, net[3].attention.recipe)
      end)

      it("says what optimizers keep moments in", function()
        local recipes = {default = "mx", optimizer_state = {format = "e4m3", smallest = 0, blocksize = 64}}
        fp8.convert(net, recipes)
        local parameters, Adam = net:parameters(), fp8.optim.AdamW
        assert.equal("e4m3", Adam(net).state[1].first_moment.dtype)
        assert.equal("f32", Adam(parameters).state[1].first_moment.dtype)
        assert.equal("e4m3", Adam(parameters, {state = net}).state[1].first_moment.dtype)
        assert.equal("f32", Adam(net, {state = "f32"}).state[1].first_moment.dtype)
        assert.equal("e5m2", Adam(net, {state = {format = "e5m2", smallest = 0}}).state[1].first_moment.dtype)
        local grouped = Adam {{parameters = {parameters[1]}, state = net}, {parameters = {parameters[2]}}}
        assert.equal("e4m3", grouped.state[1].first_moment.dtype)
        assert.equal("f32", grouped.state[2].first_moment.dtype)
        fp8.convert(net, "mx")
        assert.equal("f32", Adam(net).state[1].first_moment.dtype)
        assert.equal("f32", Adam(parameters, {state = net}).state[1].first_moment.dtype)
      end)

      it("is remembered by checkpoints", function()
        local path, recipes = os.tmpname(), {
          default = fp8.recipe("mx", {keep = rows}), ["1"] = {rows = rows}, ["*.attention"] = {q = rows, v = tiles},
          optimizer_state = {format = "e2m1"}, until_step = 3, after = {default = "mx"},
        }
        fp8.convert(net, recipes)
        fp8.checkpoint.save(path, {model = net, step = 2})
        local found = fp8.checkpoint.read(path)
        assert.same(recipes, found.recipes)
        local text = tostring(net)
        fp8.convert(fp8.convert(net, false), found.recipes, found.step)
        assert.equal(text, tostring(net))
        os.remove(path)
      end)

      it("leaves what it remembers out of the model's tensors", function()
        local map, count = fp8.create_map(true, 4, 3, 8):requires_grad_(), #net:parameters()
        fp8.convert(net, {default = fp8.recipe("mixed", {input = {format = map}})})
        assert.equal(count, #net:parameters())
        net:to "bf16"
        fp8.convert(net, fp8.recipe("mixed", {input = {format = map}}))
        assert.equal(count, #net:parameters())
      end)

      it("trains, and learns with all of it", function()
        fp8.convert(net, {
          default = fp8.recipe("mxfp8", {keep = rows}), ["1"] = {rows = rows},
          ["*.attention"] = {q = rows, k = rows, v = rows},
          optimizer_state = {format = "e4m3", smallest = 0},
        })
        local optimizer, losses = fp8.optim.AdamW(net, {lr = 0.02}), {}
        for step = 1, 20 do
          optimizer:zero_grad()
          local loss = fp8.cross_entropy(net(tokens):view(-1, 10), tokens:view(-1))
          loss:backward()
          optimizer:step()
          losses[step] = loss:item()
        end
        assert.is_true(losses[20] < losses[1] / 2, losses[20])
      end)

      it("refuses what fits nothing, and changes nothing", function()
        fp8.convert(net, {default = "mx", ["*.attention"] = {q = rows}})
        local before = tostring(net)
        local function refuses(text, recipes)
          fails("convert: " .. text, fp8.convert, net, recipes)
          assert.equal(before, tostring(net))
        end
        refuses("no attention is called 2.atention; did you mean 2.attention?",
          {default = "mx", ["2.atention"] = {q = rows}})
        refuses("no embedding is called 2.attention", {default = "mx", ["2.attention"] = {rows = rows}})
        refuses("no layer is called 2.attention", {default = "mx", ["2.attention"] = "mx"})
        refuses("no layer is called tokens", {default = "mx", tokens = false})
        refuses("recipe: unknown field key", {default = "mx", ["2.attention"] = {q = rows, key = rows}})
        refuses("recipe.rows.format must be", {default = "mx", ["1"] = {rows = {}}})
        refuses("recipe: unknown field q", {default = {q = rows}})
        refuses("recipe: unknown field default", {default = {default = "mx"}, ["*"] = "mx"})
        refuses("there is no recipe 'mxi'", {default = "mxi", ["*"] = "mx"})
        refuses("optimizer_state: state.format must be a map", {default = "mx", optimizer_state = {}})
        refuses("optimizer_state is for all steps: it belongs to the first table",
          {default = "mx", until_step = 3, after = {default = false, optimizer_state = {format = "e4m3"}}})
      end)
    end)

    it("is remembered by checkpoints", function()
      local path = os.tmpname()
      local function remembered(recipes, step)
        fp8.convert(model, recipes, step)
        fp8.checkpoint.save(path, {model = model, step = step})
        local found = fp8.checkpoint.read(path)
        local loaded = fp8.checkpoint.load(path, {model = model})
        assert.equal(fp8.text(found), fp8.text(loaded))
        return found
      end
      local recipes = {
        default = fp8.recipe("mx", {weight = {scale = {16, 16}}}), ["blocks.1.*"] = false, head = "delayed",
        until_step = 540, after = {default = "mixed", until_step = 580},
      }
      local found = remembered(recipes, 7)
      assert.equal(7, found.step)
      assert.same(recipes, found.recipes)
      local other = build(device)
      fails("it has model.head.grad_output_history", fp8.checkpoint.load, path, {model = other})
      fp8.convert(other, found.recipes, found.step)
      fp8.checkpoint.load(path, {model = other})
      assert.same(recipes_of(model), recipes_of(other))

      local map = fp8.create_map(true, 3, 4, 8)
      found = remembered({default = fp8.recipe("mixed", {input = {format = map}})}, 1).recipes
      support.equal(found.default.input.format, map)
      assert.equal("block", found.default.input.scale)
      assert.same({default = "rowwise"}, remembered("rowwise").recipes)
      assert.same({default = false}, remembered(false).recipes)
      assert.is_nil(remembered(function() return "mx" end).recipes)
      local own = {quantize = function(x) return x end}
      assert.is_nil(remembered({default = "mx", head = {input = own, weight = own, grad_output = own}}).recipes)
      fp8.save(path, {}, {kind = "fp8 checkpoint 1", step = "0", random = "[1,0]", extra = "{}",
        recipes = '{"default":{"256 values":[1]}}'})
      fails("checkpoint.read: " .. path .. ": its recipes can't be read", fp8.checkpoint.read, path)
      os.remove(path)
    end)
  end)
end)
