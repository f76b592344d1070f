-- The table "The API at a glance" of README.md has every public name, and no other ones. In it, code that begins with
-- a library or x: is a list of names of that library, or of methods: `fp8.nn.ReLU GELU`, `x:sum mean(dims)`.
local fp8 = require "fp8"
local support = require "spec.support"

local text = support.read_file(support.path "README.md")
local section = text:match "## The API at a glance\n(.-)\n## " or text:match "## The API at a glance\n(.*)$"

-- What the beginning of a list says of the names in it, longest first.
local libraries = {
  {"fp8.distributed.", fp8.distributed}, {"fp8.nn.init.", fp8.nn.init}, {"fp8.checkpoint.", fp8.checkpoint},
  {"fp8.watch.", fp8.watch}, {"fp8.optim.", fp8.optim}, {"fp8.data.", fp8.data}, {"fp8.cuda.", fp8.cuda},
  {"fp8.nn.", fp8.nn}, {"fp8.", fp8},
  {"x:", require "fp8.tensor"},
}

-- What is no function, class or library of them, and what the text below the table is about.
local without = {
  ["fp8.version"] = true, ["fp8._VERSION"] = true, ["fp8.nn"] = true, ["fp8.optim"] = true, ["fp8.data"] = true,
  ["fp8.cuda"] = true, ["fp8.distributed"] = true, ["fp8.checkpoint"] = true, ["fp8.nn.init"] = true,
}

--- The names of a list of code without what is in parentheses, braces and brackets: {prefix, name, …}.
local function names_of(code)
  for _, library in ipairs(libraries) do
    local prefix = library[1]
    if code:sub(1, #prefix) == prefix and code:sub(#prefix + 1):find "^[%a_]" then
      local list = code:sub(#prefix + 1):gsub("%b()", " "):gsub("%b{}", " "):gsub("%b[]", " "):gsub('".-"', " ")
      local names = {}
      for name in list:gmatch "[^%s,]+" do
        if name:sub(1, #prefix) == prefix then name = name:sub(#prefix + 1) end
        table.insert(names, name:match "^[^:.]*")
      end
      return prefix, names
    end
  end
end

--- By prefix, the set of names that the table has.
local function documented()
  local sets = {}
  for _, library in ipairs(libraries) do sets[library[1]] = {} end
  for row in section:gmatch "\n(|[^\n]*)" do
    for code in row:gmatch "`([^`]*)`" do
      local prefix, names = names_of(code)
      for _, name in ipairs(names or {}) do sets[prefix][name] = true end
    end
  end
  return sets
end

local function is_public(prefix, name)
  return type(name) == "string" and not name:find "^_" and not without[prefix .. name]
end

describe("The table in README.md", function()
  local sets = documented()

  --- Whether a name is there, in a list of methods or of functions of fp8 where it is both; what changes a tensor goes
  --- without its _, of functions that the table has.
  local function has(prefix, name)
    if sets[prefix][name] then return true end
    if prefix == "fp8.nn." and sets["fp8."][name] then return true end
    local operation = prefix == "fp8." or prefix == "x:"
    if operation and (sets["x:"][name] or sets["fp8."][name]) then return true end
    local base = operation and name:match "^(.*)_$"
    return base and (sets["x:"][base] or sets["fp8."][base]) or false
  end

  it("has every public name", function()
    local missing, methods = {}, require("fp8.ops").methods
    for _, library in ipairs(libraries) do
      local prefix, fields = unpack(library)
      for name in support.sorted_pairs(fields) do
        local again = prefix == "fp8." and methods[name] -- which comes as a method
        if is_public(prefix, name) and not again and not has(prefix, name) then
          table.insert(missing, prefix .. name)
        end
      end
    end
    if #missing > 0 then
      error("README.md: add these names to the row of their kind in the table \"The API at a glance\", where lists " ..
        "such as `x:sum mean` and `fp8.nn.ReLU GELU` have them: " .. table.concat(missing, " "))
    end
  end)

  it("has no other names", function()
    local wrong = {}
    for _, library in ipairs(libraries) do
      local prefix, fields = unpack(library)
      for name in support.sorted_pairs(sets[prefix]) do
        local ok, value = pcall(function() return fields[name] end)
        if not ok or value == nil then table.insert(wrong, prefix .. name) end
      end
    end
    if #wrong > 0 then
      error("README.md: the table \"The API at a glance\" has names that there are not: " .. table.concat(wrong, " "))
    end
  end)
end)

describe("README.md", function()
  it("names every recipe, and no other ones", function()
    local listed = {}
    local list = text:match "`fp8.recipes` has the published ones, with their sources: `([^`]*)`"
    for name in list:gmatch "%S+" do listed[name] = true end
    for name in pairs(fp8.recipes) do assert.is_true(listed[name], name) end
    for name in pairs(listed) do assert.is_table(rawget(fp8.recipes, name), name) end
  end)
end)
