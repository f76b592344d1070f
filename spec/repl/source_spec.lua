-- How what is typed becomes a function.
local source = require "fp8.repl.source"

describe("Text at the prompt", function()
  it("loses the outermost `local`s only", function()
    for text, expected in pairs {
      ["local x = 1"] = {"x = 1", "x"},
      ["local x"] = {"x = nil", "x"},
      ["local x, y = 1, 2"] = {"x, y = 1, 2", "x", "y"},
      ["local x, y"] = {"x, y = nil", "x", "y"},
      ["local function f() local y = 1 return y end"] = {"function f() local y = 1 return y end", "f"},
      ["do local x = 1 end"] = {"do local x = 1 end"},
      ["if a then local x = 1 elseif b then local y end local z"] = {
        "if a then local x = 1 elseif b then local y end z = nil", "z"},
      ["for i = 1, 2 do local x = i end local a = 1"] = {"for i = 1, 2 do local x = i end a = 1", "a"},
      ["while a do local x end local b = 2"] = {"while a do local x end b = 2", "b"},
      ["repeat local x = 1 until x local y = 1"] = {"repeat local x = 1 until x y = 1", "y"},
      ["local t = {f = function() local x end} local u = 2"] = {
        "t = {f = function() local x end} u = 2", "t", "u"},
      ['local s = "local x" -- local y'] = {'s = "local x" -- local y', "s"},
      ["local s = [[local x]]"] = {"s = [[local x]]", "s"},
      ["--[[ local a ]] local b = 1"] = {"--[[ local a ]] b = 1", "b"},
      ["x.localized = locals"] = {"x.localized = locals"},
    } do
      local changed, names = source.without_locals(text)
      assert.same(expected, {changed, unpack(names)}, text)
    end
  end)

  it("is an expression where it can be one", function()
    local function values_of(text, environment)
      return {assert(source.compile(text, "test", environment or {}))()}
    end
    assert.same({3}, values_of "1 + 2")
    assert.same({3, 4}, values_of "3, 4 -- two")
    assert.same({5}, values_of "= 5;")
    assert.same({}, values_of "-- nothing")
    assert.same({}, values_of "")
    local environment = {}
    assert.same({}, values_of("x = 5", environment))
    assert.equal(5, environment.x)
    assert.same({1}, values_of "do return 1 end")
    assert.same({6, 7}, values_of("local y = 6; y, x + 2 -- both", environment))
    assert.same({5, 6}, {environment.x, environment.y})
    environment.twice = function(z) return 2 * z end
    assert.same({12}, values_of("y = 6; twice(y)", environment))
    assert.same({}, values_of("y = 6; x = twice(y)", environment))
    assert.same({7}, values_of("for i = 1, 2 do y = y + 0.5; end; y;", environment))
  end)

  it("has no end where more may make it whole, and only there", function()
    local function unfinished(text)
      local chunk, message, more = source.compile(text, "test", {})
      assert.is_nil(chunk)
      assert.is_string(message)
      return more
    end
    for _, text in ipairs {
      "function f()", "f(", "x = ", "{1, 2,", "if a then", "[[text", "--[[ comment", "1 +", "for i = 1, 3 do",
      "local x =", "x = [==[ ]]", "repeat", "not",
    } do
      assert.is_true(unfinished(text), text)
    end
    for _, text in ipairs {"end", "x = = 1", "f)", "1 2", '"text', "x y", "} {", "return 1 2", "break", "x; y",
      "return 1; y 2"} do
      assert.is_false(unfinished(text), text)
    end
  end)

  it("is silent with a semicolon at its end", function()
    assert.is_true(source.is_silent "x;")
    assert.is_true(source.is_silent "x ; -- comment")
    assert.is_false(source.is_silent "x -- ;")
    assert.is_false(source.is_silent '";"')
    assert.is_false(source.is_silent "")
  end)
end)
