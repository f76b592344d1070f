-- Wrong calls: each is an error that names the function, what was expected and what came, at the line of the caller.
local fp8 = require "fp8"
local support = require "spec.support"

local nan, infinity = 0 / 0, math.huge

--- f, which stands on one line, raises "this file:that line: ", then a message with this start and these words.
local function refused(start, words, f)
  local ok, message = pcall(f)
  assert.is_false(ok, "expected an error: " .. start)
  assert.equal("string", type(message))
  local info = debug.getinfo(f, "S")
  local position = ("%s:%d: "):format(info.short_src, info.linedefined)
  assert.equal(position .. start, message:sub(1, #position + #start))
  for _, word in ipairs(words) do
    assert.is_truthy(message:find(word, 1, true), ("expected %q in %q"):format(word, message))
  end
end

support.each_device(function(device)
  local on = {device = device}
  local x, y, i, freed

  before_each(function()
    x = fp8.arange(12, on):view(3, 4)
    y = fp8.arange(30, on):view(5, 6)
    i = fp8.tensor({0, 1, 2}, {dtype = "i64", device = device})
    fp8.scope(function() freed = fp8.zeros(2, on) end)
  end)

  after_each(function()
    assert.same({{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}}, x:totable())
    assert.same({0, 1, 2}, i:totable())
  end)

  describe("A wrong type", function()
    it("of a tensor is refused", function()
      refused("matmul: argument 2: ", {"tensor expected, got nil"}, function() x:matmul(nil) end)
      refused("matmul: argument 2: ", {"tensor expected, got number"}, function() x:matmul(3) end)
      refused("matmul: argument 1: ", {"tensor expected, got table"}, function() fp8.matmul({1}, x) end)
      refused("add: argument 2: ", {"tensor or number", "string"}, function() x:add("1") end)
      refused("add: argument 2: ", {"tensor or number", "string"}, function() local _ = x + "1" end)
      refused("mul: argument 1: ", {"tensor or number", "table"}, function() local _ = {} * x end)
      refused("sub: argument 2: ", {"tensor or number", "nil"}, function() local _ = x - nil end)
      refused("exp: argument 1: ", {"tensor expected"}, function() x.exp(print) end)
      refused("cat: ", {"list of tensors"}, function() fp8.cat(x) end)
      refused("cat: ", {"element 2", "string"}, function() fp8.cat({x, "x"}, 1) end)
      refused("cat: ", {"empty"}, function() fp8.cat({}, 1) end)
      refused("where: ", {"tensor"}, function() fp8.where(true, x, x) end)
    end)

    it("of a number, name or flag is refused", function()
      refused("fill_: argument 2: ", {"number", "string"}, function() x:fill_("0") end)
      refused("sum: ", {"number", "string"}, function() x:sum("1") end)
      refused("sum: ", {"boolean", "number"}, function() x:sum(1, 1) end)
      refused("zeros: ", {"string"}, function() fp8.zeros("2") end)
      refused("zeros: ", {"boolean"}, function() fp8.zeros(2, true) end)
      refused("zeros: ", {"options table", "number"}, function() fp8.zeros({2}, 3) end)
      refused("zeros: ", {"unknown option 'dtpye'"}, function() fp8.zeros(2, {dtpye = "f32"}) end)
      refused("tensor: ", {"string"}, function() fp8.tensor("1") end)
      refused("quantize: ", {"unknown option roundng"}, function() fp8.quantize(x, "e4m3", {roundng = "nearest"}) end)
      refused("cross_entropy: ", {"unknown option sum"}, function() fp8.cross_entropy(x, i, {sum = true}) end)
      refused("load: ", {"unknown option devcie"}, function() fp8.load("x", {devcie = "cpu"}) end)
      refused("read_idx: ", {"unknown option devcie"}, function() fp8.data.read_idx("x", {devcie = "cpu"}) end)
      refused("fashion_mnist: ", {"unknown option to"}, function() fp8.data.fashion_mnist("test", {to = "cpu"}) end)
      refused("permutation: ", {"unknown option devcie"}, function() fp8.data.permutation(3, 1, {devcie = "cpu"}) end)
      refused("backward: ", {"unknown option retain"}, function() x:backward(nil, {retain = true}) end)
      refused("tensor: ", {"string"}, function() fp8.tensor({1, "2"}) end)
      refused("tensor: ", {"lengths 2 and 1"}, function() fp8.tensor({{1, 2}, {3}}) end)
      refused("manual_seed: ", {"number", "nothing"}, function() fp8.manual_seed() end)
    end)

    it("of userdata that is no tensor is refused", function()
      refused("matmul: argument 2: ", {"tensor expected, got userdata"}, function() x:matmul(io.stdout) end)
      refused("neg: argument 1: ", {"tensor expected, got userdata"}, function() x.neg(io.stdout) end)
      refused("add: argument 2: ", {"userdata"}, function() local _ = x + io.stdout end)
      refused("add: argument 2: ", {"userdata"}, function() local _ = x + newproxy(true) end)
    end)
  end)

  describe("A freed tensor", function()
    it("is refused everywhere", function()
      refused("add: argument 1: ", {"freed"}, function() freed:add(1) end)
      refused("add: argument 2: ", {"freed"}, function() local _ = 1 + freed end)
      refused("totable: ", {"freed"}, function() freed:totable() end)
      refused("shape: ", {"freed"}, function() local _ = freed.shape end)
      refused("fill_: ", {"freed"}, function() freed:fill_(1) end)
      refused("cat: ", {"freed"}, function() fp8.cat({x, freed}, 1) end)
      refused("sum: ", {"freed"}, function() freed:sum() end)
      refused("narrow: ", {"freed"}, function() freed:narrow(1, 1, 1) end)
    end)

    it("can still be printed", function() assert.equal("string", type(tostring(freed))) end)
  end)

  describe("Wrong shapes", function()
    it("are refused with both shapes", function()
      refused("matmul: shapes (3, 4) and (5, 6): 4 and 5 differ", {}, function() x:matmul(y) end)
      refused("add: shapes (3, 4) and (5, 6) do not broadcast: 3 and 5 differ", {}, function() local _ = x + y end)
      refused("add_: ", {"(5, 6)", "(3, 4)"}, function() x:add_(y) end)
      refused("add_: ", {"(2, 3, 4)"}, function() x:add_(fp8.zeros(2, 3, 4, on)) end)
      refused("copy_: ", {"(5, 6)", "(3, 4)"}, function() x:copy_(y) end)
      refused("view: ", {"(3, 4)", "12", "10"}, function() x:view(5, 2) end)
      refused("view: ", {"-1"}, function() x:view(-1, 5) end)
      refused("view: ", {"only one"}, function() x:view(-1, -1) end)
      refused("view: ", {"strides"}, function() x:t():view(12) end)
      refused("expand: ", {"4"}, function() x:expand(3, 5) end)
      refused("expand: ", {"too few"}, function() x:expand(4) end)
      refused("cat: ", {"(3, 4)", "(5, 6)"}, function() fp8.cat({x, y}, 1) end)
      refused("stack: ", {"(3, 4)", "(5, 6)"}, function() fp8.stack({x, y}, 1) end)
      refused("cross_entropy: ", {"(3, 4)", "(2)"}, function() fp8.cross_entropy(x, i:narrow(1, 1, 2)) end)
      refused("gather: ", {"(3)", "(3, 4)"}, function() x:gather(1, i) end)
      refused("item: ", {"(3, 4)"}, function() x:item() end)
      refused("matmul: ", {"(3, 4)", "at least one dimension"}, function() x:matmul(fp8.tensor(1, on)) end)
      refused("t: ", {"(2, 3, 4)"}, function() fp8.zeros(2, 3, 4, on):t() end)
    end)

    it("without elements are no error", function()
      assert.same({2, 0, 3, 4, 6}, fp8.zeros(2, 0, 3, 4, 5, on):matmul(fp8.zeros(2, 0, 3, 5, 6, on)).shape)
      assert.equal(0, fp8.zeros(2, 3, 4, 0, on):transpose(1, 2):matmul(fp8.zeros(2, 0, 6, on)):sum():item())
    end)

    it("of nine dimensions are refused", function()
      refused("zeros: ", {"8 dimensions"}, function() fp8.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1) end)
      refused("zeros: ", {"8 dimensions"}, function() fp8.zeros({1, 1, 1, 1, 1, 1, 1, 1, 1}) end)
      refused("unsqueeze: ", {"at most 8"}, function() fp8.zeros(1, 1, 1, 1, 1, 1, 1, 1, on):unsqueeze(1) end)
      refused("tensor: ", {"nested"}, function() fp8.tensor({{{{{{{{{1}}}}}}}}}) end)
      refused("tensor: ", {"nested"}, function() local t = {} t[1] = t fp8.tensor(t) end)
    end)
  end)

  describe("A dimension or position", function()
    it("out of range is refused", function()
      refused("sum: ", {"dimension 3 is out of range", "has 2"}, function() x:sum(3) end)
      refused("sum: ", {"dimension 0 is out of range"}, function() x:sum(0) end)
      refused("sum: ", {"dimension -3 is out of range"}, function() x:sum(-3) end)
      refused("sum: ", {"twice"}, function() x:sum {1, -2} end)
      refused("transpose: ", {"dimension 5"}, function() x:transpose(1, 5) end)
      refused("permute: ", {"twice"}, function() x:permute(1, 1) end)
      refused("permute: ", {"2 dimensions"}, function() x:permute(1) end)
      refused("softmax: ", {"dimension 1.5"}, function() x:softmax(1.5) end)
      refused("narrow: ", {"size 4"}, function() x:narrow(2, 3, 3) end)
      refused("narrow: ", {"size 4"}, function() x:narrow(2, 2 ^ 53, 1) end)
      refused("narrow: ", {"-1"}, function() x:narrow(2, 1, -1) end)
      refused("select: ", {"position 4 is out of range", "size 3"}, function() x:select(1, 4) end)
      refused("select: ", {"position 0 is out of range"}, function() x:select(1, 0) end)
      refused("select: ", {"position -4 is out of range"}, function() x:select(1, -4) end)
    end)

    it("in an index tensor out of range is refused", function()
      local function synchronized(f)
        f()
        fp8.cuda.synchronize()
      end
      for _, bad in ipairs {3, -1, 2 ^ 40, -2 ^ 40} do
        local index = fp8.tensor({0, bad}, {dtype = "i64", device = device})
        assert.is_false(pcall(synchronized, function() x:index_select(1, index) end))
        assert.is_false(pcall(synchronized, function() x:gather(1, index:view(2, 1):expand(2, 4)) end))
        local logits = fp8.zeros(2, 3, on)
        assert.is_false(pcall(synchronized, function() fp8.cross_entropy(logits, index) end))
      end
    end)
  end)

  describe("A size", function()
    it("that is no whole number of at least 0 is refused", function()
      refused("zeros: ", {"whole", "nan"}, function() fp8.zeros(nan) end)
      refused("zeros: ", {"whole", "inf"}, function() fp8.zeros(2, infinity) end)
      refused("zeros: ", {"whole", "1.5"}, function() fp8.zeros(1.5) end)
      refused("zeros: ", {"-1", "negative"}, function() fp8.zeros(-1) end)
      refused("full: ", {"-2", "negative"}, function() fp8.full({3, -2}, 1) end)
      refused("view: ", {"whole", "nan"}, function() x:view(nan) end)
      refused("view: ", {"-2", "negative"}, function() x:view(-2, -6) end)
      refused("expand: ", {"-5", "negative"}, function() fp8.zeros(1, on):expand(-5) end)
      refused("narrow: ", {"whole", "nan"}, function() x:narrow(1, nan, 1) end)
      refused("narrow: ", {"whole", "nan"}, function() x:narrow(1, 1, nan) end)
      refused("arange: ", {"finite"}, function() fp8.arange(nan) end)
      refused("arange: ", {"finite"}, function() fp8.arange(0, infinity) end)
      refused("arange: ", {"0"}, function() fp8.arange(0, 1, 0) end)
      refused("randint: ", {"5", "below"}, function() fp8.randint(5, 5, {2}) end)
    end)

    it("that is huge is refused", function()
      refused("zeros: ", {"too large"}, function() fp8.zeros(2 ^ 40, 2 ^ 40, on) end)
      refused("zeros: ", {"too large"}, function() fp8.zeros(2 ^ 53, 2 ^ 53, 0, on) end)
      refused("zeros: ", {"whole"}, function() fp8.zeros(2 ^ 60, on) end)
      refused("view: ", {"too large"}, function() x:view(2 ^ 40, 2 ^ 40) end)
      refused("view: ", {"too large"}, function() fp8.zeros(0, on):view(2 ^ 50, 2 ^ 50, 0) end)
      refused("expand: ", {"too large"}, function() fp8.zeros(1, on):expand(2 ^ 40, 2 ^ 40) end)
      refused("arange: ", {"too large"}, function() fp8.arange(0, 1e300, 1, on) end)
      refused("totable: ", {"too many"}, function() fp8.zeros(1, on):expand(2 ^ 40):totable() end)
      refused("totable: ", {"too many"}, function() fp8.zeros(2 ^ 26, 2 ^ 26, 0, on):totable() end)
    end)
  end)

  describe("A dtype", function()
    it("by its name elsewhere is called by its name here, wherever it is read", function()
      for name, own in pairs {
        float = "f32", float32 = "f32", ["torch.float32"] = "f32", F32 = "f32", fp32 = "f32", half = "f16",
        float16 = "f16", fp16 = "f16", bfloat16 = "bf16", ["torch.bfloat16"] = "bf16", BF16 = "bf16",
        float8_e4m3fn = "e4m3", F8_E4M3 = "e4m3", float8_e5m2 = "e5m2", uint8 = "u8", byte = "u8", int = "i32",
        int32 = "i32", long = "i64", int64 = "i64",
      } do
        local said = ("dtype '%s' is called %s here"):format(name, own)
        refused("to: ", {said}, function() x:to(name) end)
        refused("to: ", {said}, function() x:to(device, name) end)
        refused("to: ", {said}, function() x:to {dtype = name} end)
        refused("to: ", {said}, function() fp8.Linear(2, 2):to(name) end)
        refused("zeros: ", {said}, function() fp8.zeros(2, {dtype = name}) end)
        refused("set_default_dtype: ", {said}, function() fp8.set_default_dtype(name) end)
        refused("Linear: option dtype ", {("got %s, which is called %s here"):format(name, own)},
          function() fp8.Linear(2, 2, {dtype = name}) end)
      end
      local recipe = {input = {format = "float8_e4m3fn", scale = "row"}, weight_grad = "full"}
      refused("Linear: recipe.input.format ", {'got "float8_e4m3fn", which is called e4m3 here'},
        function() fp8.Linear(2, 2, {recipe = recipe}) end)
      refused("to: ", {"'float33' is no dtype"}, function() x:to "float33" end)
      refused("to: ", {"'torch.' is no dtype"}, function() x:to "torch." end)
    end)

    it("of a layer that is not the input's is named with the casts", function()
      local input = fp8.ones(2, 4, on)
      local layer, norm = fp8.Linear(4, 3, on):to "bf16", fp8.nn.RMSNorm(4, on):to "bf16"
      local mixed = fp8.LinearMixed(4, 3, on):to "bf16"
      local said = {'the input is f32, the weight bf16: write x:to "bf16" or layer:to "f32"'}
      refused("", said, function() layer(input) end)
      refused("", said, function() mixed(input) end)
      refused("", said, function() norm(input) end)
      assert.equal("bf16", layer(input:to "bf16").dtype)
      assert.equal("f32", norm:to "f32"(input).dtype)
    end)

    it("that does not exist or fit is refused", function()
      refused("zeros: ", {"unknown dtype 'f64'", "f32"}, function() fp8.zeros(2, {dtype = "f64"}) end)
      refused("zeros: ", {"dtype name", "number"}, function() fp8.zeros(2, {dtype = 32}) end)
      refused("to: ", {"dtype 'float' is called f32 here"}, function() x:to("float") end)
      refused("matmul: dtypes f32 and f16 differ", {'a:to "f16"', 'b:to "f32"'}, function() x:matmul(x:t():half()) end)
      refused("matmul: ", {"i64"}, function() i:matmul(i) end)
      refused("randn: ", {"i32"}, function() fp8.randn(2, {dtype = "i32"}) end)
      refused("softmax: ", {"i64"}, function() i:softmax(1) end)
      refused("div_: ", {"i64"}, function() i:div_(2) end)
      refused("add_: ", {"i64"}, function() i:add_(0.5) end)
      refused("index_select: ", {"integer", "f32"}, function() x:index_select(1, x) end)
      refused("cross_entropy: ", {"integers", "f32"}, function() fp8.cross_entropy(x, fp8.zeros(3, on)) end)
      refused("cat: ", {"f32", "f16"}, function() fp8.cat({x, x:half()}, 1) end)
      refused("set_default_dtype: ", {"i64"}, function() fp8.set_default_dtype("i64") end)
    end)
  end)

  describe("A write", function()
    it("to an expanded tensor is refused", function()
      refused("fill_: ", {"expanded"}, function() x:select(1, 1):unsqueeze(1):expand(3, 4):fill_(1) end)
      refused("add_: ", {"expanded"}, function() fp8.zeros(1, on):expand(3):add_(1) end)
    end)
  end)

  describe("Error positions", function()
    it("are the caller's for modules and backward", function()
      local layer = fp8.LinearMixed(4, 2, on)
      refused("linear: ", {"(3, 5)", "(2, 4)"}, function() layer(fp8.zeros(3, 5, on)) end)
      refused("linear: ", {"tensor, got number"}, function() layer:forward(3) end)
      refused("backward: ", {}, function() x:backward() end)
      local loss = layer(x):sum()
      loss:backward()
      refused("backward: ", {"retain_graph"}, function() loss:backward() end)
      refused("tensor: no field or method 'shpae'", {}, function() local _ = x.shpae end)
      refused("tensor: ", {"shpae"}, function() x.shpae = 3 end)
    end)

    it("are the caller's where fp8 calls back", function()
      refused("matmul: ", {}, function() fp8.no_grad(function() x:matmul(y) end) end)
      refused("matmul: ", {}, function() fp8.scope(function() x:matmul(y) end) end)
    end)
  end)

  if device == "cpu" then
    describe("A device", function()
      it("that does not exist is refused", function()
        refused("zeros: ", {"unknown device 'gpu'", "cpu", "cuda"}, function() fp8.zeros(2, {device = "gpu"}) end)
        refused("zeros: ", {"unknown device 'cuda:'"}, function() fp8.zeros(2, {device = "cuda:"}) end)
        refused("zeros: ", {"unknown device 'cuda:-1'"}, function() fp8.zeros(2, {device = "cuda:-1"}) end)
        refused("zeros: ", {"device name", "number"}, function() fp8.zeros(2, {device = 0}) end)
        local why = fp8.cuda.is_available() and "no device cuda:15" or "CUDA"
        refused("zeros: ", {why}, function() fp8.zeros(2, {device = "cuda:15"}) end)
      end)

      it("that does not exist is refused in options, by the function that has them", function()
        local nn, options = fp8.nn, {device = "gpu"}
        for name, f in support.sorted_pairs {
          Linear = function() fp8.Linear(2, 2, options) end,
          LinearMixed = function() fp8.LinearMixed(2, 2, options) end,
          Embedding = function() nn.Embedding(2, 2, options) end, LayerNorm = function() nn.LayerNorm(2, options) end,
          RMSNorm = function() nn.RMSNorm(2, options) end, LayerScale = function() nn.LayerScale(2, options) end,
          MLP = function() nn.MLP(2, 2, options) end,
          MultiHeadAttention = function() nn.MultiHeadAttention(2, 1, options) end,
          TransformerBlock = function() nn.TransformerBlock(2, 1, options) end,
          zeros_like = function() fp8.zeros_like(x, options) end,
          permutation = function() fp8.data.permutation(2, 1, options) end,
          fashion_mnist = function() fp8.data.fashion_mnist("test", options) end,
          load = function() fp8.load("/dev/null", options) end,
          read_idx = function() fp8.data.read_idx("/dev/null", options) end,
        } do
          refused(name .. ": option device: unknown device 'gpu'", {"cpu", "cuda"}, f)
        end
        options = {device = 0}
        refused("Linear: option device: ", {"device name", "number"}, function() fp8.Linear(2, 2, options) end)
      end)

      if not fp8.cuda.is_available() then
        it("cuda is refused without a GPU, and says why", function()
          refused("zeros: ", {"CUDA"}, function() fp8.zeros(2, {device = "cuda"}) end)
          refused("to: ", {"CUDA"}, function() x:to("cuda") end)
          refused("set_default_device: ", {"CUDA"}, function() fp8.set_default_device("cuda") end)
          assert.equal("cpu", fp8.zeros(1).device)
        end)
      end
    end)
  else
    describe("Tensors on different devices", function()
      it("are refused together", function()
        local other = fp8.arange(12):view(3, 4)
        refused("add: tensors are on different devices: ", {"cpu", "cuda:0"}, function() local _ = x + other end)
        refused("matmul: ", {"cpu", "cuda:0"}, function() x:matmul(other:t()) end)
        refused("cat: ", {"cpu", "cuda:0"}, function() fp8.cat({x, other}, 1) end)
        refused("where: ", {"cpu", "cuda:0"}, function() fp8.where(x, other, 0) end)
        refused("index_select: ", {"cpu", "cuda:0"}, function() other:index_select(1, i) end)
        refused("data: ", {"cuda:0"}, function() x:data() end)
      end)
    end)
  end
end)
