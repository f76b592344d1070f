--- What begins with a colon at the prompt: :time, :who and the like.
local history = require "fp8.repl.history"
local later = require "fp8.later"

local commands = {}

local most_shown = 20 -- entries of the history

local list = {
  {"help", "", "this list"},
  {"time", "[n] code", "how long the code takes, run once or n times"},
  {"who", "", "the variables: tensors with dtype, shape, device and bytes, then the others"},
  {"trace", "", "the stack of the last error"},
  {"history", "[n]", "the last n entries"},
  {"reset", "", "forgets all variables and results"},
  {"quit", "", "ends the session, as Ctrl-D does"},
}

local run = {}

function run.help()
  for _, command in ipairs(list) do print((":%-7s %-9s %s"):format(unpack(command))) end
  print "?name and name? show help; _1 is the last result, _2 the one before; code; shows no value; Ctrl-C interrupts"
end

function run.time(session, argument)
  local chunk, message, unfinished = session:compile(argument)
  local count, code = argument:match "^(%d+)%s+(.+)$"
  if not chunk and code then chunk, message, unfinished = session:compile(code) end
  if not chunk or argument == "" then
    session:show_error(argument == "" and ":time needs code" or unfinished and "the code has no end" or message)
    return
  end
  session:call(function() print(require "fp8.repl.timing"(chunk, tonumber(count) or 1)) end)
end

function run.who(session)
  session:call(function()
    for _, line in ipairs(require "fp8.repl.variables"(session)) do print(line) end
  end)
end

function run.trace(session) print(session.trace or "there was no error") end

function run.history(_, argument)
  local entries = history.entries
  for i = math.max(1, #entries - (tonumber(argument) or most_shown) + 1), #entries do print(entries[i]) end
end

function run.reset(session) session:reset() end

function run.quit() return "quit" end

local names = {}
for _, command in ipairs(list) do names[command[1]] = true end

--- The names of all commands, as a set.
commands.names = names

--- Runs a line if it is a command. Returns whether it is one, and "quit" if it ends the session.
function commands.run(session, line)
  local name, argument = line:match "^%s*:(%a+)%s*(.-)%s*$"
  if not name or line:find "^%s*::" then return false end
  if not run[name] then
    session:show_error(("there is no command :%s%s"):format(name, later("fp8.nearest").hint(name, names)))
    return true
  end
  return true, run[name](session, argument)
end

return commands
