-- What Tab offers, and how quickly.
local completion = require "fp8.repl.completion"
local fp8 = require "fp8"
local Session = require "fp8.repl.session"
local support = require "spec.support"

local directory = support.temporary_directory(setup, teardown)

local session

--- What is offered at the end of a line, of which readline takes the last word to begin behind one of these characters.
local function offered(line)
  local first = line:find "[^ \t\n\"\\'`@$><=;|&{(]*$"
  return completion.matches(session, line, first)
end

local function offers(line, ...)
  local wanted = {}
  for _, word in ipairs {...} do wanted[word] = true end
  for _, word in ipairs(offered(line)) do wanted[word] = nil end
  local missing = next(wanted)
  assert.is_nil(missing, ("%s: %s is missing of %s"):format(line, tostring(missing), table.concat(offered(line), " ")))
end

describe("Completion", function()
  setup(function()
    session = Session.new()
    assert.is_true(session:evaluate "local x = fp8.zeros(2, 3)")
    assert.is_true(session:evaluate "local net = fp8.nn.Sequential(fp8.Linear(2, 3))")
    assert.is_true(session:evaluate "local data = {inner = {value = x}}")
  end)
  teardown(function() session:reset() end)

  it("offers globals, variables and reserved words", function()
    assert.same({"print"}, offered "pri")
    offers("y = ne", "net", "next")
    offers("fo", "for")
    assert.same({"while"}, offered "whi")
    assert.same({}, offered "no_such_name")
  end)

  it("offers fields, those that are loaded when they are used included", function()
    assert.same({"fp8.create_dynamic_map", "fp8.create_float_map", "fp8.create_linear_map", "fp8.create_map"},
      offered "fp8.cre")
    offers("fp8.nn.Lin", "fp8.nn.Linear", "fp8.nn.LinearMixed")
    assert.same({"fp8.watch"}, offered "fp8.wat")
    assert.same({"fp8.recipes.mx", "fp8.recipes.mx_e5m2_grad"},
      {unpack(offered "fp8.recipes.mx", 1, 2)})
    assert.same({"data.inner.value"}, offered "data.inner.v")
    assert.same({"data.inner.value.shape"}, offered "data.inner.value.sh")
    assert.same({}, offered "data.none.v")
  end)

  it("offers methods of tensors, modules, strings and results", function()
    assert.same({"x:softmax", "x:softmin", "x:softplus", "x:softsign"}, offered "x:soft")
    assert.same({"x.shape"}, offered "x.sh")
    assert.same({"x,x.dtype"}, offered "fp8.add(x,x.dt")
    offers("net:para", "net:parameters")
    offers("fp8.zeros(2):soft", "2):softmax")
    assert.same({"fp8._VERSION"}, offered "fp8._V")
  end)

  it("offers options inside of a call, where one can stand", function()
    assert.same({"dtype = "}, offered "fp8.zeros(2, {dt")
    assert.same({"requires_grad = "}, offered 'fp8.zeros({2, 3}, {dtype = "f16", req')
    offers("fp8.cross_entropy(net(x), x, {", "reduction = ", "label_smoothing = ")
    assert.same({"weight_decay = "}, offered "fp8.optim.AdamW(net, {weight_d")
    assert.same({"native = "}, offered "net = fp8.Linear(2, 3, {na")
    assert.same({"print"}, offered "fp8.zeros(2, {dtype = pri")
  end)

  it("offers files inside of a string", function()
    support.write_file(directory .. "/some file.csv", "")
    support.write_file(directory .. "/some.csv", "")
    support.write_file(directory .. "/.hidden", "")
    os.execute(("mkdir '%s/something'"):format(directory))
    assert.same({directory .. "/some.csv"}, offered(('fp8.load("%s/some.'):format(directory)))
    assert.same({directory .. "/some file.csv", directory .. "/some.csv", directory .. "/something/"},
      offered(("fp8.load '%s/"):format(directory)))
    assert.same({directory .. "/.hidden"}, offered(("fp8.load '%s/."):format(directory)))
    assert.same({"file.csv"}, offered(("fp8.load '%s/some fi"):format(directory)))
    assert.same({}, offered "fp8.load('/no/such/folder/")
  end)

  it("offers commands, and what help knows", function()
    assert.same({":time", ":trace"}, offered ":t")
    assert.same({"?softmax", "?softmin", "?softplus", "?softsign"}, offered "?soft")
    offers("?rec", "?recipes", "?recompute")
  end)

  it("changes nothing, and raises no error", function()
    local called = 0
    session.environment.trap = setmetatable({}, {
      __index = function() called = called + 1 error "trap" end,
      __call = function() error "called" end,
    })
    assert.same({}, offered "trap.field.a")
    assert.same({}, offered "trap.")
    for _, line in ipairs {"", "(", "{", "fp8.", ":", "..", "a.b:c.", "f({[(", "--", "--[[ x", '"', "x:1", "\\", "?"} do
      assert.is_table(offered(line), line)
    end
    assert.equal(1, called)
    rawset(_G, "trap", nil)
  end)

  it("takes less than 20 ms of the processor, the comments being read", function()
    local _ = {fp8.nn, fp8.optim}
    offered "fp8.zeros(2, {dt"
    for _, line in ipairs {"fp8.", "x:", "pri", "fp8.zeros(2, {dt", "?so", "fp8.nn.init.", "net:"} do
      local start = os.clock()
      offered(line)
      assert.is_true(os.clock() - start < 0.02, line)
    end
  end)
end)
