--- Functions under the names by which scripts call them: what one takes no argument for is an error, and the errors of
-- what an operation is composed of bear the operation's name.
local core = require "fp8.core"

local names, originals = {}, {}
core.set_public_names(names)

local public = {}

-- A call that comes before it is not a tail call, so that the caller's frame is there when its error is raised.
local function results(...) return ... end

local function check_count(name, most, ...)
  for i = most + 1, select("#", ...) do
    local extra = select(i, ...)
    if extra ~= nil then
      core.raise(("%s: argument %d: no more arguments expected, got %s"):format(name, i,
        core.is_tensor(extra) and "a tensor" or type(extra)))
    end
  end
end

--- How many arguments a function takes; no bound of one whose parameters Lua does not tell.
function public.most_of(f)
  local info = debug.getinfo(f, "u")
  return info.isvararg and math.huge or info.nparams
end

local most_of = public.most_of

local own_folder = debug.getinfo(1, "S").source:match "^(.*[/\\])"
local counts = setmetatable({}, {__mode = "k"}) -- by function

--- Raises an error if a method f of fp8's own, which takes `self` before them, takes no such number of arguments.
function public.check_arguments(name, f, ...)
  local most = counts[f]
  if not most then
    local is_own = debug.getinfo(f, "S").source:sub(1, #own_folder) == own_folder
    most = is_own and math.max(most_of(f) - 1, 0) or math.huge
    counts[f] = most
  end
  if select("#", ...) > most then check_count(name, most, ...) end
end

--- The function f by its name, a method included.
-- @param most how many arguments it takes, where Lua does not tell
function public.plain(name, f, most)
  most = most or most_of(f)
  local function call(...)
    if select("#", ...) > most then check_count(name, most, ...) end
    return f(...)
  end
  originals[call] = f
  return call
end

--- The operation f by its name.
-- @param most          as above
-- @param takes_tensors whether its first argument has to be a tensor
function public.operation(name, f, most, takes_tensors)
  most = most or most_of(f)
  local function call(...)
    if takes_tensors and type((...)) ~= "userdata" then
      core.raise(("%s: argument 1: tensor expected, got %s"):format(name, type((...))))
    end
    if select("#", ...) > most then check_count(name, most, ...) end
    return results(f(...))
  end
  originals[call], names[call] = f, name
  return call
end

--- Has methods of a class, by their names, take no more arguments than they have.
function public.methods(class, ...)
  for _, name in ipairs {...} do class[name] = public.plain(name, class[name]) end
end

--- The function that is called so, where its parameters and its place in a file are told.
function public.original(f) return originals[f] or f end

return public
