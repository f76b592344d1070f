--- Makes failing programs small.
local operation = require "spec.support.programs.operation"
local programs = require "spec.support.programs"
local tensor = require "spec.support.reference.tensor"

-- Runs statements, without those whose variables are missing. The failure, or nil; and which statements ran.
local function run(device, seed, statements)
  local state, ran = programs.state(device, seed), {}
  local ok, failure = pcall(function()
    for _, statement in ipairs(statements) do
      table.insert(ran, statement)
      if not programs.run(state, statement) then table.remove(ran) end
    end
    programs.finish(state)
  end)
  if ok then return nil, ran end
  if type(failure) ~= "table" then failure = {failed = tostring(failure)} end
  failure.lines, failure.statements = state.lines, ran
  return failure, ran
end

local function replaced(statements, position, statement)
  local copy = operation.without(statements, position)
  if statement then table.insert(copy, position, statement) end
  return copy
end

-- A statement that makes a variable out of nothing with these values, or nil where a literal can't be that.
local function literal_with(number, values, state)
  local x, list = state.variables[number], {}
  if not values or not x then return nil end
  for i, value in ipairs(values) do
    list[i] = tonumber(value)
    if type(value) == "cdata" and math.abs(list[i]) > 2 ^ 53 then return nil end
  end
  local arguments = {list, x.shape, {dtype = x.dtype, device = state.device}, x.requires_grad, count = 4}
  return {name = "tensor", arguments = arguments, number = number}
end

-- The same of what a statement gave.
local function literal_of(statement, state)
  return statement.name ~= "tensor" and literal_with(statement.number, statement.values, state) or nil
end

-- The statements without one that writes in place, what it wrote to being made with its last values; or nil.
local function without_writing(statements, position, state)
  local number = statements[position].arguments[1].variable
  local x = state.variables[number]
  for i = 1, position - 1 do
    local literal = x and statements[i].number == number and literal_with(number, tensor.list(x), state)
    if literal then return replaced(replaced(statements, position), i, literal) end
  end
  return nil
end

local function variables_of(statements, device, seed)
  local state = programs.state(device, seed)
  for _, statement in ipairs(statements) do
    if not pcall(programs.run, state, statement) then break end
  end
  return state
end

--- The failure of a program as small as leaving statements out, and putting literals in their place, makes it.
-- @param failure what generate raised
return function(device, seed, failure)
  local best = run(device, seed, failure.statements)
  if not best then return failure end -- it needs what generating drew besides
  local name = best.operation
  local function try(statements)
    local other = run(device, seed, statements)
    if not other or other.operation ~= name then return false end
    best = other
    return true
  end
  local count
  repeat
    count = #best.statements
    for position = #best.statements - 1, 1, -1 do
      if position < #best.statements then try(replaced(best.statements, position)) end
    end
    local state = variables_of(best.statements, device, seed)
    for position = #best.statements - 1, 1, -1 do
      local statement = best.statements[position]
      local literal = statement and statement.number and literal_of(statement, state)
      local in_place = statement and statement.name and programs.operations[statement.name].in_place
      local rest = in_place and without_writing(best.statements, position, state)
      if literal or rest then try(rest or replaced(best.statements, position, literal)) end
    end
  until #best.statements == count
  return best
end
