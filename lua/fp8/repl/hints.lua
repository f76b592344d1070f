--- What an error at the prompt may come from, where Lua's own message says little.
local later = require "fp8.later"

-- A pattern of messages, and what is added to them: text, or a function of the captures and the session's variables.
local hints = {
  {"global '([^']+)' %(a nil value%)", function(name, variables)
    return later("fp8.nearest").hint(name, variables, _G)
  end},
  {"method '([^']+)' %(a nil value%)", function(name)
    return later("fp8.nearest").hint(name, later("fp8.nn").Module)
  end},
  {"local 'self' %(a nil value%)", "; methods are called with a colon: optimizer:step()"},
  {"argument 1: tensor expected, got nil", "; methods are called with a colon: x:mean()"},
  {"number expected, got userdata", "; the number in a tensor x is x:item()"},
  {"attempt to compare .*userdata", "; elements are compared by x:lt(y), x:gt(y) and the like"},
}

--- What to add to a message, maybe nothing.
return function(message, variables)
  for _, entry in ipairs(hints) do
    local captures = {message:match(entry[1])}
    if captures[1] then return type(entry[2]) == "string" and entry[2] or entry[2](captures[1], variables) end
  end
  return ""
end
