--- The model that the specs of fp8.watch train, and its data.
local fp8 = require "fp8"

--- build(options of the first layer, or nil) -> model; batch(i) -> inputs, labels
return function(device)
  local on = {device = device}

  local function build(options)
    fp8.manual_seed(11)
    return fp8.nn.Sequential(
      fp8.LinearMixed(48, 64, options or on), fp8.nn.GELU(), fp8.LinearGlobal(64, 32, {device = device, native = true}),
      fp8.nn.ReLU(), fp8.Linear(32, 10, on))
  end

  local function batch(i)
    fp8.manual_seed(100 + i)
    return fp8.randn(40, 48, on), fp8.randint(0, 10, {40}, on)
  end

  return build, batch
end
