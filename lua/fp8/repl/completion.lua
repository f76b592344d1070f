--- What Tab offers: globals and reserved words, fields and methods, options inside of a call, files inside of a string,
-- commands at the beginning of a line.
local core = require "fp8.core"
local commands = require "fp8.repl.commands"
local fields_of = require "fp8.repl.fields"
local files = require "fp8.repl.files"
local tokens = require "fp8.repl.tokens"

local completion = {}

local words = {}
for word in ([[and break do else elseif end false for function if in local nil not or repeat return then true until
  while]]):gmatch "%a+" do words[word] = true end

-- The value of "model.layers" and the like, read without calling anything but __index.
local function value_of(session, path)
  local value = session.environment
  for name in path:gmatch "[^.:]+" do
    local found, field = pcall(function() return value[name] end)
    if not found then return nil end
    value = field
  end
  return value
end

-- Names that begin with `start`, sorted, each behind `before` and in front of `after`.
local function select_names(names, start, before, after)
  local list = {}
  for name in next, names do
    local private = name:sub(1, 1) == "_" and start:sub(1, 1) ~= "_"
    if name:sub(1, #start) == start and not private then list[#list + 1] = before .. name .. (after or "") end
  end
  table.sort(list)
  return list
end

local function globals_of(session)
  local names = {}
  for _, variables in ipairs {_G, session.environment} do
    for name in next, variables do
      if type(name) == "string" then names[name] = true end
    end
  end
  for word in next, words do names[word] = true end
  return names
end

local opening, closing = {["("] = true, ["{"] = true}, {[")"] = true, ["}"] = true}

-- The name in front of the innermost bracket that is open, "fp8.randn" of `fp8.randn(2, {dt`; nil if there is none.
local function open_call(line)
  local list, depth = tokens.list(line), 0
  for i = #list, 1, -1 do
    local text = list[i].kind == "symbol" and list[i].text
    if closing[text] then
      depth = depth + 1
    elseif opening[text] then
      depth = depth - 1
      if depth < 0 then
        local name = line:sub(1, list[i].first - 1):match "([%a_][%w_.:]*)%s*$"
        if name and not words[name] then return name end
        depth = 0 -- the table is an argument: the call is further out
      end
    end
  end
end

-- Options that the call takes in which the cursor is, where one can stand: behind a bracket or a comma.
local function options_of(session, line, start)
  local before = line:sub(1, #line - #start)
  if not before:find "[{(,]%s*$" then return {} end
  local name = open_call(before)
  local value = name and value_of(session, name)
  return value ~= nil and require "fp8.help".options(value) or {}
end

-- Whether the text ends inside of a string, whose beginning this gives.
local function open_string(line)
  local list = tokens.list(line)
  local last = list[#list]
  if last and last.kind == "string" and last.open then return last.text:gsub("^%[=*%[", ""):gsub("^[\"']", "") end
end

-- What can be asked for after a question mark.
local function help_words()
  local names = {fp8 = true}
  for _, entry in ipairs(require "fp8.help.names".all()) do names[entry.short] = true end
  for topic in next, require "fp8.help.topics" do names[topic] = true end
  return names
end

-- What the result of a call and an element of a list are taken to be.
local function some_tensor() return core.empty(0) end

--- Reads the comments, which the first completion of an option would wait for.
function completion.prepare() require "fp8.help.names".all() end

--- The words that may take the place of the one that ends at the end of `line`.
-- @param first where readline takes that word to begin: what stands between there and what is completed stays
function completion.matches(session, line, first)
  local string = open_string(line)
  if string then
    local list = files(string)
    for i, path in ipairs(list) do list[i] = path:sub(#string - (#line - first + 1) + 1) end
    return list
  end
  local start = line:match "[%w_]*$"
  local kept = line:sub(first, #line - #start)
  if line:find "^%s*%?%s*[%w_]*$" then return select_names(help_words(), start, kept) end
  if line:find "^%s*:%a*$" then return select_names(commands.names, start, kept) end
  local path, separator = line:match "([%a_][%w_.:]*)([.:])[%w_]*$"
  if path then return select_names(fields_of(value_of(session, path), separator), start, kept) end
  separator = line:match "[%])]([.:])[%w_]*$"
  if separator then return select_names(fields_of(some_tensor(), separator), start, kept) end
  local options = select_names(options_of(session, line, start), start, kept, " = ")
  if #options > 0 and start ~= "" or #options > 0 and line:find "{%s*$" then return options end
  return select_names(globals_of(session), start, kept)
end

return completion
