--- The words of Lua source, for the prompt: which of them is what, and not whether they make sense.

local tokens = {}

-- The end of a long string or comment whose opening brackets stand at `position`; nil if there are none; the end of
-- the text and true if it is not closed.
local function long_bracket(text, position)
  local _, opened, level = text:find("^%[(=*)%[", position)
  if not opened then return nil end
  local _, closed = text:find("]" .. level .. "]", opened + 1, true)
  return closed or #text, not closed
end

local function quoted(text, position)
  local quote, i = text:sub(position, position), position + 1
  while i <= #text do
    local character = text:sub(i, i)
    if character == quote then return i, false end
    if character == "\n" then return i - 1, true end
    i = i + (character == "\\" and 2 or 1)
  end
  return #text, true
end

local function comment(text, position)
  local stop, open = long_bracket(text, position + 2)
  if stop then return stop, open end
  return (text:find("\n", position, true) or #text + 1) - 1, false
end

-- Kind and last position of the token at `position`, and whether it is a string or comment that does not end.
local function token_at(text, position)
  local first = text:sub(position, position)
  if text:find("^%-%-", position) then
    return "comment", comment(text, position)
  elseif first == '"' or first == "'" then
    return "string", quoted(text, position)
  end
  local stop, open = long_bracket(text, position)
  if stop then return "string", stop, open end
  local _, name = text:find("^[%a_\128-\255][%w_\128-\255]*", position)
  if name then return "name", name, false end
  local _, number = text:find("^%.?%d[%w_.]*", position)
  if number then return "number", number, false end
  return "symbol", position, false
end

--- A list of {kind =, text =, first =, last =, open =}: names (reserved words are some), numbers, strings, and symbols
-- of one character each. `open` says that a string or a comment does not end; of comments there is none but such a one.
function tokens.list(text)
  local list, position = {}, 1
  while true do
    position = text:find("%S", position)
    if not position then return list end
    local kind, last, open = token_at(text, position)
    if kind ~= "comment" or open then
      list[#list + 1] = {kind = kind, text = text:sub(position, last), first = position, last = last, open = open}
    end
    position = last + 1
  end
end

return tokens
