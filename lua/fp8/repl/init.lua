--- The prompt: `make repl`, and the command `fp8` where fp8 is installed.
local commands = require "fp8.repl.commands"
local completion = require "fp8.repl.completion"
local core = require "fp8.core"
local editor = require "fp8.repl.editor"
local history = require "fp8.repl.history"
local terminal = require "fp8.repl.terminal"

local first_prompt, next_prompt = "fp8> ", "...> "

local repl = {}

-- ?name and name? ask for help; returns the name.
local function question(line)
  return line:match "^%s*%?%s*(.-)%s*$" or line:match "^%s*([%w_.:]+)%s*%?%s*$"
end

-- What Python's prompt and others understand, unless a variable has the name.
local function is_word(session, line, word)
  local name = line:match "^%s*(%l+)%s*%(?%s*%)?%s*$"
  return name == word and session.environment[name] == nil
end

local function leaves(session, line) return is_word(session, line, "exit") or is_word(session, line, "quit") end

-- What a line says, before which `text` was typed that has no end yet. Returns what has none now, and "quit".
local function take(session, reader, text, line)
  if text == "" then
    if not line:find "%S" then return "" end
    if leaves(session, line) then return "", "quit" end
    if is_word(session, line, "help") then line = ":help" end
    local asked = question(line)
    local is_command, quit = false, nil
    if asked then
      session:call(function() require "fp8.help".show(asked, session.environment) end)
    else
      is_command, quit = commands.run(session, line)
    end
    if asked or is_command then
      if history.add(line) then reader.remember(line) end
      return "", quit
    end
  end
  text = text == "" and line or text .. "\n" .. line
  if session:evaluate(text) == nil then return text end
  if history.add(text) then reader.remember(text) end
  return ""
end

local function loop(session, reader, interactive)
  local text = ""
  while true do
    local line, reason = reader.read(terminal.colour("bold", text == "" and first_prompt or next_prompt))
    if line then
      local quit
      text, quit = take(session, reader, text, line)
      if quit then return end
    elseif reason == "interrupted" then
      text = ""
      io.write "\n"
    else
      if interactive then io.write "\n" end
      if text ~= "" then session:show_error "the last statement has no end" end
      return
    end
  end
end

local function greet()
  local version = require "fp8"._VERSION
  print(("%s, %s. ?name shows help, :help the commands; Tab completes, Ctrl-D ends"):format(version, jit.version))
end

--- Reads, evaluates and shows until the end of the input, in a session (session.lua).
function repl.run(session)
  local interactive = terminal.is_interactive()
  if interactive then
    history.load()
    greet()
  end
  local function complete(line, first) return completion.matches(session, line, first) end
  local reader = editor.open(complete, completion.prepare)
  if reader.hint then print(reader.hint) end
  core.watch_interrupts(true)
  loop(session, reader, interactive)
  core.watch_interrupts(false)
end

return repl
