--- The doc comments of fp8's own Lua files. One begins with three dashes and goes on as long as lines begin with two:
--
--   --- What it does: shapes, dtypes, errors.
--   --   fp8.example(1)
--   -- @param name what it is
--   function module.example(name)
local comments = {}

local folder = debug.getinfo(1, "S").source:match "^@(.*)help[/\\]comments%.lua$" or "fp8/"

-- Paths in `folder`, in the order of their names.
local function files()
  local quoted = "'" .. folder:gsub("'", "'\\''") .. "'"
  local list, pipe = {}, io.popen(("find %s -name '*.lua' ! -path '*/annotations/*'"):format(quoted))
  for path in pipe:lines() do list[#list + 1] = path end
  pipe:close()
  table.sort(list)
  return list
end

-- The line that begins at `position`, and where the next one begins; nil at the end.
local function line_at(text, position)
  if position > #text then return nil end
  local stop = text:find("\n", position, true) or #text + 1
  return text:sub(position, stop - 1), stop + 1
end

local most_code = 8 -- lines

-- What the comment above `position` is about: lines up to the first part of a statement.
local function code_at(text, position)
  local code = {}
  while #code < most_code do
    local line, following = line_at(text, position)
    if not line or line == "" or line:find "^%s*%-%-" then break end
    code[#code + 1], position = line, following
    local word = line:gsub("^%s*local ", ""):match "%a+"
    if word == "return" or word == "function" and not line:find " end$" then break end
  end
  return table.concat(code, "\n")
end

-- The comment that begins at `position`, and where the code below it does.
local function read_block(text, position)
  local line, following = line_at(text, position)
  local block = {line:match "^%s*%-%-%-%s?(.*)$"}
  while true do
    position = following
    line, following = line_at(text, position)
    local rest = line and line:match "^%s*%-%-%s?(.*)$"
    if not rest then return block, position end
    block[#block + 1] = rest
  end
end

local function read(path, list)
  local file = io.open(path)
  local text = "\n" .. file:read "*a"
  file:close()
  local position, counted, number = 1, 1, 0
  while true do
    local found = text:find("\n *%-%-%-[^-]", position)
    if not found then return end
    for _ in text:sub(counted, found):gmatch "\n" do number = number + 1 end
    counted = found + 1
    local block, below = read_block(text, found + 1)
    block.path, block.file = path, "fp8/" .. path:sub(#folder + 1)
    block.first, block.below = number, number + #block
    block.code = code_at(text, below)
    list[#list + 1] = block
    position = below - 1
  end
end

local blocks

--- All of them, as a list of lists of lines, each with its `path`, the part of that from fp8/ on as `file`, the number
-- `first` of its first line and that of the line `below` it, and the `code` there.
function comments.all()
  if not blocks then
    local list = {}
    for _, path in ipairs(files()) do read(path, list) end
    blocks = list
  end
  return blocks
end

--- The text of a comment without its examples and parameters: its first paragraph in one line.
function comments.first_paragraph(block)
  local lines = {}
  for _, line in ipairs(block) do
    if line == "" or line:find "^  " or line:find "^@" then break end
    lines[#lines + 1] = line
  end
  return table.concat(lines, " ")
end

return comments
