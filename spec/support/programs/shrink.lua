--- Makes failing programs small.
local operation = require "spec.support.programs.operation"
local programs = require "spec.support.programs"

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

-- A statement that makes a tensor out of nothing with what this one gave, or nil where a literal can't be that.
local function literal_of(statement, state)
  local x = state.variables[statement.number]
  if statement.name == "tensor" or not statement.values or not x then return nil end
  local list = {}
  for i, value in ipairs(statement.values) do
    list[i] = tonumber(value)
    if type(value) == "cdata" and math.abs(list[i]) > 2 ^ 53 then return nil end
  end
  local arguments = {list, x.shape, {dtype = x.dtype, device = state.device}, x.requires_grad, count = 4}
  return {name = "tensor", arguments = arguments, number = statement.number}
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
      if literal then try(replaced(best.statements, position, literal)) end
    end
  until #best.statements == count
  return best
end
