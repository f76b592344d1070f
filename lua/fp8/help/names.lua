--- The public names, and the comments that tell of them.
local comments = require "fp8.help.comments"
local core = require "fp8.core"
local fp8 = require "fp8"
local public = require "fp8.public"

local names = {}

local Module = "module:" -- the methods of modules are listed as module:train and so on

-- Everything that has a name: {name = "fp8.nn.Linear", short = "Linear", value =}.
local function entries()
  local list = {}
  local function add(prefix, container, keys)
    for key in next, keys or container do
      if type(key) == "string" and not key:find "^_" then
        local found, value = pcall(function() return container[key] end)
        if found and value ~= nil then list[#list + 1] = {name = prefix .. key, short = key, value = value} end
      end
    end
  end
  add("fp8.", fp8)
  add("fp8.", fp8, getmetatable(fp8).later)
  for _, library in ipairs {"nn", "optim", "data", "cuda", "checkpoint", "recipes", "plot",
    "distributed"} do
    local found, container = pcall(function() return fp8[library] end) -- not where a package of Debian's is missing
    if found and type(container) == "table" then add("fp8." .. library .. ".", container) end
  end
  add("fp8.nn.init.", fp8.nn.init)
  add("fp8.watch.", fp8.watch)
  add("x:", require "fp8.tensor")
  for property in next, debug.getmetatable(core.empty(1)).properties do
    list[#list + 1] = {name = "x." .. property, short = property}
  end
  add(Module, fp8.nn.Module)
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local suffixes = {"", "_", "_like"} -- of names that are made in loops

-- How surely a comment is about a name: by the line below it, by a list of names there, by the call that it begins
-- with, as what it speaks of ("x.shape: …"), or by an example.
local ranks = {code = 1, list = 2, call = 3, subject = 4, mentioned = 5}

-- Calls visit(name) for the names that lines of code define.
local function each_definition(code, visit)
  for line in code:gmatch "[^\n]+" do
    local name = line:match "^%s*function [%w_.:]-([%w_]+)%s*%(" or line:match "^%s*local function ([%w_]+)"
    if name then visit(name) end
    local left = line:match "^%s*([%w_., ]-)%s*=[^=]" or ""
    for one in left:gsub("^local ", ""):gmatch "[%w_]+%f[,%s%z]" do visit(one) end
  end
end

-- Calls visit(short name, rank) for each name that a comment may be about.
local function each_name(block, visit)
  each_definition(block.code, function(name) visit(name, ranks.code) end)
  if block.code:find "^%s*for " then
    for name in block.code:gmatch '"([%a_][%w_]*)"' do
      for _, suffix in ipairs(suffixes) do visit(name .. suffix, ranks.list) end
    end
  end
  for i, line in ipairs(block) do
    for name, following in line:gmatch "[.:]([%a_][%w_]*)()%f[^%w_]" do
      local mark = i == 1 and line:sub(following, following)
      visit(name, (mark == "(" or mark == "{") and ranks.call or mark == ":" and ranks.subject or ranks.mentioned)
    end
  end
end

local most_mentions = 4 -- beyond which examples say nothing new

-- By short name, the comments that may be about it: {block =, rank =}, the likeliest first.
local function candidates()
  local found = {}
  for _, block in ipairs(comments.all()) do
    each_name(block, function(name, rank)
      local list = found[name] or {}
      found[name] = list
      local has_enough = rank == ranks.mentioned and #list >= most_mentions
      if not has_enough then list[#list + 1] = {block = block, rank = rank, place = #list} end
    end)
  end
  for _, list in next, found do
    table.sort(list, function(a, b)
      if a.rank ~= b.rank then return a.rank < b.rank end
      return a.place < b.place
    end)
  end
  return found
end

-- The comment just above a function's definition, by path and line.
local function by_place()
  local found = {}
  for _, block in ipairs(comments.all()) do found[block.path .. ":" .. block.below] = block end
  return found
end

-- The function that tells where a value was written: itself, or the `init` of a class of its own.
local function definition(value)
  if type(value) == "function" then return value end
  if type(value) ~= "table" or rawget(value, "extend") then return nil end -- Module's own is there to be replaced
  local metatable = getmetatable(value)
  local called = type(metatable) == "table" and rawget(metatable, "__call")
  local own = rawget(value, "init") or rawget(value, "forward") or called
  return type(own) == "function" and own or nil
end

local function place_of(value)
  local f = definition(value)
  local info = f and debug.getinfo(public.original(f), "S")
  return info and info.what ~= "C" and info.source:sub(2) .. ":" .. info.linedefined or nil
end

-- The file that returns this table, "fp8/nn/init.lua" of fp8.nn; nil if there is none.
local function file_of(value)
  if type(value) ~= "table" then return nil end
  for name, module in next, package.loaded do
    local place = module == value and name:find "^fp8" and name:gsub("%.", "/")
    for _, block in ipairs(place and comments.all() or {}) do
      if block.file == place .. ".lua" or block.file == place .. "/init.lua" then return block.file end
    end
  end
end

local function header_of(file)
  for _, block in ipairs(comments.all()) do
    if block.first == 1 and block.file == file then return block end
  end
end

-- The first of the candidates that tells of it by more than an example, in a file that `accepts` takes.
local function first_in(list, accepts)
  for _, candidate in ipairs(list) do
    if candidate.rank < ranks.mentioned and accepts(candidate.block) then return candidate.block end
  end
end

local function in_file(file)
  return function(block) return block.file == file or block.path == file end
end

local function in_folder(folder)
  return function(block) return block.file:find("^fp8/" .. folder .. "[/.]") end
end

-- A library: a table that no call makes anything of.
local function is_library(value)
  local metatable = getmetatable(value)
  return not (type(metatable) == "table" and metatable.__call)
end

local function choose(entry, found, places)
  local place, list = place_of(entry.value), found[entry.short] or {}
  local path, file = place and place:match "^(.*):%d+$", file_of(entry.value)
  local folder = entry.name:match "^fp8%.(%l+)%."
  if folder == "recipes" then folder = "linear/recipes" end
  local block = place and places[place] or
    file and is_library(entry.value) and header_of(file) or
    file and first_in(list, in_file(file)) or
    path and first_in(list, in_file(path)) or
    file and header_of(file) or
    folder and first_in(list, in_folder(folder)) or
    first_in(list, in_folder "help/functions_in_c")
  if block then return block end
  for _, candidate in ipairs(list) do
    local own = candidate.block.file:find "^fp8/printing/" or candidate.block.file:find "^fp8/repl/"
    if not own then return candidate.block end
  end
  -- A class that is another one with other defaults.
  local inherited = type(entry.value) == "table" and rawget(entry.value, "class_name") and place_of(entry.value.init)
  return inherited and places[inherited] or nil
end

local known

--- A list of {name =, short =, value =, block =}: every public name with its comment, which may be missing.
function names.all()
  if known then return known end
  local list, found, places = entries(), candidates(), by_place()
  for _, entry in ipairs(list) do entry.block = choose(entry, found, places) end
  known = list
  return list
end

--- The entries whose full or short name, or whose value, this is. Of fp8.softmax and x:softmax, which are one, the
-- first.
function names.find(what)
  local list, seen = {}, {}
  for _, entry in ipairs(names.all()) do
    local same
    if type(what) == "string" then
      local name = what:gsub("^fp8:", "fp8.")
      same = entry.name == name or entry.short == name or entry.name:gsub("^fp8%.", "") == name
    else
      same = rawequal(entry.value, what)
    end
    if same and not (entry.block and seen[entry.block]) then
      list[#list + 1] = entry
      if entry.block then seen[entry.block] = true end
    end
  end
  return list
end

return names
