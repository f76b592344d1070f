-- The prompt in a pseudo-terminal, with lua-readline where it is installed and without, and behind a pipe.
local support = require "spec.support"

local seconds = 30 -- after which what does not appear is missing

local has_readline = package.searchpath("C-readline", package.cpath) ~= nil and
  package.searchpath("readline", package.path) ~= nil

local launcher = [[-e 'os.exit(require "fp8.repl.command"(arg), true)' /dev/null]]

local directory = support.temporary_directory(setup, teardown)
local terminal = directory .. "/terminal"

--- What the terminal shows while someone does these steps (spec/fixtures/terminal.c), of which `prompt` and `more` wait
-- for the two prompts, and then ends the session by Ctrl-D. On a dumb terminal no line is edited.
local function at_terminal(kind, steps)
  steps = ("\nprompt\n%s\ntype \\004\n"):format(steps):gsub("\n +", "\n")
  steps = steps:gsub("\nprompt", "\nwait fp8> "):gsub("\nmore", "\nwait ...> ")
  support.write_file(directory .. "/steps", steps:sub(2))
  -- readline frees nothing of its own at the end, which the address sanitizer would call leaks.
  local variables = "TERM=%s INPUTRC=/dev/null FP8_HISTORY='%s/history' ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=%d"
  variables = variables:format(kind, directory, kind == "dumb" and 1 or 0)
  local ok, text = support.run(("%s < '%s/steps'"):format(launcher, directory),
    ("env -u NO_COLOR %s '%s' %d"):format(variables, terminal, seconds))
  assert(ok, text)
  return text
end

local function plain(text) return (text:gsub("\27%[[%d;?]*%a", ""):gsub("\r", "")) end

--- Whether all went well, and what comes out of a pipe when this goes in.
local function piped(text, arguments)
  support.write_file(directory .. "/input", text)
  return support.run(("%s %s < '%s/input'"):format(launcher, arguments or "", directory))
end

local function output_of(text)
  local _, output = piped(text)
  return output
end

describe("The prompt behind a pipe", function()
  it("shows the values of expressions, and nothing of statements", function()
    assert.equal('2\ntext\n{1, "a", b = true}\n', output_of '1 + 1\n"text"\n{1, "a", b = true}\n')
    assert.equal("3\t{4}\n", output_of "x = 5\nprint(3, {4})\n")
    assert.equal("1\n2\nnil\n", output_of "1, 2\nnil\n")
    assert.equal("tensor of shape (2), f32 on cpu\n  1 2\n", output_of "fp8.tensor {1, 2}\n= 5;\n")
    assert.equal("5\n", output_of "= 5\n")
  end)

  it("keeps local variables for the next lines, and those of blocks not", function()
    assert.equal("6\n", output_of "local x = 5\nx + 1\n")
    assert.equal("6\n", output_of "local x, y = 2, 3\nx * y\n")
    assert.equal("3\nnil\n", output_of "local a, b\na = 3\na\nb\n")
    assert.equal("24\n", output_of "local function f(n) return n < 2 and 1 or n * f(n - 1) end\nf(4)\n")
    assert.equal("nil\n", output_of "do local x = 1 end\nx\n")
    assert.equal("2\n", output_of "local n = 0\nfunction count() n = n + 1 return n end\nlocal _ = count()\ncount()\n")
    assert.equal("nil\n", output_of "local x = 1\nrawget(_G, 'x')\n")
    assert.equal("local x\n", output_of 'local s = "local x"\ns\n')
  end)

  it("goes on until a statement is whole", function()
    assert.equal("10\n", output_of "function f(n)\n  return n * 2\nend\nf(5)\n")
    assert.equal("{1, 2}\n", output_of "{1,\n2}\n")
    assert.equal("a\nb\n", output_of "[[a\nb]]\n")
    assert.equal("3\n", output_of "1 +\n2\n")
    assert.equal("the last statement has no end\n", output_of "for i = 1, 3 do\n")
  end)

  it("tells of an error in one line, and shows the stack when asked", function()
    assert.equal("attempt to call global 'pritn' (a nil value); did you mean print?\n", output_of "pritn(1)\n")
    assert.equal("fp8.randm: there is no such field; did you mean fp8.randn?\n", output_of "fp8.randm(2)\n")
    assert.equal("unexpected symbol near '*'\n", output_of "1 + * 2\n")
    assert.equal("{1}\n", output_of "error {1}\n")
    assert.equal("input 1:2: here\n", output_of "do\nerror 'here' end\n")
    local text = output_of "function f() error 'here' end\nf()\n:trace\n"
    assert.equal("input 1:1: here\nstack traceback:\n", text:match "^.-\n.-\n")
    assert.is_truthy(text:find("input 1:1: in function 'f'", 1, true))
    assert.is_nil(text:find("repl", 1, true))
    assert.equal("there was no error\n", output_of ":trace\n")
    text = output_of "require 'no_such_module'\n:trace\n"
    assert.equal("module 'no_such_module' not found: … (:trace shows the rest)", text:match "^[^\n]*")
    assert.is_truthy(text:find("no field package.preload['no_such_module']", 1, true))
  end)

  it("says what an error may come from that PyTorch's and Python's users make", function()
    for line, message in support.sorted_pairs {
      ["x.mean()"] = "mean: argument 1: tensor expected, got nil; methods are called with a colon: x:mean()",
      ["('%d'):format(x)"] =
        "bad argument #1 to 'format' (number expected, got userdata); the number in a tensor x is x:item()",
      ["x > 0"] = "attempt to compare number with userdata; elements are compared by x:lt(y), x:gt(y) and the like",
      ["x:tolist()"] = "tensor: no field or method 'tolist'; it is called totable here",
      ["fp8.nn.CrossEntropyLoss()"] = "fp8.nn.CrossEntropyLoss: it is called fp8.cross_entropy here",
      ["fp8.Linear(1, 1):zeroGradParameters()"] =
        "attempt to call method 'zeroGradParameters' (a nil value); it is called zero_grad here",
      ["fp8.zeros(1, {dtype = fp8.float32})"] = 'fp8.float32: it is called "f32" here',
    } do
      assert.equal(message .. "\n", output_of("x = fp8.ones(2)\n" .. line .. "\n"))
    end
    local text = output_of "fp8.optim.SGD({fp8.ones(1, {requires_grad = true})}, {lr = 1}).step()\n"
    assert.is_truthy(text:find("; methods are called with a colon: optimizer:step()\n", 1, true), text)
  end)

  it("knows what ends other prompts, unless it is a variable", function()
    assert.equal("", output_of "exit()\n1\n")
    assert.equal("", output_of "quit\n1\n")
    assert.equal("5\n", output_of "quit = 5\nquit\n")
    assert.equal(output_of ":help\n", output_of "help()\n")
  end)

  it("keeps the last two results", function()
    assert.equal("5\n7\n12\n12\n", output_of "5\n7\n_1 + _2\n_1\n")
    assert.equal("5\n", output_of "5;\nx = 3\n_1\n")
  end)

  it("lists variables, and forgets them", function()
    local text = output_of "local x = fp8.zeros(2, 3)\nname = 'a'\n:who\n:reset\n:who\nx\n"
    assert.equal('x  f32  (2, 3)  cpu  24 B\nname  string  "a"\nnil\n', text)
  end)

  it("times code", function()
    assert.is_truthy(output_of ":time 1 + 1\n":find "^%d[%d.]* µs\n$")
    assert.is_truthy(output_of ":time 5 fp8.zeros(2)\n":find "^median of 5: [%d.]+ µs, from [%d.]+ µs to [%d.]+ µs\n$")
    assert.equal(":time needs code\n", output_of ":time\n")
    assert.equal("the code has no end\n", output_of ":time f(\n")
  end)

  it("knows its commands", function()
    assert.equal("there is no command :tiem; did you mean time?\n", output_of ":tiem 1\n")
    assert.equal("1\n", output_of "1\n:quit\n2\n")
    assert.is_truthy(output_of ":help\n":find(":who", 1, true))
  end)

  it("keeps no history of what comes through a pipe", function()
    local path = directory .. "/piped"
    support.write_file(directory .. "/input", "1 + 1\n:history\n")
    local ok, text = support.run(("%s < '%s/input'"):format(launcher, directory), ("FP8_HISTORY='%s'"):format(path))
    assert.is_true(ok, text)
    assert.equal("2\n1 + 1\n", text)
    assert.is_nil(io.open(path))
  end)

  it("shows help", function()
    local text = output_of "?softmax\nfp8.softmax?\nx = fp8.zeros(1)\n?x:softmax\n"
    assert.equal(3, select(2, text:gsub("along a dimension", "")))
  end)
end)

describe("The command fp8", function()
  it("runs a script with its arguments", function()
    local script = directory .. "/script.lua"
    support.write_file(script, "print(arg[0] == ... or arg[1], #arg, ...)\nvalue = fp8.zeros(2)\n")
    local ok, text = piped("", ("'%s' a b"):format(script))
    assert.is_true(ok)
    assert.equal("a\t2\ta\tb\n", text)
    ok, text = piped("value.shape\n", ("-i '%s' a"):format(script))
    assert.is_true(ok)
    assert.equal("a\t1\ta\n{2}\n", text)
    support.write_file(script, "local x = 1\nerror 'oops'\n")
    ok, text = piped("", ("'%s'"):format(script))
    assert.is_false(ok)
    assert.is_truthy(text:find("script.lua:2: oops\nstack traceback", 1, true))
  end)

  it("runs code", function()
    local ok, text = piped("", [[-e 'local x = 2' -e 'x + 1']])
    assert.is_true(ok)
    assert.equal("3\n", text)
    ok, text = piped("x\n", [[-i -e 'x = 5']])
    assert.is_true(ok)
    assert.equal("5\n", text)
    ok, text = piped("", [[-e 'error "oops"']])
    assert.is_false(ok)
    assert.equal("oops\n", text)
  end)

  it("says what it takes", function()
    local ok, text = piped("", "-x")
    assert.is_false(ok)
    assert.is_truthy(text:find "^fp8: there is no option %-x\nusage: fp8 ")
    ok, text = piped("", "-v")
    assert.is_true(ok)
    assert.equal(require "fp8"._VERSION .. "\n", text)
  end)
end)

describe("The prompt without lua-readline", function()
  setup(function() support.compile(support.fixture "terminal.c", terminal, "-lutil") end)

  it("says what Tab and the arrow keys need, and works", function()
    local whole = launcher
    launcher = [[-e 'local search = package.searchpath
      function package.searchpath(name, ...)
        if name ~= "C-readline" then return search(name, ...) end
      end' ]] .. launcher
    finally(function() launcher = whole end)
    local text = plain(at_terminal("xterm", [[
      type 40 + 2\r
      wait 42
      prompt
      type while true do end\r
      pause 300
      type \003
      wait interrupted
      prompt
      type _1 + 1\r
      wait 43
      prompt]]))
    assert.is_truthy(text:find("Debian: apt-get install lua-readline", 1, true), text)
  end)
end)

local kinds = {dumb = "in a terminal without line editing"}
if has_readline then kinds.xterm = "in a terminal with lua-readline" end

for kind, label in support.sorted_pairs(kinds) do
  describe("The prompt " .. label, function()
    setup(function() support.compile(support.fixture "terminal.c", terminal, "-lutil") end)
    before_each(function() os.remove(directory .. "/history") end)

    it("shows values, goes on in the next line, and tells of errors", function()
      local text = plain(at_terminal(kind, [[
        type 40 + 2\r
        wait 42
        prompt
        type local x = fp8.full({3}, 7)\r
        prompt
        type function f(n)\r
        more
        type return n * x end\r
        prompt
        type f(2)\r
        wait 14 14 14
        prompt
        type fp8.randm(2)\r
        wait did you mean fp8.randn?
        prompt
        type fp8.plot({1, 2, 3}, {title = "three points"})\r
        wait three points
        wait ┴
        prompt
        type ?softmax\r
        wait along a dimension
        prompt]]))
      assert.is_truthy(text:find "^fp8 [%d.]+, LuaJIT [^\n]+\nfp8> ")
    end)

    it("keeps variables when Ctrl-C interrupts a loop, functions of fp8, a long one, what waits, and what is typed",
      function()
        at_terminal(kind, [[
          type local x = fp8.full({3}, 7)\r
          prompt
          type while true do end\r
          pause 300
          type \003
          wait interrupted
          prompt
          type x:sum():item() + 100\r
          wait 121
          prompt
          type y = fp8.zeros(1) for i = 1, 1e9 do y = fp8.randn(300, 300):matmul(fp8.zeros(300, 300)) end\r
          pause 500
          type \003
          wait interrupted
          prompt
          type y.shape\r
          wait {300, 300}
          prompt
          type q = fp8.randn(1, 2, 100000, 64)\r
          prompt
          type y = fp8.attention(q, q, q) -- takes minutes\r
          pause 500
          type \003
          wait interrupted
          prompt
          type y.shape, q.shape\r
          wait {300, 300}
          wait {1, 2, 100000, 64}
          prompt
          type while true do pcall(function() while true do end end) end\r
          pause 300
          type \003
          pause 300
          type \003
          wait interrupted
          prompt
          type io.read()\r
          pause 300
          type \003
          wait interrupted
          prompt
          type nonsense that is not entered
          pause 200
          type \003
          prompt
          type function half()\r
          more
          type \003
          prompt
          type x:sum():item() + 200\r
          wait 221
          prompt]])
      end)

    it("remembers what was typed in the sessions before", function()
      at_terminal(kind, [[
        type first = 1\r
        prompt
        type function two()\r
        more
        type return 2 end\r
        prompt]])
      assert.equal("first = 1\nfunction two()\\nreturn 2 end\n", support.read_file(directory .. "/history"))
      at_terminal(kind, [[
        type :history\r
        wait first = 1
        wait function two()
        wait return 2 end
        prompt]])
      if kind == "dumb" then return end
      at_terminal(kind, [[
        type 30\r
        prompt
        type \033[A\033[A\033[A\033[A\r
        prompt
        type first + 1000\r
        wait 1001
        prompt]])
    end)

    it("is coloured unless NO_COLOR is set", function()
      assert.equal(kind ~= "dumb", at_terminal(kind, "pause 1"):find("\27[1mfp8> ", 1, true) ~= nil)
    end)

    if kind ~= "dumb" then
      it("completes what Tab is pressed after", function()
        at_terminal(kind, [[
          type fp8.cre\t\t\t
          wait create_dynamic_map
          wait create_map
          type map(true, 4, 3, 8).sh\t\r
          wait {256}
          prompt
          type local x = fp8.zeros(2, {dt\t"bf16"})\r
          wait dtype = "bf16"
          prompt
          type x:soft\t\t
          wait x:softmax
          wait x:softplus
          type max(-1).dt\t\r
          wait bf16
          prompt]])
      end)
    end
  end)
end
