--- The input of LDoc, for the reference in HTML: a file for each library with the comments of its names, and one for
-- each topic. `make docs` writes it to build/reference and has LDoc read it.
local comments = require "fp8.help.comments"
local names = require "fp8.help.names"
local public = require "fp8.public"
local topics = require "fp8.help.topics"

-- {prefix of its names, file, title}
local libraries = {
  {"fp8.", "fp8", "Functions of fp8"}, {"x:", "tensor", "Methods of tensors"}, {"x.", "tensor"},
  {"fp8.nn.", "nn", "Layers and other modules"}, {"module:", "module", "Methods of modules"},
  {"fp8.nn.init.", "init", "Initial values"}, {"fp8.optim.", "optim", "Optimizers and schedules"},
  {"fp8.recipes.", "recipes", "Published recipes"}, {"fp8.data.", "data", "Data"},
  {"fp8.cuda.", "cuda", "CUDA devices"}, {"fp8.checkpoint.", "checkpoint", "Checkpoints"},
  {"fp8.distributed.", "distributed", "Several processes"}, {"fp8.watch.", "watch", "Watching"},
  {"fp8.plot.", "plot", "Pictures"},
}

-- The library that a name belongs to: that of the longest prefix.
local function library_of(name)
  local best
  for _, library in ipairs(libraries) do
    local rest = name:sub(1, #library[1]) == library[1] and name:sub(#library[1] + 1)
    if rest and not rest:find "[.:]" then best = library end
  end
  return best
end

local entities = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;"}

local function html(text) return (text:gsub("[&<>]", entities)) end

-- A line of text in which every character is itself, spaces included: Markdown would take deep indentation for code.
local function verbatim(line)
  return (html(line):gsub('[_*`^"]', function(mark) return ("&#%d;"):format(mark:byte()) end)
    :gsub("  +", function(spaces) return ("&#160;"):rep(#spaces) end))
end

-- Prose, in which _, *, quotes and -- are themselves outside of `code`.
local function prose(line)
  return (line:gsub("[^`]*`?[^`]*`?", function(piece)
    local plain, code = piece:match "^([^`]*)(.*)$"
    return html(plain):gsub("[_*]", "\\%0"):gsub('"', "&quot;"):gsub("%-%-", "&#45;&#45;") .. code
  end))
end

local function is_code(lines)
  local text = table.concat(lines, "\n")
  return text:find("-->", 1, true) or loadstring(text) or loadstring("return " .. text)
end

-- An indented block: Lua, or a list of options and the like as it is.
local function add_block(text, lines)
  if #lines == 0 then return end
  text[#text + 1] = ""
  if is_code(lines) then
    for _, line in ipairs(lines) do text[#text + 1] = "    " .. line end
  else
    local list = {}
    for i, line in ipairs(lines) do list[i] = verbatim(line) end
    text[#text + 1] = ('<pre class="text">%s</pre>'):format(table.concat(list, "<br>"))
  end
  text[#text + 1] = ""
end

-- Lines of a comment as Markdown: parameters and results are paragraphs.
local function markdown(lines)
  local text, block = {}, {}
  for i, line in ipairs(lines) do
    local indented = line:match "^  (.*)$"
    if indented or line == "" and #block > 0 and (lines[i + 1] or ""):find "^  " then
      block[#block + 1] = indented or ""
    else
      add_block(text, block)
      block = {}
      local tag, rest = line:match "^@(%l+)%s*(.*)$"
      if tag then text[#text + 1] = "" end
      if tag == "param" then
        local name, what = rest:match "^(%S+)%s*(.*)$"
        text[#text + 1] = ("**%s** %s"):format(prose(name), prose(what))
      else
        text[#text + 1] = tag and "**returns** " .. prose(rest) or prose(line)
      end
    end
  end
  add_block(text, block)
  return text
end

-- LDoc's lists show the first sentence, which it knows by its full stop.
local function with_full_stop(lines)
  for i, line in ipairs(lines) do
    if line:find "[.:]%s" or line:find "%.$" then break end
    if (lines[i + 1] or "") == "" then
      lines[i] = line:gsub(":$", "") .. "."
      break
    end
  end
  return lines
end

-- LDoc takes what begins with @ for a tag of its own, and leaves the space behind the dashes.
local function put_comment(put, lines)
  for i, line in ipairs(lines) do
    put(i == 1 and "--- %s\n" or "-- %s\n", (line:gsub("@", "&#64;"):gsub("^    ", "   ")))
  end
end

local function formal_parameters(f)
  f = public.original(f)
  local info = debug.getinfo(f, "uS")
  local list = {}
  for i = 1, info.what ~= "C" and info.nparams or 0 do list[i] = debug.getlocal(f, i) end
  if info.what == "C" or info.isvararg then list[#list + 1] = "..." end
  return list
end

local function put_entry(put, entry)
  put_comment(put, with_full_stop(markdown(entry.block or {"(no comment)"})))
  if entry.block then put("--\n-- <small>%s</small>\n", entry.block.file) end
  if type(entry.value) == "function" then
    put("-- @function %s\n", entry.name)
    for i, parameter in ipairs(formal_parameters(entry.value)) do
      if not (i == 1 and entry.name:find ":") then put("-- @param %s\n", parameter) end
    end
  else
    put("-- @field %s\n", entry.name)
  end
  put "\n"
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function write_library(folder, name, title, entries)
  local parts = {}
  local function put(format, ...) parts[#parts + 1] = format:format(...) end
  put("--- %s.\n-- @module %s\n\n", title, name)
  for _, entry in ipairs(entries) do put_entry(put, entry) end
  write(("%s/%s.lua"):format(folder, name), table.concat(parts))
end

local function header(file)
  for _, block in ipairs(comments.all()) do
    if block.first == 1 and block.file == file then return block end
  end
end

local function lines_of(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

-- A name that the reference has, as a link from a topic to it.
local function linked(name, entries)
  local library = entries[name] and library_of(name)
  if not library then return ("`%s`"):format(name) end
  local anchor = name:gsub("^fp8%.([^.]*)$", "%1") -- LDoc takes the name of the module off
  return ("[%s](../modules/%s.html#%s)"):format(prose(name), library[2], anchor)
end

local function write_topic(folder, name, topic, entries)
  local see = {}
  for i, other in ipairs(topic.see) do see[i] = linked(other, entries) end
  local lines = markdown(topic[1] and lines_of(topic[1]) or header(topic.header))
  write(("%s/topics/%s.md"):format(folder, name), ("# %s\n\n%s\n\nSee also: %s\n"):format(
    name:gsub("^%l", string.upper), table.concat(lines, "\n"), table.concat(see, ", ")))
end

--- Writes the files into a folder that is there, with a folder `topics` in it. Returns how many names they have.
return function(folder)
  local by_file, titles, by_name, count = {}, {}, {}, 0
  for _, library in ipairs(libraries) do titles[library[2]] = titles[library[2]] or library[3] end
  for _, entry in ipairs(names.all()) do
    local file = library_of(entry.name)[2]
    by_file[file] = by_file[file] or {}
    table.insert(by_file[file], entry)
    by_name[entry.name] = entry
    count = count + 1
  end
  write(folder .. "/ldoc.css", require "fp8.help.style")
  local files = {}
  for _, library in ipairs(libraries) do
    if library[3] then files[#files + 1] = ("%q"):format(library[2] .. ".lua") end
  end
  for file, entries in next, by_file do write_library(folder, file, titles[file], entries) end
  for name, topic in next, topics do write_topic(folder, name, topic, by_name) end
  write(folder .. "/config.ld", ([[
project = "fp8"
title = "fp8, a reference"
description = "8-bit floating-point training from LuaJIT"
format = "discount"
dir = "html"
file = {%s}
topics = {"topics"}
use_markdown_titles = true
no_space_before_args = true
sort = true
style = true
]]):format(table.concat(files, ", ")))
  return count
end
