--- The text of a module: the tree of its parts, with their parameters counted.
local core = require "fp8.core"
local fields = require "fp8.nn.fields"
local parts = require "fp8.nn.parts"

local drawn = {modules = {}} -- the set of those whose text is being made

-- 1234567 as 1,234,567
local function grouped(count)
  local text = ("%.0f"):format(count)
  local first = (#text - 1) % 3 + 1
  return text:sub(1, first) .. text:sub(first + 1):gsub("%d%d%d", ",%0")
end

local function add_parameters(module, seen, modules)
  modules[module] = true
  local count = 0
  for _, part in ipairs(parts.list(module)) do
    local value = part.value
    if parts.is_module(value) then
      if not modules[value] then count = count + add_parameters(value, seen, modules) end
    elseif not seen[value] and part.owner == module and core.requires_grad(value) then
      seen[value] = true
      count = count + core.numel(value)
    end
  end
  return count
end

local function count_text(module)
  local count = add_parameters(module, {}, {})
  if count == 0 then return "" end
  return ("  %s parameter%s"):format(grouped(count), count == 1 and "" or "s")
end

-- A function of fp8 by its name, another one by the line where it is written.
local function function_text(f)
  local found
  for name, operation in next, require("fp8.ops").functions do
    if operation == f and not (found and found < name) then found = name end
  end
  if found then return "fp8." .. found end
  local where = debug.getinfo(f, "S")
  return where.what == "C" and "function" or ("function of %s:%d"):format(where.short_src, where.linedefined)
end

jit.off(function_text) -- nn/parts.lua says why

-- The parts of a module and the functions in its fields, {name =, value =}, in the order in which they came to be
-- there, and then the others, which parts.list has in the order of their names.
local function ordered(module)
  local by_key, list, taken = {}, {}, {}
  local function add(name, value)
    if not taken[name] then list[#list + 1] = {name = name, value = value} end
    taken[name] = true
  end
  for _, part in ipairs(parts.list(module)) do
    if parts.is_module(part.value) then
      local key = part.owner == module and part.field or part.name:match "^[^.]*"
      by_key[key] = by_key[key] or {}
      table.insert(by_key[key], part)
    end
  end
  for _, key in ipairs(fields.keys(module)) do
    local value = rawget(module, key)
    if type(value) == "function" then add(tostring(key), value) end
    for _, part in ipairs(by_key[key] or by_key[tostring(key)] or {}) do add(part.name, part.value) end
  end
  for _, part in ipairs(parts.list(module)) do
    if parts.is_module(part.value) then add(part.name, part.value) end
  end
  return list
end

local function part_lines(module)
  local lines = {}
  for _, part in ipairs(ordered(module)) do
    local text = type(part.value) == "function" and function_text(part.value) or tostring(part.value)
    lines[#lines + 1] = ("  %s: %s"):format(part.name, (text:gsub("\n", "\n  ")))
  end
  return lines
end

--- What Module:__tostring says.
return function(module)
  if drawn.modules[module] then return module.class_name .. "(…)" end -- it is a part of itself
  local modules = {[module] = true}
  for other in next, drawn.modules do modules[other] = true end
  local lines, description = core.with(drawn, "modules", modules, part_lines, module), module:description()
  local count = count_text(module)
  if #lines == 0 then return ("%s(%s)%s"):format(module.class_name, description, count) end
  return ("%s(%s\n%s\n)%s"):format(module.class_name, description, table.concat(lines, "\n"), count)
end
