-- Files whose header is large, where memory is short: an error, and the process goes on. And that nothing stays in
-- memory of the files that were read, in compiled code in particular.
local fp8 = require "fp8"
local support = require "spec.support"

local largest = 100 * 1000 * 1000

-- Runs code with limits of memory from 0 to 180 MiB beyond what the process has. `attempt` is what the code defines.
local function run_with_little(code)
  if not support.can_limit_memory then return end
  local ended, text = support.run_lua([[
    local fp8, ffi = require "fp8", require "ffi"
    ffi.cdef "typedef struct { long now, most; } Limit; int setrlimit(int which, const Limit *limit);"
    local _ = {fp8.save, fp8.load, fp8.checkpoint, fp8.Linear} -- which loads these modules
  ]] .. code .. [[

    local file = io.open "/proc/self/statm"
    local bytes, failures = 4096 * file:read "*n", 0
    file:close()
    for more = 0, 180, 30 do
      collectgarbage()
      assert(ffi.C.setrlimit(9, ffi.new("Limit", bytes + more * 2^20, -1)) == 0) -- RLIMIT_AS
      local ok, message = pcall(attempt)
      ffi.C.setrlimit(9, ffi.new("Limit", -1, -1))
      if not ok then
        assert(message:find "not enough memory" or message:find "Cannot allocate memory", message)
        failures = failures + 1
      end
    end
    assert(failures > 0)
    print("it goes on, and can save")
  ]])
  assert.is_true(ended, text)
  assert.equal("it goes on, and can save\n", text)
end

describe("Where memory is short", function()
  local directory = support.temporary_directory(setup, teardown)
  local path = directory .. "/x"

  it("fp8.save of long metadata is an error", function()
    run_with_little(([[
      local metadata = {note = ("\1"):rep(1500000)}
      local function attempt() fp8.save("%s", {}, metadata) end]]):format(path))
  end)

  it("fp8.checkpoint.save of much in extra is an error", function()
    run_with_little(([[
      local parts = {model = fp8.Linear(2, 2), extra = {("x"):rep(5000000)}}
      local function attempt() fp8.checkpoint.save("%s", parts) end]]):format(path))
  end)

  it("fp8.load of a file with a large header is an error", function()
    local file = assert(io.open(path, "wb"))
    file:write(support.safetensors(('{"__metadata__":{"note":"%s"}}'):format(("y"):rep(20000000))))
    file:close()
    run_with_little(([[local function attempt() fp8.load("%s") end]]):format(path))
  end)
end)

describe("A header of a file that is written", function()
  it("has as many bytes as the reference implementation reads, and no more", function()
    local path = os.tmpname()
    local frame = #'{"__metadata__":{"a":""}}'
    fp8.save(path, {}, {a = ("z"):rep(largest - frame)})
    assert.equal(largest - frame, #select(2, fp8.load(path)).a)
    collectgarbage()
    local before = collectgarbage "count"
    support.fails("is too large", fp8.save, path, {}, {a = ("z"):rep(largest - frame + 1)})
    support.fails("is too large", fp8.save, path, {[("n"):rep(largest)] = fp8.zeros(1)})
    assert.equal(largest - frame, #select(2, fp8.load(path)).a)
    os.remove(path)
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 1024)
  end)
end)

describe("Compiled code keeps no tensor alive", function()
  local directory = support.temporary_directory(setup, teardown)

  -- In processes of their own: only the first calls are compiled with what they got.
  for name, body in support.sorted_pairs {
    ["fp8.load"] = "local found = fp8.load(path) assert(found['1.bias'])",
    ["fp8.save"] = "local all = fp8.load(path) fp8.save(path, all)",
    ["load_state_dict"] = "model:load_state_dict(fp8.load(path))",
    ["load_state_dict of a copy"] = "local s = model:state_dict() for k, v in pairs(s) do s[k] = v:clone() end " ..
      "model:load_state_dict(s)",
    ["loops over a model"] = "local m = fp8.nn.Sequential(fp8.Linear(30, 30)) for i = 2, 150 do " ..
      "m[i] = fp8.nn.ReLU() m[i].x = fp8.zeros(9) end for _, p in m:named_parameters() do assert(p.shape) end " ..
      "for _, p in m:children() do assert(p.training) end for _, p in m:named_modules() do assert(p.training) end",
    ["loops over batches"] = "local x = fp8.zeros(1000, 10) " ..
      "for part in fp8.data.batches({x}, {batch = 5, shuffle = true, seed = 1}) do assert(part.shape) end " ..
      "for part in fp8.data.batches({x}, {batch = 5}) do assert(part.shape) end",
    ["load_state_dict of modules in tables"] = "local m = fp8.nn.Sequential() m.list = {} for i = 1, layers do " ..
      "m.list[i] = {fp8.Linear(40, 30)} end local s = m:state_dict() for k, v in pairs(s) do s[k] = v:clone() end " ..
      "m:load_state_dict(s)",
    ["model:to"] = "model:to 'bf16' model:to 'f32'",
    ["checkpoint.save and load"] = "fp8.checkpoint.save(other, {model = model, optimizer = optimizer}) " ..
      "fp8.checkpoint.load(other, {model = model, optimizer = optimizer})",
    ["optimizer:load_state_dict"] = "local s = optimizer:state_dict() for k, v in pairs(s) do s[k] = v:clone() end " ..
      "optimizer:load_state_dict(s)",
  } do
    it("in " .. name, function()
      for times, layers in support.sorted_pairs {150, [3] = 90, [40] = 10} do
        local ended, text = support.run_lua(([[
          local fp8, core = require "fp8", require "fp8.core"
          local directory, times, layers = "%s", %d, %d
          local path, other = directory .. "/path", directory .. "/other"
          local parts = {}
          for i = 1, layers do parts[i] = fp8.Linear(40, 30) end
          local model = fp8.nn.Sequential(unpack(parts))
          local optimizer = not %s and fp8.optim.AdamW(model)
          parts = nil
          local function in_use()
            for _ = 1, 3 do collectgarbage() end
            return core.memory("cpu").in_use
          end
          fp8.save(path, model:state_dict())
          local before = in_use()
          for _ = 1, times do %s end
          print(in_use() - before)
        ]]):format(directory, times, layers, tostring(name == "model:to"), body))
        assert.is_true(ended, text)
        assert.equal("0\n", text)
      end
    end)
  end
end)
