-- The modules that transformers are made of: parameters, how they start, options, training; and in graphs.
local fp8 = require "fp8"
local support = require "spec.support"

local nn, fails = fp8.nn, support.fails

--- Smallest and largest value, mean and standard deviation.
local function moments(tensor)
  local values = support.flat(tensor:detach())
  local low, high, sum, squares = math.huge, -math.huge, 0, 0
  for _, value in ipairs(values) do
    low, high = math.min(low, value), math.max(high, value)
    sum, squares = sum + value, squares + value ^ 2
  end
  local mean = sum / #values
  return low, high, mean, math.sqrt(squares / #values - mean ^ 2)
end

local function names_of(module)
  local names = {}
  for name in module:named_parameters() do table.insert(names, name) end
  return names
end

--- A model of words: embeddings, blocks, and a layer that is tied to the embedding.
local Language = nn.Module:extend "Language"

function Language:init(options)
  local block = {device = options.device, dtype = options.dtype, causal = true, activation = "gelu_tanh",
    layer_scale = options.layer_scale, norm = options.norm, dropout = options.dropout}
  local on = {device = options.device, dtype = options.dtype}
  self.words, self.places = nn.Embedding(11, 16, on), nn.Embedding(6, 16, on)
  self.blocks = nn.Sequential(nn.TransformerBlock(16, 2, block), nn.TransformerBlock(16, 2, block))
  self.norm = nn.LayerNorm(16, on)
  self.positions = fp8.arange(6, {device = options.device, dtype = "i64"})
end

function Language:forward(tokens)
  local x = self.norm(self.blocks(self.words(tokens) + self.places(self.positions)))
  return x:view(-1, 16):matmul(self.words.weight:t())
end

local function tokens_by_words(x) return x end

support.each_device(function(device)
  local on = {device = device}

  describe("A module", function()
    it("draws the tree of its parts", function()
      local block = nn.TransformerBlock(8, 2, {causal = true, dropout = 0.1, layer_scale = 0, bias = false})
      assert.equal([[
TransformerBlock(
  norm1: LayerNorm(8, epsilon = 1e-05, bias = false)  8 parameters
  attention: MultiHeadAttention(8, 2 heads, causal, dropout = 0.1
    in_proj: Linear(8, 24, bias = false)  192 parameters
    out_proj: Linear(8, 8, bias = false)  64 parameters
  )  256 parameters
  scale1: LayerScale(8)  8 parameters
  norm2: LayerNorm(8, epsilon = 1e-05, bias = false)  8 parameters
  mlp: MLP(
    fc1: Linear(8, 32, bias = false)  256 parameters
    activation: GELU()
    dropout: Dropout(0.1)
    fc2: Linear(32, 8, bias = false)  256 parameters
  )  512 parameters
  scale2: LayerScale(8)  8 parameters
  dropout: Dropout(0.1)
)  800 parameters]], tostring(block))
      assert.equal([[
Sequential(
  1: Embedding(3, 4)  12 parameters
  2: RMSNorm(4, epsilon = 0.1)  4 parameters
  3: SiLU()
)  16 parameters]], tostring(nn.Sequential(nn.Embedding(3, 4), nn.RMSNorm(4, {epsilon = 0.1}), nn.SiLU())))
      local model = nn.Sequential(nn.SiLU())
      model[2] = model
      assert.equal("Sequential(\n  1: SiLU()\n  2: Sequential(…)\n)", tostring(model))
    end)

    it("draws its parts in the order in which they came, functions too, and counts a shared tensor once", function()
      local Net = nn.Module:extend "Net"
      function Net:init()
        self.words = nn.Embedding(1000, 1250, on)
        self.blocks = {fp8.Linear(2, 3, on), last = nn.ReLU()}
        self.act = fp8.tanh
        self.again = self.words
        self.own = tokens_by_words
        self.frozen = fp8.ones(7, on)
      end
      local model = Net()
      assert.equal(([[
Net(
  words: Embedding(1000, 1250)  1,250,000 parameters
  blocks.1: Linear(2, 3, bias = true)  9 parameters
  blocks.last: ReLU()
  act: fp8.tanh
  again: Embedding(1000, 1250)  1,250,000 parameters
  own: function of FILE
)  1,250,009 parameters]]):gsub("FILE", ("%s:%d"):format(debug.getinfo(tokens_by_words, "S").short_src,
        debug.getinfo(tokens_by_words, "S").linedefined)), tostring(model))
      model.act, model.words = nil, nil
      model.act = nn.ReLU()
      rawset(model, "behind", fp8.Linear(1, 1, {bias = false, device = device}))
      local names = {}
      for name in tostring(model):gmatch "\n  ([%w.]+): " do table.insert(names, name) end
      assert.same({"blocks.1", "blocks.last", "act", "again", "own", "behind"}, names)
      assert.equal("Linear(1, 1, bias = false)  1 parameter", tostring(model.behind))
      assert.equal("ModuleDict(\n  a: ReLU()\n  b: SiLU()\n)", tostring(nn.ModuleDict {b = nn.SiLU(), a = nn.ReLU()}))
    end)

    it("gives its parts by name", function()
      local names = {}
      local block = nn.TransformerBlock(8, 2, on)
      for name, part in block:children() do
        assert.equal(block[name], part)
        table.insert(names, name)
      end
      assert.same({"attention", "mlp", "norm1", "norm2"}, names)
      for _ in nn.LayerNorm(3):children() do error "none expected" end
    end)

    it("names parameters as PyTorch does", function()
      assert.same({"bias", "weight"}, names_of(nn.LayerNorm(4, on)))
      assert.same({"weight"}, names_of(nn.LayerNorm(4, {bias = false})))
      assert.same({"weight"}, names_of(nn.RMSNorm(4)))
      assert.same({"weight"}, names_of(nn.Embedding(4, 3)))
      assert.same({"in_proj.bias", "in_proj.weight", "out_proj.bias", "out_proj.weight"},
        names_of(nn.MultiHeadAttention(4, 2)))
      assert.equal(12, #names_of(nn.TransformerBlock(4, 2)))
      assert.equal(8, #names_of(nn.TransformerBlock(4, 2, {norm = "rms", layer_scale = 1, bias = false})))
    end)

    it("starts as PyTorch's does", function()
      fp8.manual_seed(1)
      local norm = nn.LayerNorm(5, on)
      support.equal(norm.weight:detach(), fp8.ones(5, on))
      support.equal(norm.bias:detach(), fp8.zeros(5, on))
      local _, _, mean, deviation = moments(nn.Embedding(100, 60, on).weight)
      assert.near(0, mean, 0.07)
      assert.near(1, deviation, 0.05)
      local attention = nn.MultiHeadAttention(48, 3, on)
      local low, high, _, spread = moments(attention.in_proj.weight)
      local bound = math.sqrt(6 / (48 + 3 * 48))
      assert.is_true(low >= -bound * 1.0001 and high <= bound * 1.0001)
      assert.near(bound / math.sqrt(3), spread, 0.02 * bound)
      low, high = moments(attention.out_proj.weight)
      assert.near(-1 / math.sqrt(48), low, 0.002)
      assert.near(1 / math.sqrt(48), high, 0.002)
      support.equal(attention.in_proj.bias:detach(), fp8.zeros(144, on))
      support.equal(attention.out_proj.bias:detach(), fp8.zeros(48, on))
      support.equal(nn.LayerScale(3, on).gamma:detach(), fp8.zeros(3, on))
      support.equal(nn.LayerScale(3, {initial = 0.5, device = device}).gamma:detach(), fp8.full({3}, 0.5, on))
    end)

    it("is the identity where layer scale is 0, and has its dtype", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        local block = nn.TransformerBlock(8, 2, {layer_scale = 0, device = device, dtype = dtype})
        local x = fp8.randn(2, 3, 8, {device = device, dtype = dtype})
        assert.equal(dtype, block(x).dtype)
        support.equal(block(x):detach(), x)
      end
      -- Float32 parameters go with 16-bit activations.
      local x = fp8.randn(2, 3, 8, {device = device, dtype = "bf16"})
      local block = nn.TransformerBlock(8, 2, {layer_scale = 1, device = device})
      local y = block(x)
      assert.equal("bf16", y.dtype)
      y:backward(x)
      for _, parameter in ipairs(block:parameters()) do assert.equal("f32", parameter.grad.dtype) end
    end)

    it("sees no later position if it is causal", function()
      local block = nn.TransformerBlock(8, 2, {causal = true, device = device})
      local x = fp8.randn(1, 6, 8, on)
      local changed = x:clone()
      changed:narrow(2, 5, 2):fill_(3)
      support.equal(block(changed):detach():narrow(2, 1, 4), block(x):detach():narrow(2, 1, 4))
      local open = nn.TransformerBlock(8, 2, on)
      assert.is_true(support.error(open(changed):detach():narrow(2, 1, 4), open(x):detach():narrow(2, 1, 4)) > 1e-3)
    end)

    it("drops nothing in evaluation", function()
      local block = nn.TransformerBlock(8, 2, {dropout = 0.5, device = device})
      local x = fp8.randn(1, 6, 8, on)
      assert.is_not.same(block(x):totable(), block(x):totable())
      block:eval()
      support.equal(block(x):detach(), block(x):detach())
    end)

    it("refuses wrong options and inputs, by name", function()
      for _, name in ipairs {"LayerNorm", "RMSNorm", "LayerScale", "Embedding", "MultiHeadAttention", "MLP"} do
        fails(name .. ": ", nn[name], 0, 1)
        fails(name .. ": ", nn[name], "4", 1)
        fails(name .. ": ", nn[name])
        if name ~= "Embedding" and name ~= "MultiHeadAttention" and name ~= "MLP" then
          fails(name .. ": unknown option momentum", nn[name], 4, {momentum = 1})
          fails(name .. ": option dtype must be f32, f16 or bf16, got i64", nn[name], 4, {dtype = "i64"})
          fails(name .. ": options must be a table, got number", nn[name], 4, 3)
        else
          fails(name .. ": unknown option momentum", nn[name], 4, 4, {momentum = 1})
        end
      end
      fails("LayerNorm: option epsilon must be a number, got string", nn.LayerNorm, 4, {epsilon = "1"})
      fails("LayerNorm: option epsilon must be a finite number of at least 0, got -1", nn.LayerNorm, 4, {epsilon = -1})
      fails("layer_norm: epsilon must be at least 0", fp8.layer_norm, fp8.zeros(4), fp8.ones(4), nil, -1)
      fails("MultiHeadAttention: 3 heads can't share 8 features", nn.MultiHeadAttention, 8, 3)
      fails("MultiHeadAttention: option dropout must be a number of at least 0 and below 1, got 1",
        nn.MultiHeadAttention, 8, 2, {dropout = 1})
      fails("MLP: option activation must be gelu, gelu_tanh, silu or relu, got tanh", nn.MLP, 8, 2,
        {activation = "tanh"})
      fails("TransformerBlock: option norm must be layer or rms, got batch", nn.TransformerBlock, 8, 2,
        {norm = "batch"})
      fails("TransformerBlock: unknown option heads", nn.TransformerBlock, 8, 2, {heads = 2})
      fails("TransformerBlock: option layer_scale must be a number, got boolean", nn.TransformerBlock, 8, 2,
        {layer_scale = true})
      fails("GELU: option approximate must be none or tanh, got erf", nn.GELU, {approximate = "erf"})
      fails("GELU: unknown option approximation", nn.GELU, {approximation = "tanh"})
      fails("gelu: approximate must be none or tanh, got 1", fp8.gelu, fp8.zeros(1), 1)
      local attention = nn.MultiHeadAttention(8, 2, on)
      fails("MultiHeadAttention: the input must have 3 dimensions", attention, fp8.zeros(3, 8, on))
      fails("MultiHeadAttention: the input must be a tensor, got nil", attention)
      fails("(1, 3, 7)", attention, fp8.zeros(1, 3, 7, on))
      fails("LayerScale: the input must be a tensor, got string", nn.LayerScale(4), "x")
      fails("layer_norm: the weight must have shape (5), got (4)", nn.LayerNorm(4, on), fp8.zeros(2, 5, on))
    end)
  end)

  describe("A small language model", function()
    --- A sequence that counts up, and what follows.
    local function batch(i)
      local tokens, targets = {}, {}
      for k = 1, 4 do
        tokens[k] = {}
        for j = 1, 6 do
          tokens[k][j] = (3 * i + 5 * k + 2 * j) % 11
          table.insert(targets, (tokens[k][j] + 2) % 11)
        end
      end
      local at = {device = device, dtype = "i64"}
      return fp8.tensor(tokens, at), fp8.tensor(targets, at)
    end

    for _, dtype in ipairs {"f32", "bf16"} do
      it("learns to count, " .. dtype, function()
        for _, setup in ipairs {{}, {norm = "rms", layer_scale = 0.1}, {dropout = 0.1}} do
          fp8.manual_seed(2)
          local model = Language {device = device, dtype = dtype, norm = setup.norm, layer_scale = setup.layer_scale,
            dropout = setup.dropout}
          local optimizer = fp8.optim.AdamW(model, {lr = 0.01})
          local loss
          for i = 1, 60 do
            optimizer:zero_grad()
            local tokens, targets = batch(i)
            loss = fp8.cross_entropy(model(tokens), targets)
            loss:backward()
            optimizer:step()
          end
          assert.is_true(loss:item() < 0.35, "loss " .. loss:item())
        end
      end)
    end

    it("gives its state and takes it", function()
      local model, other = Language(on), Language(on)
      local tokens = batch(1)
      other:load_state_dict(model:state_dict())
      support.equal(other(tokens):detach(), model(tokens):detach())
      assert.is_truthy(model:state_dict()["blocks.1.attention.in_proj.weight"])
    end)

    if device == "cuda" then
      it("trains in a graph as it does without", function()
        for _, dtype in ipairs {"f32", "bf16"} do
          local function training()
            fp8.manual_seed(3)
            local model = Language {device = device, dtype = dtype, layer_scale = 0.5}
            local optimizer = fp8.optim.AdamW(model, {lr = 0.01})
            local tokens, targets = batch(0)
            return model, tokens, targets, function()
              optimizer:zero_grad()
              local loss = fp8.cross_entropy(model(tokens), targets)
              loss:backward()
              optimizer:step()
              return loss
            end
          end
          local model, tokens, targets, f = training()
          local other, other_tokens, other_targets, eager = training()
          local step = fp8.cuda.graph(f)
          eager()
          for i = 1, 5 do
            local new_tokens, new_targets = batch(i)
            for _, x in ipairs {tokens, other_tokens} do x:copy_(new_tokens) end
            for _, x in ipairs {targets, other_targets} do x:copy_(new_targets) end
            support.close(step():detach(), eager():detach(), dtype == "f32" and 1e-4 or 2e-2)
          end
          support.close(model.words.weight:detach(), other.words.weight:detach(), dtype == "f32" and 1e-3 or 3e-2)
        end
      end)

      it("can't have dropout in a graph", function()
        local model = Language {device = device, dropout = 0.1}
        local tokens = batch(0)
        fails("dropout: random numbers can't be captured", fp8.cuda.graph, function() return model(tokens) end)
      end)
    end
  end)
end)
