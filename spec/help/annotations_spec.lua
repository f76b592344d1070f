-- What editors are told of fp8: Lua that declares every public name.
local names = require "fp8.help.names"

local text = require "fp8.help.annotations"()

describe("The annotations", function()
  it("are Lua that declares every public name", function()
    local declared, missing = assert(loadstring(text, "=annotations"))(), {}
    for _, entry in ipairs(names.all()) do
      local found
      local method = entry.name:match "^x:(.*)" or entry.name:match "^module:(.*)"
      if method then
        local owner = entry.name:find "^x" and "Tensor" or "Module"
        found = text:find(("\n%sfunction %s:%s("):format("", owner, method), 1, true)
          or text:find(("\n%s.%s = "):format(owner, method), 1, true)
      elseif entry.name:find "^x%." then
        found = text:find(("\n---@field %s "):format(entry.short), 1, true)
      else
        found = declared
        for name in entry.name:gsub("^fp8%.", ""):gmatch "[^.]+" do found = found and found[name] end
      end
      if not found then table.insert(missing, entry.name) end
    end
    assert.equal("", table.concat(missing, " "))
  end)

  it("know parameters, results, classes and comments", function()
    for _, line in ipairs {
      "---@return fp8.Tensor\nfunction fp8.softmax(x, dimension) end", "function Tensor:softmax(dimension) end",
      "---@return boolean\nfunction Tensor:is_contiguous(...) end", "---@class fp8.nn.Linear : fp8.nn.Module",
      "---@overload fun(...): fp8.nn.Linear\nfp8.nn.Linear = {}", "---exp(x) / Σ exp(x) along a dimension.\n",
      "---@field shape integer[] # x.shape: a list of sizes.\n",
    } do
      assert.is_truthy(text:find(line, 1, true), line)
    end
  end)
end)
