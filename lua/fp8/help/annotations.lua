--- Annotations for editors that have the Lua language server (LuaLS): every public name with its comment, as a file of
-- declarations. `make editor` writes it for the checkout, `make install` beside the module.
local core = require "fp8.core"
local fp8 = require "fp8"
local names = require "fp8.help.names"
local public = require "fp8.public"

local heading = [[
---@meta fp8

---@class fp8
local fp8 = {}

---@alias fp8.dtype "f32"|"f16"|"bf16"|"e4m3"|"e5m2"|"u8"|"i32"|"i64"

---@class fp8.Tensor
---@operator add(any): fp8.Tensor
---@operator sub(any): fp8.Tensor
---@operator mul(any): fp8.Tensor
---@operator div(any): fp8.Tensor
---@operator pow(any): fp8.Tensor
---@operator unm: fp8.Tensor
---@field [integer] fp8.Tensor
%s
local Tensor = {}

---@class fp8.nn.Module
---@overload fun(...): any
local Module = {}
]]

local property_types = {
  shape = "integer[]", dtype = "fp8.dtype", device = "string", grad = "fp8.Tensor?", requires_grad = "boolean",
  is_leaf = "boolean",
}

-- A list of the names of a function's parameters; "..." of one in C, whose parameters nothing tells.
local function parameters(f)
  f = public.original(f)
  local info = debug.getinfo(f, "uS")
  if info.what == "C" then return {"..."} end
  local list = {}
  for i = 1, info.nparams do list[i] = debug.getlocal(f, i) end
  if info.isvararg then list[#list + 1] = "..." end
  return list
end

local type_names = {number = "number", string = "string", boolean = "boolean", table = "table"}

-- What the examples of a comment, as far as they end in a call of this name, give.
local function result_type(entry)
  for _, line in ipairs(entry.block or {}) do
    local example = line:match "^  (.-) %-%-> "
    if example and example:find("[.:]" .. entry.short .. "%s?%b()$") then
      local chunk = loadstring("local fp8 = ... return " .. example)
      local ok, value = pcall(chunk or error, fp8)
      if ok and core.is_tensor(value) then return "fp8.Tensor" end
      if ok then return type_names[type(value)] end
    end
  end
end

local function comment_of(entry)
  local lines = {}
  for i, line in ipairs(entry.block or {}) do lines[i] = "---" .. line:gsub("^@", "\\@") end
  return lines
end

-- What a declaration is put on: the owner's name and its separator.
local function place_of(entry)
  if entry.name:find "^x:" then return "Tensor:" end
  if entry.name:find "^module:" then return "Module:" end
  return (entry.name:gsub("[%w_]+$", ""))
end

local function function_lines(entry, lines)
  local list = parameters(entry.value)
  local owner = place_of(entry)
  if owner:sub(-1) == ":" and list[1] ~= "..." then table.remove(list, 1) end
  local result = result_type(entry)
  if result then lines[#lines + 1] = "---@return " .. result end
  lines[#lines + 1] = ("function %s%s(%s) end"):format(owner, entry.short, table.concat(list, ", "))
end

-- A class of modules or of something else, a library, or a value.
local function value_lines(entry, lines)
  local metatable = getmetatable(entry.value)
  if type(entry.value) == "table" and rawget(entry.value, "class_name") then
    lines[#lines + 1] = ("---@class %s : fp8.nn.Module"):format(entry.name)
    lines[#lines + 1] = ("---@overload fun(...): %s"):format(entry.name)
  elseif type(metatable) == "table" and metatable.__call then
    lines[#lines + 1] = "---@overload fun(...): any"
  end
  local owner = place_of(entry):gsub(":$", ".")
  local value = type(entry.value) == "table" and "{}" or ("%q"):format(tostring(entry.value))
  lines[#lines + 1] = ("%s%s = %s"):format(owner, entry.short, value)
end

local reserved = {["repeat"] = true, ["and"] = true, ["or"] = true, ["not"] = true, ["end"] = true}

local function declaration(part) return part:match "[^\n]*$" end

-- Libraries come before what is in them.
local function is_before(a, b)
  local depth_a, depth_b = select(2, declaration(a):gsub("[.:]", "")), select(2, declaration(b):gsub("[.:]", ""))
  if depth_a ~= depth_b then return depth_a < depth_b end
  return declaration(a) < declaration(b)
end

--- The text of the file.
return function()
  local fields, parts = {}, {}
  for _, entry in ipairs(names.all()) do
    if entry.name:find "^x%." then
      fields[#fields + 1] = ("---@field %s %s # %s"):format(entry.short, property_types[entry.short] or "any",
        entry.block and entry.block[1] or "")
    elseif not reserved[entry.short] then
      local lines = comment_of(entry)
      if type(entry.value) == "function" then function_lines(entry, lines) else value_lines(entry, lines) end
      parts[#parts + 1] = table.concat(lines, "\n")
    end
  end
  table.sort(parts, is_before)
  return heading:format(table.concat(fields, "\n")) .. "\n" .. table.concat(parts, "\n\n") .. "\n\nreturn fp8\n"
end
