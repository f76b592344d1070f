-- The code of the pages runs: every block of Lua, but for those that other specs run, and every right-hand side of the
-- tables of examples/coming_from.md.
local fp8 = require "fp8"
local support = require "spec.support"

local directory

--- Runs code with the globals of `more`, in a place where files may be written, and nothing printed.
local function run(code, more, where)
  local chunk, message = loadstring(code, "=" .. where)
  assert(chunk, message)
  local environment = setmetatable(more, {__index = _G})
  environment.fp8 = fp8
  environment.print = function(...) for i = 1, select("#", ...) do tostring((select(i, ...))) end end
  environment.io = {write = function() end}
  local ok, problem = xpcall(setfenv(chunk, environment), debug.traceback)
  fp8.set_deterministic(false)
  fp8.set_default_device "cpu"
  if not ok then error(("%s:\n%s\n%s"):format(where, code, problem), 0) end
end

-- Blocks that are run, and compared with what is printed, by core/readme_spec.
local elsewhere = {["README.md"] = function(code)
  return code == support.read_file(support.path "examples/first.lua") or code:find("print(state.absmax)", 1, true)
    or code:find("fp8.analyze(x, {formats", 1, true)
end}

describe("The code of the pages", function()
  directory = support.temporary_directory(setup, teardown)

  for _, page in ipairs {"README.md", "examples/README.md", "examples/coming_from.md"} do
    it("runs: " .. page, function()
      local count = 0
      for code in support.read_file(support.path(page)):gmatch "```lua\n(.-)```" do
        if not (elsewhere[page] and elsewhere[page](code)) then
          run(code, {}, page)
          count = count + 1
        end
      end
      assert.is_true(count > 0)
    end)
  end

  it("runs: the tables of examples/coming_from.md", function()
    local count, wrong = 0, {}
    for line in support.read_file(support.path "examples/coming_from.md"):gmatch "\n(|[^\n]*|)%f[\n]" do
      local code = line:match "| `([^`]*)` |$"
      if code then
        local x, w = fp8.arange(6):view(2, 3) + 1, fp8.ones(2, 3, {requires_grad = true})
        local heads = fp8.randn(1, 2, 4, 8)
        local values = {
          x = x, w = w, z = x * 2, y = fp8.ones(3, 2), f = function(a) return a * 2 end, device = "cpu",
          q = heads, k = heads, v = heads, model = fp8.nn.Sequential(fp8.Linear(3, 3)),
          logits = fp8.randn(4, 3, {requires_grad = true}), labels = fp8.tensor({0, 1, 2, 0}, {dtype = "i64"}),
          path = directory .. "/x",
        }
        values.model(x):sum():backward()
        if not loadstring(code) then code = "return " .. code end
        code = code:gsub('"x%.npy"', ("%q"):format(directory .. "/x.npy"))
        local ok, message = pcall(run, code, values, line)
        if not ok then table.insert(wrong, message:match "^[^\n]*\n[^\n]*\n[^\n]*") end
        count = count + 1
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
    assert.is_true(count > 50)
  end)
end)
