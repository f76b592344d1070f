--- What is typed at the prompt as a function: an expression gives its values, and `local` in no block makes a variable
-- that later lines see.
local tokens = require "fp8.repl.tokens"

local source = {}

local opening = {["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true}
local closing = {["end"] = true, ["until"] = true}

-- The names from token `i` on, separated by commas, go to `names`; returns the position of the token behind them.
local function read_names(list, i, names)
  while list[i] and list[i].kind == "name" do
    names[#names + 1] = list[i].text
    if not (list[i + 1] and list[i + 1].text == ",") then return i + 1 end
    i = i + 2
  end
  return i
end

--- The text with its outermost `local`s taken out, and a list of the names that they declared.
function source.without_locals(text)
  local list, depth = tokens.list(text), 0
  local names, pieces, position = {}, {}, 1
  for i, token in ipairs(list) do
    local word = token.kind == "name" and token.text
    if word == "local" and depth == 0 and list[i + 1] then
      pieces[#pieces + 1] = text:sub(position, token.first - 1)
      position = list[i + 1].first
      if list[i + 1].text == "function" then
        names[#names + 1] = list[i + 2] and list[i + 2].text
      else
        local next_token = read_names(list, i + 1, names)
        if not (list[next_token] and list[next_token].text == "=") then
          local last = list[next_token - 1].last
          pieces[#pieces + 1] = text:sub(position, last) .. " = nil"
          position = last + 1
        end
      end
    elseif opening[word] then
      depth = depth + 1
    elseif closing[word] then
      depth = depth - 1
    end
  end
  pieces[#pieces + 1] = text:sub(position)
  return table.concat(pieces), names
end

local function ends_early(message) return message:find("near '<eof>'", 1, true) ~= nil end

-- Whether the text ends inside of a string that can't go on in the next line.
local function ends_in_quotes(text)
  local list = tokens.list(text)
  local last = list[#list]
  return last ~= nil and last.open and last.text:find "^[\"']" and text:sub(-1) ~= "\\"
end

-- Which message says more: one that stops at the first word knows only that this begins no statement.
local function better_message(text, of_expression, of_statement)
  local first = text:match "^%s*([^%s]+)" or ""
  local near = of_statement:match "unexpected symbol near '(.-)'$"
  if near and first:sub(1, #near) == near then return of_expression end
  return of_statement
end

local function values(...) return ... end

-- The function in an environment. What is typed is not compiled to machine code, in which loops would not see Ctrl-C.
local function prepared(chunk, environment)
  jit.off(chunk, true)
  setfenv(chunk, environment)
  return function() return chunk(values) end
end

-- The text without the semicolons and comments at its end.
local function trimmed(text)
  local list = tokens.list(text)
  local last = #list
  while last > 0 and list[last].text == ";" do last = last - 1 end
  return last > 0 and text:sub(1, list[last].last) or ""
end

-- Statements, if any, and then an expression as the argument of a call: `return f()` would take the line that was typed
-- out of the stack.
local function with_argument(statements, expression)
  return ("local __values = ...; %s return __values(%s)"):format(statements, expression)
end

-- Of statements and, after a semicolon, an expression: a chunk that returns its values, and the names that the
-- statements declare; or nil.
local function with_last_expression(text, name)
  text = trimmed(text)
  local list = tokens.list(text)
  for i = #list - 1, 2, -1 do
    if list[i].text == ";" then
      local before, expression = text:sub(1, list[i].last), text:sub(list[i].last + 1)
      if not (loadstring(before) and loadstring("return " .. expression)) then return nil end
      local statements, names = source.without_locals(before)
      return loadstring(with_argument(statements, expression), "=" .. name), names
    end
  end
end

--- The text as a function, which returns its values if it is an expression or ends in one after a semicolon, and a
-- list of the names that it declares by `local`; or nil, a message, and whether the text only has no end yet.
-- @param name of the chunk, for messages
function source.compile(text, name, environment)
  local expression = text:gsub("^%s*=", "")
  local chunk, of_expression = loadstring("return " .. expression, "=" .. name)
  if chunk then return prepared(loadstring(with_argument("", trimmed(expression)), "=" .. name), environment), {} end
  local names, statement
  chunk, names = with_last_expression(text, name)
  if chunk then return prepared(chunk, environment), names end
  statement, names = source.without_locals(text)
  local _, of_statement = loadstring(text, "=" .. name)
  chunk = not of_statement and loadstring(statement, "=" .. name)
  if chunk then return prepared(chunk, environment), names end
  if not ends_in_quotes(text) and (ends_early(of_expression) or ends_early(of_statement)) then
    return nil, of_statement, true
  end
  return nil, better_message(text, of_expression, of_statement), false
end

--- Whether the value of an expression is not wanted: it ends in a semicolon.
function source.is_silent(text)
  local list = tokens.list(text)
  return #list > 0 and list[#list].text == ";"
end

return source
