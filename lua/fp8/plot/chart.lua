--- Charts: what the functions of fp8.plot return. tostring draws one as text; chart:save(path) and chart:show(where)
-- have gnuplot draw it.
--
-- A chart has `panels`, one below the other, each a table:
--
--   title, x_label, y_label   texts, or nil
--   x_scale, y_scale          "linear", "log2" or "log10"
--   series                    a list of {label =, x = numbers, y = numbers, style = "lines", "points", "bars", whose
--                             width is 1, or "values", which are marks in a row}
--   marks                     vertical lines, {x =, label =}, or nil
--   names                     of rows, from the top; rows count from 1 at the bottom
local gnuplot = require "fp8.plot.gnuplot"
local options = require "fp8.printing.options"
local draw = require "fp8.plot.text"

local Chart = {}
Chart.__index = Chart

--- A chart of these panels, whose scales are linear where they say nothing.
function Chart.new(panels)
  for _, panel in ipairs(panels) do
    panel.x_scale, panel.y_scale = panel.x_scale or "linear", panel.y_scale or "linear"
  end
  return setmetatable({panels = panels}, Chart)
end

function Chart:__tostring()
  local texts = {}
  for i, panel in ipairs(self.panels) do texts[i] = draw(panel, options.line_width()) end
  return table.concat(texts, "\n\n")
end

--- chart:save(path): a picture in a file that ends in .svg, .png or .pdf, by gnuplot. Returns the chart.
function Chart:save(path)
  gnuplot.save(self, path)
  return self
end

--- chart:show(where): the picture in a "window" (if left out) or, in a terminal that can show pictures, as "sixel", by
-- gnuplot. Returns the chart.
function Chart:show(where)
  gnuplot.show(self, where)
  return self
end

return Chart
