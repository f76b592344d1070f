--- One session at the prompt: its variables, and what becomes of a line.
local core = require "fp8.core"
local later = require "fp8.later"
local source = require "fp8.repl.source"
local options = require "fp8.printing.options"
local terminal = require "fp8.repl.terminal"
local text_of = require "fp8.printing.value"

local Session = {}
Session.__index = Session

-- Strings are written out only inside of tables.
local function shown(value) return type(value) == "string" and value or text_of(value) end

local function print_values(...)
  options.terminal_width = terminal.width()
  local texts = {}
  for i = 1, select("#", ...) do texts[i] = shown((select(i, ...))) end
  io.write(table.concat(texts, "\t"), "\n")
end

-- The variables of `local` and of results are in a table of their own, in front of the globals, to which all others go.
local function new_environment()
  local declared = {}
  local base = setmetatable({print = print_values}, {__index = _G})
  local environment = setmetatable({}, {
    __index = base,
    __newindex = function(variables, name, value)
      if declared[name] then rawset(variables, name, value) else _G[name] = value end
    end,
  })
  return environment, declared
end

local function names_of(variables)
  local names = {}
  for name in next, variables do names[name] = true end
  return names
end

--- A new session, in which fp8 is a global.
function Session.new()
  _G.fp8 = require "fp8"
  local self = setmetatable({inputs = 0, trace = nil}, Session)
  self.environment, self.declared = new_environment()
  self.initial = names_of(_G)
  return self
end

--- Calls visit(name, value) for each variable of the session, in the order of their names.
function Session:each_variable(visit)
  local found, names = {}, {}
  for name, value in next, _G do
    local is_module = package.loaded[name] == value -- some set globals of their own
    if not self.initial[name] and not is_module then found[name] = value end
  end
  for name, value in next, self.environment do found[name] = value end
  for name in next, found do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do visit(name, found[name]) end
end

--- Forgets all variables and results, and frees what they held.
function Session:reset()
  self:each_variable(function(name)
    rawset(self.environment, name, nil)
    if not self.initial[name] then _G[name] = nil end
  end)
  for name in next, self.declared do self.declared[name] = nil end
  self.trace = nil
  collectgarbage()
  collectgarbage()
end

-- _1 is the last result, _2 the one before.
function Session:keep_result(value)
  if value == nil then return end
  local variables = self.environment
  rawset(variables, "_2", rawget(variables, "_1"))
  rawset(variables, "_1", value)
end

local function with_trace(message) return {message = message, trace = debug.traceback("", 2)} end

-- The stack below the prompt's own calls.
local function own_part(trace)
  local lines = {}
  for line in trace:gmatch "[^\n]+" do
    if line:find("fp8/repl/", 1, true) then break end
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n")
end

-- Where it happened, if that is not simply the line that was typed.
local function without_place(self, message)
  local own = ("input %d:1: "):format(self.inputs)
  if self.is_one_line and message:sub(1, #own) == own then return message:sub(#own + 1) end
  return message
end

function Session:show_error(failure)
  local message, trace = failure, nil
  if type(failure) == "table" and failure.trace then message, trace = failure.message, own_part(failure.trace) end
  local text = type(message) == "string" and without_place(self, message) or shown(message)
  self.trace = trace
  if type(message) == "string" and text:find "\n" then -- such as what `require` has to say
    self.trace = text .. "\n" .. (trace or "")
    text = text:match "^[^\n]*" .. " … (:trace shows the rest)"
  end
  io.stdout:flush()
  text = text .. later "fp8.repl.hints"(text, self.environment)
  io.stderr:write(terminal.colour("red", text), "\n")
end

local function finish(self, reached, ok, ...)
  if reached and ok then return true, ... end
  self:show_error(reached and (...) or ok)
  return false
end

--- Calls f(…), which Ctrl-C interrupts. Shows the error, if there is one. Returns whether there was none, and results.
function Session:call(f, ...)
  local arguments, count = {...}, select("#", ...)
  return finish(self, core.interruptible(xpcall, function() return f(unpack(arguments, 1, count)) end, with_trace))
end

local function show_results(self, silent, ...)
  self:keep_result((...))
  if silent or select("#", ...) == 0 then return end
  options.terminal_width = terminal.width()
  for i = 1, select("#", ...) do io.write(shown((select(i, ...))), "\n") end
end

--- The function that a text is, or nil, a message, and whether the text only goes on in the next line.
function Session:compile(text)
  local chunk, names, unfinished = source.compile(text, ("input %d"):format(self.inputs + 1), self.environment)
  if not chunk then return nil, names, unfinished end
  for _, name in ipairs(names) do self.declared[name] = true end
  return chunk
end

--- Runs a text and shows the values of an expression. Returns true, or false after an error, which has been shown; or
-- nil if the text has no end yet.
function Session:evaluate(text)
  local chunk, message, unfinished = self:compile(text)
  if unfinished then return nil end
  self.inputs, self.is_one_line = self.inputs + 1, not text:find "\n"
  if not chunk then
    self:show_error(message)
    return false
  end
  local silent = source.is_silent(text)
  return (self:call(function() show_results(self, silent, chunk()) end))
end

return Session
