--- fp8.help: what functions, classes and subjects are, out of the doc comments of fp8's own files.
local comments = require "fp8.help.comments"
local cut = require "fp8.printing.cut"
local core = require "fp8.core"
local later = require "fp8.later"
local names = require "fp8.help.names"
local topics = require "fp8.help.topics"

local help = {}

local most_found = 30 -- lines of an answer to a word that is no name

-- The first sentence of a text, without the call that it may begin with; and that call.
local function first_sentence(entry)
  if not entry.block then return "", nil end
  local text = comments.first_paragraph(entry.block)
  local call, rest = text:match "^([%w_.:]+%b())%s*:%s+(.*)$"
  if not call then call, rest = text:match "^([%w_.:]+%b{})%s*:%s+(.*)$" end
  if not call then rest = text:gsub("^[%w_.]+:%s+", "") end
  local stop = rest:find "[.:;]%s" or rest:find "%.$"
  return stop and rest:sub(1, stop - 1) or rest, call
end

--- One line on a public value or name, without its name; nil where it is none.
function help.summary(what)
  local entry = names.find(what)[1]
  if not entry or not entry.block then return nil end
  return entry.name, (first_sentence(entry))
end

-- Lines "name  what it is", as wide as the lines that are printed.
local function listing(rows)
  local width, name_width = require "fp8.printing.options".line_width(), 0
  for _, row in ipairs(rows) do name_width = math.max(name_width, #row[1]) end
  local lines = {}
  for _, row in ipairs(rows) do
    local gap = (" "):rep(name_width - #row[1] + 2)
    lines[#lines + 1] = cut(row[1] .. gap .. row[2], width)
  end
  return lines
end

--- The text on a library such as fp8 or fp8.recipes: a line on each thing in it.
-- @param prefix of the names of what is in it: "fp8."
function help.contents(prefix)
  local rows = {}
  for _, entry in ipairs(names.all()) do
    local short = entry.name:sub(1, #prefix) == prefix and entry.name:sub(#prefix + 1)
    if short and not short:find "[.:]" then rows[#rows + 1] = {short, (first_sentence(entry))} end
  end
  return table.concat(listing(rows), "\n")
end

local function entry_text(entry)
  local lines = {entry.name}
  if not entry.block then
    lines[2] = "  There is no comment on it."
    return table.concat(lines, "\n")
  end
  for _, line in ipairs(entry.block) do lines[#lines + 1] = line == "" and "" or "  " .. line end
  lines[#lines + 1] = ("  (%s, line %d)"):format(entry.block.file, entry.block.first)
  return table.concat(lines, "\n")
end

local function header(path)
  for _, block in ipairs(comments.all()) do
    if block.first == 1 and block.file == path then return table.concat(block, "\n") end
  end
end

local function topic_text(name)
  local topic = topics[name]
  return ("%s: %s\n\n%s\n\nSee also: %s"):format(name, topic.line, topic[1] or header(topic.header),
    table.concat(topic.see, ", "))
end

local function overview()
  local rows = {}
  for name, topic in next, topics do rows[#rows + 1] = {name, topic.line} end
  table.sort(rows, function(a, b) return a[1] < b[1] end)
  return ([[
fp8.help "name" or fp8.help(value) tells what a function, a method or a class is; a word that is no name finds what
speaks of it. Topics:

%s

print(fp8), print(fp8.nn) and so on list what is in them.]]):format("  " .. table.concat(listing(rows), "\n  "))
end

-- "recipe" is "recipes", too.
local function topic_of(word)
  local lower = word:lower()
  return topics[lower] and lower or topics[lower .. "s"] and lower .. "s" or nil
end

local function speaks_of(entry, word)
  if entry.name:lower():find(word, 1, true) then return 1 end
  for _, line in ipairs(entry.block or {}) do
    if line:lower():find(word, 1, true) then return 2 end
  end
end

-- What has a word in its name, then what has it in its comment.
local function search_text(word)
  local found, seen = {{}, {}}, {}
  for _, entry in ipairs(names.all()) do
    local rank = speaks_of(entry, word:lower())
    if rank and not seen[entry.block or entry] then
      seen[entry.block or entry] = true
      table.insert(found[rank], {entry.name, (first_sentence(entry))})
    end
  end
  local rows = found[1]
  for _, row in ipairs(found[2]) do rows[#rows + 1] = row end
  if #rows == 0 then
    local known = {}
    for _, entry in ipairs(names.all()) do known[entry.short] = true end
    return ("nothing speaks of %s%s"):format(word, later("fp8.nearest").hint(word, known))
  end
  local left = #rows - most_found
  while #rows > most_found do rows[#rows] = nil end
  local lines = listing(rows)
  if left > 0 then lines[#lines + 1] = ("… %d more"):format(left) end
  return table.concat(lines, "\n")
end

local libraries = {
  "fp8", "fp8.nn", "fp8.optim", "fp8.data", "fp8.cuda", "fp8.nn.init", "fp8.checkpoint", "fp8.recipes", "fp8.plot",
}

-- What is in a library, below the comment on it.
local function add_contents(texts, entry)
  for _, library in ipairs(libraries) do
    if entry.name == library then texts[#texts + 1] = help.contents(library .. ".") end
  end
end

--- The text that fp8.help shows of a name, a word or a value; of nil, what there is to ask for.
function help.text(what)
  if what == nil or what == "" then return overview() end
  if what == require "fp8" or what == "fp8" then return help.contents "fp8." end
  local entries = names.find(what)
  local topic = type(what) == "string" and topic_of(what)
  local texts = {}
  for _, entry in ipairs(entries) do
    texts[#texts + 1] = entry_text(entry)
    add_contents(texts, entry)
    if topic and entry.block and entry.block.file == topics[topic].header then topic = nil end -- the same text
  end
  if topic then texts[#texts + 1] = topic_text(topic) end
  if #texts > 0 then return table.concat(texts, "\n\n") end
  if type(what) == "string" then return search_text(what) end
  return "There is no help on a value like this; fp8.help() says what there is."
end

--- The names of the options that a public function takes, as a set: its comment has them as "{dtype =, device =}", or
-- in lines below "@param options".
function help.options(value)
  local entry = names.find(value)[1]
  local found, inside, block = {}, false, entry and entry.block or {}
  for braces in table.concat(block, " "):gmatch "%b{}" do
    for name in braces:gmatch "([%a_][%w_]*)%s*=[^=]" do found[name] = true end
  end
  for _, line in ipairs(block) do
    if line:find "^@" then inside = line:find "^@param %l*options" ~= nil or line:find "^@param settings" ~= nil end
    local name = inside and line:match "^  ([%a_][%w_]*)%s%s*%S"
    if name then found[name] = true end
  end
  return found
end

-- A name as it was typed: "x:softmax" and "model.weight" of variables, too, whose value decides.
local function value_of(text, environment)
  local value = environment
  for name in text:gmatch "[^.:]+" do
    local found, field = pcall(function() return value[name] end)
    if not found then return nil end
    value = field
  end
  return value
end

--- Shows the help on what was typed after a question mark.
function help.show(text, environment)
  if text == "" or #names.find(text) > 0 or topic_of(text) then return print(help.text(text)) end
  local value = value_of(text, environment)
  if value ~= nil and #names.find(value) > 0 then return print(help.text(value)) end
  if value ~= nil and text:find "^[%a_][%w_.:]*$" then
    local kind = core.is_tensor(value) and "" or ("a %s: "):format(type(value))
    return print(("%s is %s%s"):format(text, kind, require "fp8.printing.value"(value)))
  end
  print(help.text(text))
end

--- fp8.help([name or value]): prints what it is: fp8.help "softmax", fp8.help(x.softmax), fp8.help "recipes" (a topic).
-- A word that is no name finds what speaks of it, and fp8.help() says what there is to ask for.
-- fp8.help.text gives the text.
--   fp8.help.text "softmax":match "along a dimension" --> "along a dimension"
local function print_help(_, what) print(help.text(what)) end

return setmetatable(help, {__call = print_help})
