--- Draws the pictures of the README, as SVG files in examples/pictures. Needs gnuplot.
local fp8 = require "fp8"
local script = arg[0]

local folder = (script:match "^(.*/)" or "") .. "pictures/"

fp8.manual_seed(1)
local formats = {
  e4m3 = "e4m3", e5m2 = "e5m2", dynamic = fp8.create_dynamic_map(), linear = fp8.create_linear_map(),
}

fp8.plot.map(formats):save(folder .. "formats.svg")

-- Numbers whose magnitudes are spread over many octaves, as gradients are.
local x = fp8.randn(60000) * fp8.randn(60000):mul(2):exp()

fp8.plot.error(x, formats):save(folder .. "errors.svg")
fp8.plot.histogram(x, {format = "e4m3"}):save(folder .. "exponents.svg")
