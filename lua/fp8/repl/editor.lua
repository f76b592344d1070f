--- Reads lines: with lua-readline where it is installed and the prompt is on a terminal, else as they come.
local core = require "fp8.core"
local ffi = require "ffi"
local history = require "fp8.repl.history"
local terminal = require "fp8.repl.terminal"

local editor = {}

-- One that reads plain lines. On Ctrl-C the terminal itself drops what was typed.
local function plain(interactive)
  local reader = {}

  function reader.read(prompt)
    if interactive then
      io.write(prompt)
      io.flush()
      if not core.wait_for_input() then return nil, "interrupted" end
    end
    return io.read "*l"
  end

  function reader.remember() end

  return reader
end

ffi.cdef [[
  void rl_free_line_state(void);
  void rl_callback_sigcleanup(void);
  void rl_callback_handler_remove(void);
  void rl_resize_terminal(void);
  int _rl_pushed_input_available(void);
]]

-- lua-readline, of which ffi.C then sees the library that it needs; nil where it is not installed.
local function load_readline()
  local path = package.searchpath("C-readline", package.cpath)
  if not path or package.loadlib(path, "*") ~= true then return nil end
  local found, readline = pcall(require, "readline")
  local fits = found and readline.handler_install and pcall(function() return ffi.C.rl_callback_handler_remove end)
  return fits and readline or nil
end

-- Whether readline has read more keys than it has acted on: those that were typed ahead.
local function has_keys()
  local known, count = pcall(function() return ffi.C._rl_pushed_input_available() end)
  return known and count ~= 0
end

-- Ends the editing of a line that is not done. lua-readline closes the terminal's file before it lets readline go,
-- which still writes to it unless it has been let go before.
local function drop_line(readline)
  ffi.C.rl_free_line_state()
  ffi.C.rl_callback_sigcleanup()
  ffi.C.rl_callback_handler_remove()
  readline.handler_remove()
end

-- readline has to know which characters of a prompt take no room.
local function marked(prompt) return (prompt:gsub("\27%[[%d;]*m", "\1%0\2")) end

-- One with readline. Its own loop would keep the line on Ctrl-C, so that this one waits for each key.
local function with_readline(readline, complete, prepare)
  local reader = {}
  readline.set_options {histfile = "", auto_add = false, completion = true}
  readline.set_readline_name "fp8"
  readline.set_complete_function(function(line, first, last)
    readline.set_completion_append_character ""
    local ok, matches = pcall(complete, line:sub(1, last), first)
    return ok and matches or {}
  end)
  for _, entry in ipairs(history.entries) do readline.add_history(entry) end

  function reader.read(prompt)
    local line, finished
    local width = terminal.width()
    readline.handler_install(marked(prompt), function(text)
      line, finished = text, true
      readline.handler_remove()
    end)
    if prepare then pcall(prepare) end
    prepare = nil
    while not finished do
      if not has_keys() and not core.wait_for_input() then
        drop_line(readline)
        return nil, "interrupted"
      end
      if terminal.width() ~= width then -- the signal that says so does not reach readline
        width = terminal.width()
        ffi.C.rl_resize_terminal()
      end
      readline.read_char()
    end
    return line
  end

  function reader.remember(entry) readline.add_history(entry) end

  return reader
end

--- What reads lines: read(prompt) gives a line, nil at the end of the input, nil and "interrupted" on Ctrl-C;
-- remember(entry) lets the arrow keys bring it back. `hint` is what would make it better, or nil.
-- @param complete (line up to the cursor, first position of the word there) -> list of words to take its place
-- @param prepare called once the first prompt is there, while nobody can have pressed Tab yet
function editor.open(complete, prepare)
  local interactive = terminal.is_interactive()
  if not interactive or os.getenv "TERM" == "dumb" then return plain(interactive) end
  local readline = load_readline()
  if readline then return with_readline(readline, complete, prepare) end
  local reader = plain(interactive)
  reader.hint = "Arrow keys and Tab need lua-readline (Debian: apt-get install lua-readline)"
  return reader
end

return editor
