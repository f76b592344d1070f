-- A training run that is killed over and over, at random moments, goes on each time from a whole checkpoint, and logs
-- the losses of a run that was left alone. FP8_KILLS sets how often: 50 take about half a minute.
local fp8 = require "fp8"
local support = require "spec.support"

local kills = tonumber(os.getenv "FP8_KILLS") or 4
local root = support.path ""

-- The log's lines, up to the last whole one, as lists of fields.
local function read_log(path)
  local rows = {}
  for line in support.read_file(path):gmatch "([^\n]*)\n" do
    local fields = {}
    for field in line:gmatch "[^,]+" do fields[#fields + 1] = field end
    rows[#rows + 1] = fields
  end
  table.remove(rows, 1) -- the names
  return rows
end

describe("A run that is killed", function()
  local directory = support.temporary_directory(setup, teardown)

  -- Lets the example run for some seconds at most. Returns what it printed.
  local function live(seconds, options)
    local command = "examples/gpt.lua --device cpu --text %sREADME.md --layers 1 --width 16 --heads 2 --context 16 " ..
      "--batch 4 --steps 100000 --compare mixed %s"
    local output = directory .. "/output"
    os.execute(("LUA_PATH='%s' LUA_CPATH='%s' timeout -s KILL %.3f luajit %s%s >%s 2>&1"):format(package.path,
      package.cpath, seconds, root, command:format(root, options), output))
    return support.read_file(output)
  end

  -- The files beside the checkpoint.
  local function list_files()
    local names, pipe = {}, io.popen("ls -A " .. directory)
    for name in pipe:lines() do names[name] = true end
    pipe:close()
    return names
  end

  it(("%d times loses no finished checkpoint"):format(kills), function()
    local random, path = support.random(2), directory .. "/run.safetensors"
    local options = ("--checkpoint %s --checkpoint-every 1 --csv %s/run.csv"):format(path, directory)
    local allowed = {["run.safetensors"] = true, ["run.csv"] = true, output = true}
    local last, resumed = 0, 0
    for _ = 1, kills do
      local printed = live(0.1 + 0.5 * random(), options)
      assert.is_falsy(printed:find("gpt: ", 1, true), printed)
      local found = tonumber(printed:match "goes on from step (%d+)")
      if found then
        resumed = resumed + 1
        assert.equal(last, found)
      end
      local files = list_files()
      for name in pairs(files) do
        -- Of a name for the moment between its making and the renaming there is hardly ever one left.
        assert.is_true(allowed[name] or name:find "^%.fp8%-%x+%.tmp$" ~= nil, name)
      end
      if files["run.safetensors"] then
        local tensors, metadata = fp8.load(path)
        assert.is_truthy(tensors["model.tokens.weight"])
        local step = tonumber(metadata.step)
        assert.is_true(step >= last)
        last = step
      end
    end
    assert.is_true(last > 0, ("%d kills, %d runs went on"):format(kills, resumed))

    -- A run of its own, left alone until it is as far.
    local seconds, expected = 1, {}
    while #expected < last and seconds < 100 do
      live(seconds, ("--csv %s/other.csv"):format(directory))
      expected, seconds = read_log(directory .. "/other.csv"), seconds * 2
    end
    local rows = read_log(directory .. "/run.csv")
    assert.is_true(#rows >= last)
    for i = 1, last do
      assert.equal(i, tonumber(rows[i][3]))
      assert.equal(expected[i][4], rows[i][4])
    end
  end)
end)
