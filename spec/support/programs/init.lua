--- Random programs: lists of statements that fp8 and a reference (spec/support/reference/tensor.lua) run side by side.
--
-- After each statement the reference compares what came out, and goes on with fp8's values: an error has one place, and
-- bounds don't grow along a program. A statement is {name = of its operation, arguments =, number = of the variable it
-- sets, wrap = a function of fp8 to call it in} or {backward = a variable, grad = a variable or nil}; what runs is its
-- text in Lua, which is what a failure prints.
local bound = require "spec.support.reference.bound"
local fp8 = require "fp8"
local in_place = require "spec.support.programs.in_place"
local tensor = require "spec.support.reference.tensor"

local programs = {operations = {}}
local operations = programs.operations

for _, family in ipairs {
  "activation", "arrange", "attention", "binary", "choice", "composed", "create", "normalize", "pick", "products",
  "order.scan", "order.select", "order.sort",
  "quantize", "reduce", "softmax", "statistics", "unary", "views",
} do
  local list = require("spec.support.programs." .. family)
  for name, operation in pairs(list.operations or list) do
    operation.name = name
    operations[name] = operation
  end
end

for name in pairs(fp8) do
  local base = operations[name:match "^(.*[^_])_$"]
  if base and not operations[name] then
    operations[name] = in_place(base)
    operations[name].name = name
  end
end

--- --- texts ---

local render

local function render_number(value)
  if value ~= value then return "0/0" end
  if math.abs(value) == math.huge then return value > 0 and "math.huge" or "-math.huge" end
  if value == 0 and 1 / value < 0 then return "-0.0" end
  return ("%.17g"):format(value)
end

local function render_table(list)
  local parts, names = {}, {}
  for i, value in ipairs(list) do parts[i] = render(value) end
  for name in pairs(list) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1] = name .. " = " .. render(list[name]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

function render(value)
  if type(value) == "number" then return render_number(value) end
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  return value.variable and "v" .. value.variable or render_table(value)
end

local function count_of(arguments)
  local count = arguments.count or #arguments
  while count > 0 and arguments[count] == nil do count = count - 1 end
  return count
end

local function expression(statement)
  local operation, texts = operations[statement.name], {}
  local count = count_of(statement.arguments)
  for i = 1, count do texts[i] = render(statement.arguments[i]) end
  if type(operation.text) == "function" then return operation.text(unpack(texts)) end
  if operation.text == "function" then return ("fp8.%s(%s)"):format(statement.name, table.concat(texts, ", ")) end
  return ("%s:%s(%s)"):format(texts[1], statement.name, table.concat(texts, ", ", 2))
end

--- A statement as Lua, but for backward, which is several lines.
local function text_of(statement)
  local operation, text = operations[statement.name], expression(statement)
  local sets = statement.number and "v" .. statement.number .. " = " or ""
  if statement.wrap then
    local returns = operation.statement and "" or "return "
    return ("%sfp8.%s(function() %s%s end)"):format(sets, statement.wrap, returns, text)
  end
  return sets .. text
end

--- --- running ---

-- {failed = what went wrong, operation = its name}
local function fail(name, ...)
  error({failed = ("%s: " .. (...)):format(name, select(2, ...)), operation = name}, 0)
end

local function run_text(state, name, text)
  local chunk = assert(loadstring(text))
  table.insert(state.lines, text)
  local ok, message = pcall(setfenv(chunk, state.environment))
  if not ok then fail(name, "%s", tostring(message)) end
end

local function same(expected, found, any_zero)
  if expected ~= expected then return found ~= found end
  if expected ~= found then return false end
  return any_zero or type(found) == "cdata" or found ~= 0 or 1 / found == 1 / expected
end

local function fits(expected, found, x)
  local kind = type(expected)
  if kind == "boolean" then return true end
  if kind == "function" then return expected(found) end
  if kind == "table" then return bound.holds(x.dtype, expected, found) end
  return same(expected, found, x.any_zero)
end

local function describe(expected)
  if type(expected) == "function" then return "another value" end
  if type(expected) ~= "table" then return tostring(expected) end
  return ("%.9g ± %.3g"):format(expected[1], expected[2])
end

local function check_elements(name, x, expected, found)
  for i = 1, math.max(#expected, #found) do
    if expected[i] == nil or found[i] == nil or not fits(expected[i], found[i], x) then
      fail(name, "element %d of %s (%s) is %s instead of %s", i, x.dtype, table.concat(x.shape, ", "),
        type(found[i]) == "number" and ("%.9g"):format(found[i]) or tostring(found[i]), describe(expected[i]))
    end
  end
end

local function check_same(name, what, expected, found)
  if expected ~= found then fail(name, "%s is %s instead of %s", what, tostring(found), tostring(expected)) end
end

local function check_kind(name, x, found, any_layout)
  if not fp8.is_tensor(found) then fail(name, "gives a %s", type(found)) end
  check_same(name, "the dtype", x.dtype, found.dtype)
  check_same(name, "the shape", table.concat(x.shape, ", "), table.concat(found.shape, ", "))
  check_same(name, "requires_grad", x.requires_grad or false, found.requires_grad)
  local stride = found:stride()
  if any_layout then x.stride = stride end
  for d, size in ipairs(tensor.count(x.shape) > 0 and x.shape or {}) do
    if size > 1 then check_same(name, "stride " .. d, x.stride[d], stride[d]) end
  end
end

-- Elements that may lie anywhere in memory: only attention's.
local function adopt(x, found)
  x.storage, x.stride, x.offset = found, tensor.row_major(x.shape), 0
end

-- All variables hold what the reference says.
local function check_all(state, name)
  for number, x in pairs(state.variables) do
    local found, expected = tensor.read(state.environment["v" .. number]), tensor.list(x)
    for i = 1, #expected do
      if not same(expected[i], found[i]) then
        fail(name, "element %d of v%d became %s instead of %s", i, number, tostring(found[i]), tostring(expected[i]))
      end
    end
  end
end

local function resolved(state, statement)
  local arguments = {}
  for i = 1, count_of(statement.arguments) do
    local argument = statement.arguments[i]
    if type(argument) == "table" and argument.variable then argument = state.variables[argument.variable] end
    if argument == nil and statement.arguments[i] ~= nil then return nil end
    arguments[i] = argument
  end
  return arguments, count_of(statement.arguments)
end

local function is_reference(value) return type(value) == "table" and value.storage ~= nil end

-- What arrived at each element, added up.
local function sums_in(dtype)
  return function(arrived)
    local sums = {}
    for i, list in ipairs(arrived) do
      sums[i] = #list == 0 and bound.exact(0) or #list == 1 and list[1] or bound.to(dtype, bound.sum(list))
    end
    return sums
  end
end

local function record(state, operation, arguments, count, result)
  local requires = false
  for i = operation.first_input or 1, count do
    requires = requires or is_reference(arguments[i]) and arguments[i].requires_grad
  end
  if not requires or not operation.gradient or not bound.computes[result.dtype] then return end
  local node = {operation = operation, arguments = arguments, result = result, sums = sums_in(result.dtype)}
  result.requires_grad, result.node = true, node
  state.node_count = state.node_count + 1
  node.sequence = state.node_count
  for i = 0, count do
    local x = i == 0 and result or arguments[i]
    if is_reference(x) then
      state.holders[x.storage] = state.holders[x.storage] or {}
      table.insert(state.holders[x.storage], node)
    end
  end
end

--- Whether the memory of x is part of a graph that backward may still walk.
function programs.is_held(state, x)
  for _, node in ipairs(state.holders[x.storage] or {}) do
    if not node.released then return true end
  end
  return false
end

-- What has been written to x: `result` holds what may be there.
local function check_written(state, name, x, result)
  local found = tensor.read(state.environment["v" .. x.number])
  check_elements(name, result, tensor.list(result), found)
  tensor.write(x, found)
end

local function run_operation(state, statement)
  local operation, name = operations[statement.name], statement.name
  local arguments, count = resolved(state, statement)
  if not arguments then return false end
  if operation.in_place and programs.is_held(state, arguments[1]) then return false end
  local result = operation.compute(unpack(arguments, 1, count))
  local is_new = result.number == nil and not operation.in_place
  if is_new and statement.wrap ~= "no_grad" and operation.differentiable ~= false then
    record(state, operation, arguments, count, result)
  end
  run_text(state, name, text_of(statement))
  state.used[name] = (state.used[name] or 0) + 1
  if operation.in_place then
    if result.fresh then check_written(state, name, arguments[1], result) end
    check_all(state, name)
    return true
  end
  local found = state.environment["v" .. statement.number]
  check_kind(name, result, found, operation.any_layout)
  if result.fresh then
    local elements, holders = tensor.read(found), state.holders[result.storage]
    local expected = result.storage
    check_elements(name, result, expected, elements)
    adopt(result, elements)
    if operation.any_layout then result.stride = tensor.row_major(result.shape) end
    state.holders[elements] = holders
    result.fresh = nil
  else
    check_elements(name, {dtype = result.dtype, shape = result.shape}, tensor.list(result), tensor.read(found))
  end
  result.number = result.number or statement.number
  state.variables[statement.number] = result
  statement.values = statement.values or tensor.list(result)
  return true
end

--- A fresh state on a device.
function programs.state(device, seed)
  fp8.manual_seed(seed)
  return {
    device = device, seed = seed, variables = {}, holders = {}, used = {}, node_count = 0, statements = 0,
    lines = {'local fp8 = require "fp8"', ("local device = %q"):format(device), ("fp8.manual_seed(%d)"):format(seed)},
    environment = {fp8 = fp8, device = device, math = math},
  }
end

--- Runs a statement. False if a variable that it needs is not there; an error {failed =} where fp8 and the reference
-- differ.
function programs.run(state, statement)
  local ran
  if statement.backward then
    ran = require "spec.support.programs.backward"(state, statement, {
      run_text = run_text, fail = fail, check_elements = check_elements, sums_in = sums_in,
    })
  else
    ran = run_operation(state, statement)
  end
  if ran then state.statements = state.statements + 1 end
  return ran
end

--- What has to be true after the last statement.
function programs.finish(state) check_all(state, "end") end

return programs
