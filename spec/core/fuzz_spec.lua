-- Random calls of everything that is public, with right and wrong arguments, and files with random damage: nothing but
-- results, and errors that are strings and point at the caller; no crash, no hang, and all memory back in the end.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"
local new_arguments = require "spec.support.fuzz_arguments"

local public = require "spec.support.public_functions"

local calls = tonumber(os.getenv "FP8_FUZZ_CALLS") or 20000
local files = tonumber(os.getenv "FP8_FUZZ_FILES") or 2000

local at_a_line = "^[./]*spec/[%l_/]+%.lua:%d+: "
local here = debug.getinfo(1, "S").short_src .. ":"

--- Calls f, and notes in `wrong` any error that is no string or does not point at this file.
local function call(name, f, values, count, wrong)
  local ok, message = pcall(function()
    local first = f(unpack(values, 1, count))
    if core.is_tensor(first) and name ~= "metatable.__gc" then
      -- What comes out must be whole: all elements can be read.
      if pcall(core.numel, first) and core.numel(first) <= 4096 then core.totable(first) end
    end
    return nil
  end)
  if ok then return true end
  if type(message) ~= "string" then
    wrong[name] = "the error is a " .. type(message)
  elseif not message:find(at_a_line) and message ~= "on purpose" and message ~= "no index" then
    wrong[name] = message:sub(1, 300)
  end
  return false
end

--- Calls the functions in turn. Returns the set of names that succeeded, how many calls did, and the wrong errors.
local function call_all(functions, arguments, path)
  local worked, succeeded, wrong = {}, 0, {}
  for i = 1, calls do
    if i % 100 == 0 then arguments.renew() end
    local name, f = unpack(functions[(i - 1) % #functions + 1])
    local last = name:match "[^.]+$"
    local values, count = arguments.list(public.kinds_of(name))
    if name:find "^module%." then values[1], count = arguments.make "layer", math.max(count, 1) end
    -- Writes nowhere else.
    if name:find "%.save$" and type(values[1]) == "string" then values[1] = path end
    local start = os.clock()
    if call(name, f, values, count, wrong) then
      succeeded = succeeded + 1
      worked[name] = true
    end
    assert(os.clock() - start < 5, name .. " took more than 5 seconds")
    if last == "graph_begin" then collectgarbage() end -- ends the capture, in which no random arguments can be made
    if last == "set_default_device" then core.set_default_device "cpu" end
    if last == "set_default_dtype" then core.set_default_dtype "f32" end
  end
  return worked, succeeded, wrong
end

support.each_device(function(device)
  describe("A public function", function()
    it(("survives %d random calls"):format(calls), function()
      local functions = public.functions()
      assert.is_true(#functions > 200)
      local path, tensor_path, idx_path, checkpoint_path = os.tmpname(), os.tmpname(), os.tmpname(), os.tmpname()
      fp8.save(tensor_path, {x = fp8.zeros(2)})
      support.write_file(idx_path, "\0\0\8\1\0\0\0\3abc")
      local layer = fp8.Linear(4, 3, {device = device})
      fp8.checkpoint.save(checkpoint_path, {model = layer, optimizer = fp8.optim.AdamW(layer), extra = {1}})
      for _ = 1, 3 do collectgarbage() end
      local before = core.memory(device).in_use
      core.reset_peak_memory(device)
      local arguments = new_arguments(support.random(1), device)
      arguments.tensor_path, arguments.idx_path, arguments.checkpoint_path = tensor_path, idx_path, checkpoint_path
      local worked, succeeded, wrong = call_all(functions, arguments, path)
      for _, name in ipairs {path, tensor_path, idx_path, checkpoint_path} do os.remove(name) end
      assert.same({}, wrong)
      local count = 0
      for _ in pairs(worked) do count = count + 1 end
      local text = "%d of %d calls succeeded, %d of %d functions at least once"
      assert.is_true(count > 0.9 * #functions, text:format(succeeded, calls, count, #functions))
      assert.is_true(core.memory(device).peak - before < 2 ^ 30)
      arguments = nil -- luacheck: ignore
      for _ = 1, 3 do collectgarbage() end
      assert.is_true(core.memory(device).in_use <= before)
    end)
  end)
end)

--- A copy of `text` with random bytes changed, inserted, removed or repeated.
local function mutated(text, random)
  for _ = 1, random(4) do
    local at, way, length = random(#text + 1), random(7), random(8)
    local head, tail = text:sub(1, at - 1), text:sub(at)
    if way == 1 then
      text = head .. string.char(random(256) - 1) .. tail:sub(2)
    elseif way == 2 then
      text = head .. tail:sub(1 + length)
    elseif way == 3 then
      text = head .. tail:sub(1, length) .. tail
    elseif way == 4 then
      text = head
    elseif way == 5 then
      local digits = {"0", "9", "-1", "99999999999999999999", "1e9", "4294967295", "0.5", "null", "[", "}", '"', "\0"}
      local from, to = text:find("%d+", at)
      if from then text = text:sub(1, from - 1) .. digits[random(#digits)] .. text:sub(to + 1) end
    elseif way == 6 then
      text = head .. ("\255"):rep(length) .. tail:sub(1 + length)
    else
      local other = random(#text + 1)
      text = head .. text:sub(other, other + length) .. tail
    end
  end
  return text
end

describe("A damaged file", function()
  --- Reads many damaged forms of the texts with `read`, which gives a table of tensors.
  local function survive(texts, count, read)
    local random = support.random(1)
    collectgarbage()
    collectgarbage()
    local before, path, refused = core.memory("cpu").in_use, os.tmpname(), 0
    for i = 1, count do
      support.write_file(path, mutated(texts[i % #texts + 1], random))
      local ok, result = pcall(read, path)
      if ok then
        for name, tensor in pairs(result) do
          assert.equal("string", type(name))
          if tensor:numel() <= 65536 then tensor:totable() end
        end
      else
        assert.equal("string", type(result))
        assert.equal(here, result:sub(1, #here))
        refused = refused + 1
      end
    end
    os.remove(path)
    assert.is_true(refused > count / 2)
    for _ = 1, 3 do collectgarbage() end
    assert.is_true(core.memory("cpu").in_use <= before)
  end

  it(("of safetensors is read or refused, %d times"):format(files), function()
    local path = os.tmpname()
    fp8.save(path, {a = fp8.zeros(3, 4), b = fp8.ones(2, {dtype = "i64"}), c = fp8.zeros(0, 3)}, {note = "text"})
    local texts = {support.read_file(support.fixture "dtypes.safetensors"), support.read_file(path)}
    os.remove(path)
    survive(texts, files, function(file)
      local tensors = fp8.load(file, {f64 = "f32"})
      return tensors
    end)
  end)

  it(("of idx data is read or refused, %d times"):format(files / 2), function()
    local zlib = require "zlib"
    local text = "\0\0\8\2\0\0\0\3\0\0\0\4" .. ("x"):rep(12)
    local floats = "\0\0\13\1\0\0\0\2" .. ("\63\128\0\0"):rep(2)
    survive({text, zlib.deflate(9, 31)(text, "finish"), floats}, files / 2, function(file)
      local x = fp8.data.read_idx(file)
      return {x = x}
    end)
  end)
end)
