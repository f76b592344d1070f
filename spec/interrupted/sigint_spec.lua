-- Ctrl-C at random moments: what luajit makes of SIGINT is an error raised by a hook. Files are whole then, nothing is
-- left beside them, and a model is what a whole number of steps has made of it. FP8_KILLS sets how often.
local support = require "spec.support"

local kills = tonumber(os.getenv "FP8_KILLS") or 4

-- Trains and saves until it is interrupted, then says what is wrong, or how far it came.
local script = [[
  local fp8 = require "fp8"
  local directory = arg[1]
  local _ = {fp8.nn, fp8.optim, fp8.save, fp8.load, fp8.LinearMixed}

  local function setting()
    fp8.manual_seed(1)
    local model = fp8.nn.Sequential(fp8.LinearMixed(32, 16), fp8.nn.ReLU(), fp8.Linear(16, 4))
    return model, fp8.optim.AdamW({{parameters = model[1]}, {parameters = model[3], lr = 0.01}}), fp8.randn(8, 32)
  end

  local function step(model, optimizer, x)
    fp8.scope(function()
      optimizer:zero_grad()
      model(x):sum():backward()
      optimizer:step()
    end)
  end

  local model, optimizer, x = setting()
  local big, saved = fp8.zeros(300000), 0
  io.open(directory .. "/ready", "w"):close()
  local ok, message = pcall(function()
    while true do
      step(model, optimizer, x)
      fp8.save(directory .. "/file", {x = big:fill_(saved)}, {note = tostring(saved)})
      saved = saved + 1
    end
  end)
  assert(not ok and tostring(message):find "interrupted", message)

  assert((fp8.ones(1, {requires_grad = true}) * 2).requires_grad, "recording is off")
  local lost
  fp8.scope(function() lost = fp8.zeros(1) end)
  assert(not pcall(fp8.add, lost, 1), "a scope is open")
  local steps = optimizer.state[1].steps
  for _, entry in ipairs(optimizer.state) do assert(entry.steps == steps, "part of a step") end
  local other, repeated = setting()
  for _ = 1, steps do step(other, repeated, x) end
  for i, parameter in ipairs(model:parameters()) do
    assert(parameter:detach():eq(other:parameters()[i]:detach()):min():item() == 1, "other values")
  end
  step(model, optimizer, x)

  if io.open(directory .. "/file") then
    local tensors, metadata = fp8.load(directory .. "/file")
    local note = tonumber(metadata.note)
    assert(note == saved or note == saved - 1, "another file")
    assert(tensors.x:min():item() == note and tensors.x:max():item() == note, "part of a file")
  end
  print("whole")
]]

describe("A program that is interrupted", function()
  it(("%d times leaves files and models whole"):format(kills), function()
    local random, path = support.random(5), os.tmpname()
    support.write_file(path, script)
    for _ = 1, kills do
      local directory = os.tmpname()
      local command = [[
        rm '%s'; mkdir '%s'; export LUA_PATH='%s' LUA_CPATH='%s'
        timeout -k 1 60 luajit '%s' '%s' & program=$!
        while [ ! -e '%s/ready' ]; do sleep 0.01; done
        sleep %.3f; LD_PRELOAD= pkill -INT -P $program luajit; wait $program; ls -A '%s'; rm -r '%s']]
      local pipe = io.popen(("(" .. command .. ") 2>&1"):format(directory, directory, package.path, package.cpath, path,
        directory, directory, 0.3 * random(), directory, directory))
      local output = pipe:read "*a"
      pipe:close()
      assert.is_truthy(output:find "^whole\n", output)
      for name in output:gmatch "[^\n]+" do
        assert.is_true(name == "whole" or name == "file" or name == "ready", output)
      end
    end
    os.remove(path)
  end)
end)
