--- fp8.plot: pictures. Each function returns a chart, which prints as text in any terminal; chart:save "loss.svg"
-- (.png, .pdf) and chart:show() have gnuplot draw it, where that is installed.
--
--   print(fp8.plot(y))
--   fp8.plot.map({"e4m3", fp8.create_dynamic_map()}):save "formats.svg"
local Chart = require "fp8.plot.chart"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local csv = require "fp8.plot.csv"
local formats = require "fp8.plot.formats"
local numbers = require "fp8.plot.numbers"

local raise = core.raise

local plot = {}

local chart_options = {title = "string", x_label = "string", y_label = "string", log = "string", points = "boolean"}

local axes_of = {x = {"x"}, y = {"y"}, xy = {"x", "y"}}

-- A panel with these options.
local function panel_of(name, options, series)
  options = check_options(name, options, chart_options)
  local panel = {title = options.title, x_label = options.x_label, y_label = options.y_label, series = series}
  if options.log and not axes_of[options.log] then
    raise(("%s: option log must be x, y or xy, got %s"):format(name, options.log))
  end
  for _, axis in ipairs(axes_of[options.log] or {}) do panel[axis .. "_scale"] = "log10" end
  for _, one in ipairs(series) do one.style = options.points and "points" or "lines" end
  return panel
end

local function new_series(name, label, x, y)
  local y_values = numbers.list(name, y)
  local x_values = x ~= nil and numbers.list(name, x) or numbers.positions(#y_values)
  if #x_values ~= #y_values then raise(("%s: %d values of x and %d of y"):format(name, #x_values, #y_values)) end
  return {label = label, x = x_values, y = y_values}
end

local function is_data(value) return core.is_tensor(value) or type(value) == "table" and type(value[1]) == "number" end

--- fp8.plot(y [, options]) or fp8.plot(x, y [, options]): a line through the points. x and y are tensors or lists of
-- numbers; x is 1, 2, … if left out. What is not finite is a gap.
--   tostring(fp8.plot({1, 4, 9}, {title = "squares"})):match "squares" --> "squares"
-- @param options
--   title, x_label, y_label  texts
--   log      "x", "y" or "xy": these axes are logarithmic
--   points   true: points without a line
local function plot_one(x, y, options)
  if not is_data(y) then x, y, options = nil, x, y end
  return Chart.new {panel_of("plot", options, {new_series("plot", nil, x, y)})}
end

--- fp8.plot.lines(series [, options]): several lines in one picture, each with a name: {mixed = y, bf16 = y}, or
-- {mixed = {x, y}} for one with x values of its own. The options are those of fp8.plot.
--   tostring(fp8.plot.lines {a = {1, 2}, b = {2, 1}}):match "%* a" --> "* a"
function plot.lines(series, options)
  if type(series) ~= "table" then raise("plot.lines: a table of series is needed, got " .. type(series)) end
  local list = {}
  numbers.each_named(series, function(label, data)
    local pair = type(data) == "table" and is_data(data[1]) and is_data(data[2])
    list[#list + 1] = new_series("plot.lines", label, pair and data[1] or nil, pair and data[2] or data)
  end)
  if #list == 0 then raise "plot.lines: at least one series is needed" end
  return Chart.new {panel_of("plot.lines", options, list)}
end

local function row_of_values(format, row, wanted)
  local series = {style = "values", label = format.name, x = {}, y = {}}
  for _, value in ipairs(format.values) do
    if wanted(value) then
      local count = #series.x + 1
      series.x[count], series.y[count] = value, row
    end
  end
  return series
end

--- fp8.plot.map(formats): the values of number formats, divided by the largest, on a linear axis, and those above 0 on
-- a logarithmic one. In text · : | █ are one, two, three and more values at one place.
--   tostring(fp8.plot.map "e4m3"):match "e4m3" --> "e4m3"
-- @param formats maps and names of fp8.formats: one, a list, or a table with names of your own
function plot.map(given)
  local list, names, linear, logarithmic = formats.list("plot.map", given), {}, {}, {}
  for i, format in ipairs(list) do
    names[i] = format.name
    linear[i] = row_of_values(format, #list - i + 1, function() return true end)
    logarithmic[i] = row_of_values(format, #list - i + 1, function(value) return value > 0 end)
  end
  return Chart.new {
    {title = "values / largest", series = linear, names = names},
    {title = "values / largest, above 0", x_scale = "log2", series = logarithmic, names = names},
  }
end

local most_elements = 65536 -- of a tensor that are looked at

-- The magnitudes of the elements, or of that many of them at equal distances, divided by the largest.
local function magnitudes(name, x)
  if not core.is_tensor(x) then raise(("%s: a tensor is needed, got %s"):format(name, type(x))) end
  local list = numbers.list(name, core.abs(core.to(x, {dtype = "f32"})))
  local largest, sample = 0, {}
  for _, value in ipairs(list) do
    if value - value == 0 then largest = math.max(largest, value) end
  end
  for i = 1, #list, math.max(1, math.ceil(#list / most_elements)) do
    if list[i] - list[i] == 0 then sample[#sample + 1] = largest > 0 and list[i] / largest or 0 end
  end
  return sample, largest
end

local bins_per_octave = 2

-- The root of the mean square of the relative errors of magnitudes, by half octaves.
local function error_series(format, list)
  local sums, counts, bins = {}, {}, {}
  for _, value in ipairs(list) do
    if value > 0 then
      local bin = math.floor(bins_per_octave * math.log(value) / math.log(2))
      if not counts[bin] then bins[#bins + 1], sums[bin], counts[bin] = bin, 0, 0 end
      local difference = (formats.nearest(format, value) - value) / value
      sums[bin], counts[bin] = sums[bin] + difference ^ 2, counts[bin] + 1
    end
  end
  table.sort(bins)
  local series = {label = format.name, style = "lines", x = {}, y = {}}
  for i, bin in ipairs(bins) do
    series.x[i], series.y[i] = 2 ^ ((bin + 0.5) / bins_per_octave), math.sqrt(sums[bin] / counts[bin])
  end
  return series
end

--- fp8.plot.error(x, formats): what quantizing with one scale for the whole tensor does to its elements: the relative
-- error (root of the mean square) by magnitude, in half octaves. At most 65,536 elements are looked at.
--   tostring(fp8.plot.error(fp8.randn(1000), {"e4m3", "e5m2"})):match "%* e4m3" --> "* e4m3"
-- @param x a tensor
-- @param formats as for fp8.plot.map
function plot.error(x, given)
  local list, series = magnitudes("plot.error", x), {}
  for i, format in ipairs(formats.list("plot.error", given)) do series[i] = error_series(format, list) end
  return Chart.new {{
    title = "relative error by magnitude", x_label = "|x| / absmax", x_scale = "log2", y_scale = "log10",
    series = series,
  }}
end

local histogram_options = {format = true, title = "string"}

--- fp8.plot.histogram(x [, {format =, title =}]): how many elements have which exponent: the bar at -3 is for
-- magnitudes from 2^-3 up to below 2^-2. At most 65,536 elements, at equal distances, are looked at; what is not finite
-- is left out.
--   tostring(fp8.plot.histogram(fp8.ones(3))):match "3 elements" --> "3 elements"
-- @param options
--   format   a map or the name of one of fp8.formats: the range of its values is marked, with one scale for the whole
--            tensor
--   title    instead of the counts
function plot.histogram(x, options)
  options = check_options("plot.histogram", options, histogram_options)
  local list, largest = magnitudes("plot.histogram", x)
  local counts, first, last, zeros = {}, math.huge, -math.huge, 0
  for _, value in ipairs(list) do
    if value == 0 then
      zeros = zeros + 1
    else
      local _, exponent = math.frexp(value * largest)
      exponent = exponent - 1
      counts[exponent] = (counts[exponent] or 0) + 1
      first, last = math.min(first, exponent), math.max(last, exponent)
    end
  end
  local series = {style = "bars", x = {}, y = {}}
  for exponent = first, last do
    series.x[#series.x + 1], series.y[#series.y + 1] = exponent, counts[exponent] or 0
  end
  local marks
  if options.format ~= nil and largest > 0 then
    local format = formats.read("plot.histogram", options.format)
    local function place(value) return math.log(value * largest) / math.log(2) end
    marks = {
      {x = place(formats.smallest(format)), label = ("smallest of %s"):format(format.name)},
      {x = place(1), label = "largest"},
    }
  end
  local title = options.title or ("%d elements, %d zeros, absmax %.4g"):format(#list, zeros, largest)
  return Chart.new {{title = title, x_label = "exponent", series = {series}, marks = marks}}
end

local step_columns = {step = true, steps = true, iteration = true, epoch = true}

local loss_options = {column = "string", title = "string", log = "string"}

-- The lines of a file, one for each combination of what stands in front of the step.
local function add_losses(list, path, wanted)
  local columns, rows = csv.read("plot.loss", path)
  local step
  for i, column in ipairs(columns) do step = step or step_columns[column] and i end
  step = step or csv.column("plot.loss", columns, "step", path)
  local value, by_run = csv.column("plot.loss", columns, wanted, path), {}
  for _, row in ipairs(rows) do
    local run = table.concat(row, " ", 1, step - 1)
    local series = by_run[run]
    if not series then
      series = {label = run ~= "" and run or path, x = {}, y = {}, style = "lines"}
      by_run[run], list[#list + 1] = series, series
    end
    local x, y = tonumber(row[step]), tonumber(row[value])
    if x and y then series.x[#series.x + 1], series.y[#series.y + 1] = x, y end
  end
  return columns[step]
end

--- fp8.plot.loss(path… [, options]): the losses in files of comma-separated values, as the examples write them with
-- --csv: a line for each run, which is what stands in the columns before `step` (or `epoch`).
--   fp8.plot.loss("mixed.csv", "bf16.csv", {log = "y"}) -- prints a picture
-- @param options
--   column   the one to draw ("loss")
--   log      "x", "y" or "xy"
--   title    of the picture
function plot.loss(...)
  local paths = {...}
  local options = type(paths[#paths]) == "table" and table.remove(paths) or nil
  options = check_options("plot.loss", options, loss_options)
  local wanted, list, step = options.column or "loss", {}, nil
  for _, path in ipairs(paths) do
    if type(path) ~= "string" then raise("plot.loss: paths are needed, got " .. type(path)) end
    step = add_losses(list, path, wanted)
  end
  if #list == 0 then raise "plot.loss: there are no losses in these files" end
  local labels = {title = options.title, log = options.log, x_label = step, y_label = wanted}
  return Chart.new {panel_of("plot.loss", labels, list)}
end

local watched = {
  {field = "snr", title = "signal-to-noise ratio, dB"},
  {field = "underflow", title = "share of elements that underflow"},
}

--- fp8.plot.watch(watcher [, {tensor = "input"}]): what fp8.watch has recorded over the steps, a line a layer: the
-- signal-to-noise ratio and the share of elements that underflow.
--   fp8.plot.watch(watcher, {tensor = "grad_output"}) -- prints a picture
-- @param options
--   tensor   "input" (if left out), "weight" or "grad_output"
function plot.watch(watcher, options)
  options = check_options("plot.watch", options, {tensor = "string"})
  if type(watcher) ~= "table" or type(watcher.rows) ~= "function" then
    raise("plot.watch: a watcher is needed, got " .. type(watcher))
  end
  local tensor, panels = options.tensor or "input", {}
  for i, quantity in ipairs(watched) do
    local by_layer, series = {}, {}
    for _, row in ipairs(watcher:rows()) do
      if row.tensor == tensor and row.format then
        local line = by_layer[row.layer]
        if not line then
          line = {label = row.layer, x = {}, y = {}, style = "lines"}
          by_layer[row.layer], series[#series + 1] = line, line
        end
        line.x[#line.x + 1], line.y[#line.y + 1] = row.step, row[quantity.field]
      end
    end
    if #series == 0 then raise(("plot.watch: nothing is recorded of any quantized %s"):format(tensor)) end
    panels[i] = {title = ("%s: %s"):format(tensor, quantity.title), x_label = "step", series = series}
  end
  return Chart.new(panels)
end

return setmetatable(plot, {__call = function(_, ...) return plot_one(...) end})
