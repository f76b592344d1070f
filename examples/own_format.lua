--- Trains a GPT in formats that fp8 does not have, written as functions in Lua (lib/own_formats.lua), and in the same
-- formats as maps, which fp8's kernels quantize to: what both cost, and that they learn alike. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local language_experiment = require "language_experiment"
local options = require "options"
local own_formats = require "own_formats"
local training = require "training"

local usage = [[
usage: luajit examples/own_format.lua [options]                             (default on the GPU, on the CPU)
  --text FILE      what it learns; gzip is fine (default: the file of Debian's package jargon-text)
  --layers N       transformer blocks (12, 2)
  --width N        features (768, 64)
  --heads N        of attention (12, 2)
  --context N      bytes that it sees (256, 64)
  --batch N        sequences in a step (64, 16)
  --steps N        (100, 100)
  --evaluate-every N   steps between looks at the last tenth of the text, which it does not learn (default: at the end)
Recipes: posit8 and posit8_map, logarithmic and logarithmic_map: the first of each pair by a function.
]]

local sizes = {
  cuda = {layers = 12, width = 768, heads = 12, context = 256, batch = 64, steps = 100, lr = 1e-3},
  cpu = {layers = 2, width = 64, heads = 2, context = 64, batch = 16, steps = 100, lr = 2e-3},
}

-- A recipe that takes one operand everywhere. That one draws random numbers is for stepping.lua to know: such a step is
-- no graph.
local function throughout(operand, rounding)
  return {input = operand, weight = operand, grad_output = operand, weight_grad = "quantized", rounding = rounding}
end

local compared = {"bf16", "posit8_map", "posit8", "logarithmic_map", "logarithmic"}

options.main("own_format", function()
  local settings = training.options("own_format", usage, language_experiment.readers(),
    {compare = compared, layer_scale = false, weight_decay = 0.1}, sizes)
  local work = language_experiment.new("own_format", settings)
  work.recipes = {
    posit8 = throughout {quantize = own_formats.posit8(settings.device)},
    posit8_map = throughout(own_formats.posit8_map()),
    logarithmic = throughout({quantize = own_formats.logarithmic}, "stochastic"),
    logarithmic_map = throughout(own_formats.logarithmic_map()),
  }
  print(("%d layers of width %d, context %d, batch %d, on %s"):format(settings.layers, settings.width, settings.context,
    settings.batch, settings.device))
  if not training.compare(work, settings) then os.exit(1, true) end
end)
