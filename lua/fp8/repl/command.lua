--- The command `fp8`.
local core = require "fp8.core"

local usage = [=[
usage: fp8 [options] [script [arguments]]

Without a script, and with -i, the prompt. fp8 is a global in all of them.

  -e code  runs the code as at the prompt, which shows the value of an expression
  -i       the prompt after the script or the code
  -v       shows the version
  -h       shows this]=]

local letters = {["-i"] = "i", ["-v"] = "v", ["-h"] = "h", ["--version"] = "v", ["--help"] = "h"}

-- The options, and the position of the first argument after them; or nil and what is wrong.
local function read_arguments(arguments)
  local chosen, i = {code = {}}, 1
  while arguments[i] and arguments[i]:sub(1, 1) == "-" do
    local option = arguments[i]
    if option == "-e" then
      i = i + 1
      if not arguments[i] then return nil, "-e needs code" end
      table.insert(chosen.code, arguments[i])
    elseif letters[option] then
      chosen[letters[option]] = true
    elseif option == "--" then
      return chosen, i + 1
    else
      return nil, "there is no option " .. option
    end
    i = i + 1
  end
  return chosen, i
end

-- `arg` is what it is for a script that luajit runs.
local function run_script(arguments, first)
  local own = {}
  for i = first, #arguments do own[i - first] = arguments[i] end
  _G.arg = own
  local chunk, message = loadfile(own[0])
  if not chunk then return false, message end
  return xpcall(function() chunk(unpack(own)) end, function(problem)
    return (debug.traceback(tostring(problem), 2):gsub("\n[^\n]*fp8/repl/command%.lua.*", ""))
  end)
end

local function run_code(session, list)
  for _, code in ipairs(list) do
    local done = session:evaluate(code)
    if done == nil then session:show_error "the code has no end" end
    if not done then return false end
  end
  return true
end

-- A script before the prompt: Ctrl-C ends the script only.
local function run_before_prompt(arguments, first)
  core.watch_interrupts(true)
  local reached, ok, message = core.interruptible(run_script, arguments, first)
  core.watch_interrupts(false)
  return reached and ok, reached and message or ok
end

--- Does what the arguments of the command ask for. Returns whether all went well.
return function(arguments)
  local chosen, first = read_arguments(arguments)
  if not chosen then
    io.stderr:write("fp8: ", first, "\n", usage, "\n")
    return false
  end
  if chosen.h then print(usage) return true end
  if chosen.v then print(require "fp8"._VERSION) return true end
  local has_script = arguments[first] ~= nil and #chosen.code == 0
  local session, ok, message = nil, true
  if #chosen.code > 0 or not has_script or chosen.i then session = require("fp8.repl.session").new() end
  if not session then _G.fp8 = require "fp8" end
  if has_script then
    ok, message = (session and run_before_prompt or run_script)(arguments, first)
    if not ok then io.stderr:write("fp8: ", tostring(message), "\n") end
  elseif #chosen.code > 0 then
    ok = run_code(session, chosen.code)
  end
  if chosen.i or session and #chosen.code == 0 then require("fp8.repl").run(session) end
  return ok
end
