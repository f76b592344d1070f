--- The command line of the examples and benchmarks: --name VALUE, --name=VALUE, --name alone for a flag.
local options = {}

--- Ends with a message on standard error that begins with the program's name.
function options.stop(program, message, ...)
  io.stdout:flush()
  io.stderr:write(program, ": ", message:format(...), "\n")
  os.exit(1, true)
end

--- Reads the command line. --help prints `usage` and ends; anything wrong is one line on standard error.
-- @param program what messages begin with
-- @param readers by name, with _ for -: a function that turns the text into a value, nil if it is wrong, or a list of
--   one and of what the text has to be. None is needed for a flag, whose default is false.
-- @param values  defaults by name, changed and returned
function options.read(program, usage, readers, values)
  local position = 1
  while arg[position] do
    local argument = arg[position]
    local name, value = argument:match "^%-%-([%w-]+)=(.*)$"
    name = (name or argument:match "^%-%-([%w-]+)$" or "?"):gsub("%-", "_")
    local reader = readers[name]
    if name == "help" then
      io.write(usage)
      os.exit(0, true)
    elseif values[name] == false and not reader and not value then
      values[name] = true
    elseif reader then
      local title = argument:match "^[^=]+"
      if not value then
        position = position + 1
        value = arg[position] or options.stop(program, "option %s needs a value; --help lists the options", title)
      end
      local read, what = reader, nil
      if type(reader) == "table" then read, what = reader[1], reader[2] end
      values[name] = read(value)
      if values[name] == nil then
        options.stop(program, "option %s %s, got '%s'", title, what and "must be " .. what or "is wrong", value)
      end
    else
      options.stop(program, "unknown option '%s'; --help lists the options", argument)
    end
    position = position + 1
  end
  return values
end

--- Readers.
function options.whole(text)
  local number = tonumber(text)
  return number and number >= 1 and number == math.floor(number) and number < 2^31 and number or nil
end

function options.count(text) return text == "0" and 0 or options.whole(text) end

function options.positive(text)
  local number = tonumber(text)
  return number and number > 0 and number < math.huge and number or nil
end

function options.not_negative(text) return tonumber(text) == 0 and 0 or options.positive(text) end

function options.one_of(...)
  local allowed = {...}
  return function(text)
    for _, value in ipairs(allowed) do
      if text == value then return value end
    end
  end
end

--- A list of names, separated by commas; with `allowed`, keys of that table only.
function options.names(allowed)
  return function(text)
    local names = {}
    for name in text:gmatch "[^,%s]+" do
      if allowed and not allowed[name] then return nil end
      names[#names + 1] = name
    end
    return #names > 0 and names or nil
  end
end

options.kinds = {
  device = {tostring, "a device"},
  whole = {options.whole, "a whole number of at least 1"},
  count = {options.count, "a whole number of at least 0"},
  positive = {options.positive, "a positive number"},
  not_negative = {options.not_negative, "a number of at least 0"},
  path = {tostring, "a path"},
  text = {function(text) return text ~= "" and text or nil end, "a text of at least one byte"},
}

-- Wraps errors of code that is not the examples' own.
local Foreign = {}
Foreign.__index = Foreign
function Foreign:__tostring() return self.message end

--- Calls f(…), code from a user's file: options.main leaves its errors their file and line. Returns one result.
function options.call_foreign(f, ...)
  local ok, result = pcall(f, ...)
  if not ok then error(setmetatable({message = tostring(result)}, Foreign), 0) end
  return result
end

--- Calls main(), with errors as one line.
function options.main(program, main)
  io.stdout:setvbuf "line"
  local ok, failure = pcall(main)
  if ok then return end
  local message = tostring(failure)
  options.stop(program, "%s", getmetatable(failure) == Foreign and message or message:gsub("^[^:]+:%d+: ", ""))
end

return options
