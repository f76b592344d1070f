-- The examples in the doc comments of operations, lines like
--   fp8.tensor({4, 9}):sqrt() --> {2, 3}
-- give what they say, and every operation has one.
local fp8 = require "fp8"
local support = require "spec.support"

local environment = setmetatable({fp8 = fp8}, {__index = _G})

local function value_of(text)
  local chunk = assert(loadstring("return " .. text, "=" .. text))
  return setfenv(chunk, environment)()
end

--- Tensors as nested tables, so that they can be compared with what the comment says.
local function plain(value)
  if fp8.is_tensor(value) then return value:dim() == 0 and value:item() or plain(value:totable()) end
  if type(value) ~= "table" then return value end
  local list = {}
  for i, element in ipairs(value) do list[i] = plain(element) end
  return list
end

local function agrees(found, expected)
  if type(found) == "number" and type(expected) == "number" then
    return found == expected or math.abs(found - expected) <= 1e-6 * math.abs(expected)
      or found ~= found and expected ~= expected
  end
  if type(found) ~= "table" or type(expected) ~= "table" then return found == expected end
  for i = 1, math.max(#found, #expected) do
    if not agrees(found[i], expected[i]) then return false end
  end
  return true
end

-- {file =, text =, result =}
local examples = {}
local files = io.popen("find " .. support.path "lua/fp8/ops" .. " -name '*.lua' | sort")
for path in files:lines() do
  for text, result in support.read_file(path):gmatch "\n%-%-   ([^\n]-) %-%-> ([^\n]*)" do
    table.insert(examples, {file = path:match "[^/]*$", text = text, result = result})
  end
end
files:close()

-- Operators stand for these.
local operators = {add = " %+ ", sub = " %- ", mul = " %* ", div = " / ", pow = " %^ "}

describe("The examples of operations", function()
  it("are right", function()
    assert.is_true(#examples > 90)
    local wrong = {}
    for _, example in ipairs(examples) do
      local ok, found = pcall(value_of, example.text)
      if not ok or not agrees(plain(found), value_of(example.result)) then
        table.insert(wrong, ("%s: %s gives %s"):format(example.file, example.text, tostring(found)))
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  it("are there for every operation that is a function of fp8 and a method", function()
    local missing = {}
    for name in support.sorted_pairs(require("fp8.ops").functions) do
      local shown = false
      if name == "cuda" then shown = true end
      local base = name:match "^(.*)_$" -- all that change a tensor share a comment
      if base and require("fp8.ops.elementwise")[base] then shown = true end
      for _, example in ipairs(examples) do
        shown = shown or example.text:find("[.:]" .. name .. "%f[^%w_]") or
          operators[name] and example.text:find(operators[name])
      end
      if not shown then table.insert(missing, name) end
    end
    assert.equal("", table.concat(missing, " "))
  end)

  it("can be called both ways", function()
    for name, operation in support.sorted_pairs(require("fp8.ops").methods) do
      assert.is_function(require "fp8.tensor"[name], name)
      if name ~= "cuda" then assert.equal(operation, fp8[name], name) end -- fp8.cuda is the module
    end
  end)
end)
