--- Charts by gnuplot, where it is installed: files, a window, a terminal that shows pictures.
local core = require "fp8.core"

local gnuplot = {}

local terminals = {
  svg = "svg size %d,%d dynamic background rgb 'white' font 'sans-serif,13'",
  png = "pngcairo size %d,%d font 'sans-serif,10'",
  pdf = "pdfcairo size %gin,%gin",
}

local panel_width, panel_height = 720, 400 -- points

-- Told apart in grey, too: by dashes and marks.
local line_styles = {
  "lc rgb '#0060a8' dt 1 pt 7", "lc rgb '#d06000' dt 2 pt 5", "lc rgb '#007848' dt 4 pt 9",
  "lc rgb '#a02060' dt 3 pt 11", "lc rgb '#505050' dt 5 pt 13", "lc rgb '#906000' dt 1 pt 6",
}

local bases = {log2 = 2, log10 = 10}

-- Single quotes: gnuplot runs commands that it finds in double ones.
local function quoted(text) return "'" .. tostring(text):gsub("'", "''"):gsub("%c", " ") .. "'" end

-- Numbers of a series as gnuplot's data; what has no place is a gap.
local function write_data(put, name, series)
  put("$%s << EOD\n", name)
  for i, x in ipairs(series.x) do
    local y = series.y[i]
    if x - x == 0 and y - y == 0 then put("%.9g %.9g\n", x, y) else put "\n" end
  end
  put "EOD\n"
end

local function style_of(panel, series, i)
  local line = line_styles[(i - 1) % #line_styles + 1]
  if series.style == "bars" then return "using ($1+0.5):2 with boxes fs solid 0.6 lc rgb '#0060a8'" end
  if series.style == "values" then return "using 1:($2-0.15):(0):(0.3) with vectors nohead lc rgb '#0060a8'" end
  if series.style == "points" then return "with points ps 0.6 " .. line end
  return (#series.x <= 40 and #panel.series > 1 and "with linespoints ps 0.7 lw 1.6 " or "with lines lw 1.6 ") .. line
end

local function write_axes(put, panel)
  for _, axis in ipairs {"x", "y"} do
    local base = bases[panel[axis .. "_scale"]]
    if base then
      put("set logscale %s %d\nset format %s '%d^{%%L}'\n", axis, base, axis, base)
    else
      put("unset logscale %s\nset format %s '%%g'\n", axis, axis)
    end
    local label = panel[axis .. "_label"]
    put("set %slabel %s noenhanced\n", axis, quoted(label or ""))
  end
  put "unset ytics\nset ytics nomirror\nset autoscale\n"
  if panel.names then
    local tics = {}
    for i, name in ipairs(panel.names) do tics[i] = ("%s %d"):format(quoted(name), #panel.names - i + 1) end
    put("set ytics (%s) noenhanced\nset yrange [0.5:%g]\n", table.concat(tics, ", "), #panel.names + 0.5)
  end
end

local function write_panel(put, panel, number)
  for i, series in ipairs(panel.series) do write_data(put, ("p%ds%d"):format(number, i), series) end
  write_axes(put, panel)
  put("set title %s noenhanced\nunset arrow\nunset label\n", quoted(panel.title or ""))
  for _, mark in ipairs(panel.marks or {}) do
    put("set arrow from %.9g, graph 0 to %.9g, graph 1 nohead dt 2 lc rgb '#606060'\n", mark.x, mark.x)
    put("set label %s at %.9g, graph 0.98 rotate by 90 right offset -1.2,0 noenhanced\n", quoted(mark.label), mark.x)
  end
  local plots = {}
  local has_key = #panel.series > 1 and not panel.names
  put(has_key and "set key outside right top noenhanced\n" or "unset key\n")
  for i, series in ipairs(panel.series) do
    local title = has_key and "title " .. quoted(series.label or i) or "notitle"
    plots[i] = ("$p%ds%d %s %s"):format(number, i, style_of(panel, series, i), title)
  end
  put("plot %s\n", table.concat(plots, ", "))
end

local function is_installed() return os.execute "command -v gnuplot >/dev/null 2>&1" == 0 end

--- Runs gnuplot on a chart; an error where there is none, or it refuses.
-- @param terminal what it draws on, in its language
-- @param output   a path, or nil
local function draw(name, chart, terminal, output)
  if not is_installed() then
    core.raise(name .. ": gnuplot is not installed (Debian: apt-get install gnuplot-nox)")
  end
  local script, lines = os.tmpname(), {}
  local function put(format, ...) lines[#lines + 1] = format:format(...) end
  put("set encoding utf8\nset terminal %s\n", terminal)
  if output then put("set output %s\n", quoted(output)) end
  put "set grid lc rgb '#d0d0d0'\nset border 3\nset tics nomirror\n"
  if #chart.panels > 1 then put("set multiplot layout %d,1\n", #chart.panels) end
  for i, panel in ipairs(chart.panels) do write_panel(put, panel, i) end
  if #chart.panels > 1 then put "unset multiplot\n" end
  local file = io.open(script, "w")
  file:write(table.concat(lines))
  file:close()
  local errors = os.tmpname()
  local status = os.execute(("gnuplot %s '%s' 2>'%s'"):format(output and "" or "-persist", script, errors))
  local failed = io.open(errors)
  local message = failed:read "*a"
  failed:close()
  os.remove(script)
  os.remove(errors)
  if status ~= 0 then core.raise(("%s: gnuplot failed: %s"):format(name, message:gsub("%s+", " "):sub(1, 300))) end
end

local function size_of(chart) return panel_width, panel_height * #chart.panels end

--- Writes a chart to a file of this name, which ends in .svg, .png or .pdf.
function gnuplot.save(chart, path)
  if type(path) ~= "string" then core.raise("save: a path is needed, got " .. type(path)) end
  local ending = path:match "%.(%a+)$"
  local terminal = ending and terminals[ending:lower()]
  if not terminal then core.raise("save: the path must end in .svg, .png or .pdf, got " .. path) end
  local width, height = size_of(chart)
  if ending:lower() == "pdf" then width, height = width / 100, height / 100 end
  draw("save", chart, terminal:format(width, height), path)
end

local screens = {window = "x11 size %d,%d", sixel = "sixelgd size %d,%d truecolor"}

--- Shows a chart in a window, or in a terminal that shows pictures as sixels.
function gnuplot.show(chart, where)
  where = where or "window"
  if not screens[where] then core.raise("show: window or sixel is needed, got " .. tostring(where)) end
  draw("show", chart, screens[where]:format(size_of(chart)))
end

return gnuplot
