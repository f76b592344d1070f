-- The examples in the doc comments under lua/fp8 give what they say, and every public name has one. An example is a
-- line of a comment, three spaces behind the dashes:
--   fp8.tensor({4, 9}):sqrt() --> {2, 3}
-- Lines before it, as far as no other line comes between, are run first:
--   local x = fp8.ones(2)
--   x:add_(1)
--   x:sum() --> 4
local fp8 = require "fp8"
local support = require "spec.support"

local temporary = {} -- files of examples

local environment = setmetatable({
  fp8 = fp8,
  os = setmetatable({tmpname = function()
    local path = os.tmpname()
    table.insert(temporary, path)
    return path
  end}, {__index = os}),
}, {__index = _G})

local function chunk_of(text) return loadstring(text, "=example") end

--- The function that an example is, with as many of the lines before it as are Lua: text and formulas are not.
local function compiled(example)
  local before = example.before
  while not chunk_of(before .. "return " .. example.text) and before ~= "" do before = before:gsub("^[^\n]*\n", "") end
  return assert(chunk_of(before .. "return " .. example.text))
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

-- {file =, text =, result =, before = the lines before it}
local examples = {}
local files = io.popen("find " .. support.path "lua/fp8" .. " -name '*.lua' | sort")
for path in files:lines() do
  local before = ""
  for line in support.read_file(path):gmatch "[^\n]*" do
    local code = line:match "^%s*%-%-   (.*)$"
    local text, result = (code or ""):match "^(.-) %-%-> (.*)$"
    if text then
      table.insert(examples, {file = path:match "lua/(fp8.*)$", text = text, result = result, before = before})
    elseif code then
      before = before .. code .. "\n"
    elseif line ~= "" then
      before = ""
    end
  end
end
files:close()

-- What needs a GPU or a data set is compiled where that is not there.
local function can_run(example)
  local all = example.before .. example.text
  if all:find("fashion_mnist", 1, true) then return false end
  return fp8.cuda.is_available() or not all:find '"cuda"' and not all:find "cuda%.[gersm]"
end

-- Operators stand for these.
local operators = {add = " %+ ", sub = " %- ", mul = " %* ", div = " / ", pow = " %^ "}

-- What needs no example: names of other libraries' things, and what is no function.
local without = {
  ["fp8.version"] = true, ["fp8._VERSION"] = true, ["fp8.cuda"] = true,
  ["module.class_name"] = true, ["module.training"] = true, ["module.unsearched"] = true, ["module.init"] = true,
}

--- Every public name, {full name, name, where = what precedes it in an example: a pattern}.
local function public_names()
  local list = {}
  local function add(label, where, names)
    for name in pairs(names) do
      local full = label .. "." .. tostring(name)
      if type(name) == "string" and not name:find "^__" and not without[full] then
        table.insert(list, {full = full, name = name, where = where})
      end
    end
  end
  for _, name in ipairs {
    "nn", "optim", "data", "Linear", "LinearMixed", "LinearGlobal", "convert", "analyze", "watch", "sensitivity",
    "memory_report", "gradcheck", "load", "save", "checkpoint",
  } do
    assert(fp8[name] ~= nil)
  end
  local methods, operations = {}, require "fp8.ops".methods
  for name in pairs(require "fp8.tensor") do methods[name] = not operations[name] or nil end
  add("fp8", "[.:]", fp8)
  add("fp8.nn", "nn%.", fp8.nn)
  add("fp8.nn.init", "init%.", fp8.nn.init)
  add("fp8.optim", "optim%.", fp8.optim)
  add("fp8.data", "data%.", fp8.data)
  add("fp8.cuda", "cuda%.", fp8.cuda)
  add("fp8.distributed", "distributed%.", fp8.distributed)
  add("fp8.checkpoint", "checkpoint%.", fp8.checkpoint)
  add("fp8.watch", "watch%.", fp8.watch)
  add("tensor", "[.:]", methods)
  add("module", "[.:]", fp8.nn.Module)
  table.sort(list, function(a, b) return a.full < b.full end)
  return list
end

local function is_shown(entry)
  local name = entry.name
  local base = name:match "^(.*)_$" -- all that change a tensor share a comment
  if base and require("fp8.ops.elementwise")[base] then return true end
  local pattern = entry.where .. name .. "%f[^%w_]"
  for _, example in ipairs(examples) do
    local all = example.before .. example.text
    if all:find(pattern) or operators[name] and all:find(operators[name]) then return true end
  end
  return false
end

describe("The examples in doc comments", function()
  teardown(function()
    for _, path in ipairs(temporary) do os.remove(path) end
  end)

  it("are right", function()
    assert.is_true(#examples > 90)
    local wrong = {}
    for _, example in ipairs(examples) do
      local ok, found = pcall(compiled, example)
      local expected = ok and assert(chunk_of("return " .. example.result))
      if ok and can_run(example) then
        fp8.manual_seed(1)
        ok, found = pcall(setfenv(found, environment))
        if ok then ok = agrees(plain(found), plain(setfenv(expected, environment)())) end
        fp8.set_default_device "cpu"
        fp8.set_default_dtype "f32"
        fp8.set_deterministic(false)
      end
      if not ok then
        table.insert(wrong, ("%s: %s gives %s"):format(example.file, example.text, tostring(found)))
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  it("are there for every public name", function()
    local missing = {}
    for _, entry in ipairs(public_names()) do
      if not is_shown(entry) then table.insert(missing, entry.full) end
    end
    if #missing > 0 then
      error("no doc comment in lua/fp8 has an example of these; write one, as a line\n" ..
        "--   fp8.tensor({4, 9}):sqrt() --> {2, 3}\nwhere the name is defined: " .. table.concat(missing, " "))
    end
  end)

  it("can be called both ways", function()
    for name, operation in support.sorted_pairs(require("fp8.ops").methods) do
      assert.is_function(require "fp8.tensor"[name], name)
      if name ~= "cuda" then assert.equal(operation, fp8[name], name) end -- fp8.cuda is the module
    end
  end)
end)
