--- Charts as text, for any terminal.
local Canvas = require "fp8.plot.canvas"
local scale = require "fp8.plot.scale"

local default_height = 14 -- rows
local least_width = 20    -- columns of the picture itself

local markers = {"*", "o", "+", "x", "#", "@", "%", "&"}
local bars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}
local densities = {"·", ":", "|", "█"} -- of 1, 2, 3 and more values in one cell

local function marker_of(i) return markers[(i - 1) % #markers + 1] end

local function rounded(number) return math.floor(number + 0.5) end

-- Where series are drawn: the canvas, and how places become cells.
local function new_frame(panel, width, height, ranges)
  local frame = {canvas = Canvas.new(height, width), width = width, height = height}
  -- 0 … 1, from left to right and from the bottom to the top; nil where there is no place.
  function frame.x(value)
    local place = scale.place(panel.x_scale, value)
    return place and (place - ranges.left) / (ranges.right - ranges.left)
  end
  function frame.y(value)
    local place = scale.place(panel.y_scale, value)
    return place and (place - ranges.bottom) / (ranges.top - ranges.bottom)
  end
  return frame
end

-- Calls visit(x, y) for the points of the straight line between two points, in steps of one.
local function each_point(from_x, from_y, to_x, to_y, visit)
  local steps = math.max(math.abs(to_x - from_x), math.abs(to_y - from_y), 1)
  for i = 0, steps do
    local share = i / steps
    visit(rounded(from_x + (to_x - from_x) * share), rounded(from_y + (to_y - from_y) * share))
  end
end

-- A line, or points alone, on a grid of so many rows and columns; `set` sets a point of it, counted from 0 at the top.
local function draw_line(frame, series, rows, columns, set)
  local last_x, last_y
  for i, value in ipairs(series.x) do
    local x, y = frame.x(value), frame.y(series.y[i])
    if x and y then
      x, y = rounded(x * (columns - 1)), rounded((1 - y) * (rows - 1))
      if last_x and series.style ~= "points" then each_point(last_x, last_y, x, y, set) else set(x, y) end
    else
      x, y = nil, nil -- a gap
    end
    last_x, last_y = x, y
  end
end

local function draw_dots(frame, series)
  draw_line(frame, series, 4 * frame.height, 2 * frame.width, function(x, y) frame.canvas:dot(y, x) end)
end

local function draw_markers(frame, series, marker)
  draw_line(frame, series, frame.height, frame.width, function(x, y) frame.canvas:put(y + 1, x + 1, marker) end)
end

local function draw_bars(frame, series)
  for i, value in ipairs(series.x) do
    local x, y = frame.x(value), frame.y(series.y[i])
    if x and y then
      local first, last = rounded(x * (frame.width - 1)), rounded((frame.x(value + 1) or x) * (frame.width - 1)) - 1
      local eighths = rounded(y * frame.height * 8)
      if series.y[i] > 0 then eighths = math.max(eighths, 1) end
      for column = first, math.max(first, last) do
        for row = 1, math.ceil(eighths / 8) do
          frame.canvas:put(frame.height - row + 1, column + 1, bars[math.min(8, eighths - 8 * (row - 1))])
        end
      end
    end
  end
end

-- How many of the values are in each cell of the row that the series has to itself.
local function draw_densities(frame, series)
  local counts, rows = {}, {}
  for i, value in ipairs(series.x) do
    local x, y = frame.x(value), frame.y(series.y[i])
    if x and y then
      local column, row = rounded(x * (frame.width - 1)) + 1, rounded((1 - y) * (frame.height - 1)) + 1
      counts[column], rows[column] = (counts[column] or 0) + 1, row
    end
  end
  for column, count in pairs(counts) do
    frame.canvas:put(rows[column], column, densities[math.min(count, #densities)])
  end
end

local function draw_marks(frame, panel)
  for _, mark in ipairs(panel.marks or {}) do
    local x = frame.x(mark.x)
    local column = x and x >= 0 and x <= 1 and rounded(x * (frame.width - 1)) + 1
    for row = 1, column and frame.height or 0 do
      if frame.canvas:is_empty(row, column) then frame.canvas:put(row, column, "┊") end
    end
  end
end

local function draw_series(frame, panel)
  local several = #panel.series > 1
  for i, series in ipairs(panel.series) do
    if series.style == "bars" then
      draw_bars(frame, series)
    elseif series.style == "values" then
      draw_densities(frame, series)
    elseif several then
      draw_markers(frame, series, marker_of(i))
    else
      draw_dots(frame, series)
    end
  end
end

local function lists_of(panel, field)
  local lists = {}
  for i, series in ipairs(panel.series) do lists[i] = series[field] end
  return lists
end

local function ranges_of(panel)
  local ranges = {}
  local x_lists = lists_of(panel, "x")
  for _, mark in ipairs(panel.marks or {}) do x_lists[#x_lists + 1] = {mark.x} end
  ranges.left, ranges.right = scale.range(panel.x_scale, x_lists)
  ranges.bottom, ranges.top = scale.range(panel.y_scale, lists_of(panel, "y"))
  if panel.names then ranges.bottom, ranges.top = 1, math.max(#panel.names, 2) end
  for _, series in ipairs(panel.series) do
    if series.style == "bars" then ranges.bottom, ranges.right = 0, ranges.right + 1 end
  end
  return ranges
end

-- By row, what is written at its left.
local function row_labels(panel, ranges, height)
  local labels = {}
  local function set(place, text)
    labels[rounded((ranges.top - place) / (ranges.top - ranges.bottom) * (height - 1)) + 1] = text
  end
  if panel.names then
    for i, name in ipairs(panel.names) do set(#panel.names - i + 1, name) end
  else
    for _, tick in ipairs(scale.ticks(panel.y_scale, ranges.bottom, ranges.top, height / 3)) do
      set(tick.place, tick.text)
    end
  end
  return labels
end

-- The number of characters of UTF-8.
local function length(text) return select(2, text:gsub("[^\128-\191]", "")) end

local function bottom_lines(panel, ranges, width, margin)
  local axis, labels, free = {}, "", 0
  for column = 1, width do axis[column] = "─" end
  for _, tick in ipairs(scale.ticks(panel.x_scale, ranges.left, ranges.right, width / 10)) do
    local column = rounded((tick.place - ranges.left) / (ranges.right - ranges.left) * (width - 1)) + 1
    local first = math.min(math.max(column - math.floor(#tick.text / 2), 1), width - #tick.text + 1)
    if axis[column] and first >= free then
      axis[column] = "┴"
      labels = labels .. (" "):rep(first - 1 - #labels) .. tick.text
      free = first + #tick.text + 1
    end
  end
  local space = (" "):rep(margin)
  return space .. " └" .. table.concat(axis), space .. "  " .. labels
end

local function legend(panel)
  local parts = {}
  if #panel.series > 1 and not panel.names then
    for i, series in ipairs(panel.series) do parts[i] = ("%s %s"):format(marker_of(i), series.label or i) end
  end
  for _, mark in ipairs(panel.marks or {}) do parts[#parts + 1] = ("┊ %s"):format(mark.label) end
  return #parts > 0 and table.concat(parts, "   ") or nil
end

local function centred(text, margin, width)
  return (" "):rep(margin + 2 + math.max(0, math.floor((width - length(text)) / 2))) .. text
end

--- The text of one panel of a chart (chart.lua), in lines of at most `width` characters.
return function(panel, width)
  local height = panel.names and math.max(2 * #panel.names - 1, 2) or default_height
  local ranges = ranges_of(panel)
  local labels, margin = row_labels(panel, ranges, height), 0
  for _, text in pairs(labels) do margin = math.max(margin, length(text)) end
  local columns = math.max(least_width, width - margin - 3)
  local frame = new_frame(panel, columns, height, ranges)
  draw_series(frame, panel)
  draw_marks(frame, panel)
  local lines = {}
  if panel.title then lines[1] = centred(panel.title, margin, columns) end
  if panel.y_label then lines[#lines + 1] = panel.y_label end
  for row, line in ipairs(frame.canvas:lines()) do
    local label = labels[row] or ""
    lines[#lines + 1] = (" "):rep(margin - length(label)) .. label .. (labels[row] and " ┤" or " │") .. line
  end
  for _, line in ipairs {bottom_lines(panel, ranges, columns, margin)} do lines[#lines + 1] = line end
  if panel.x_label then lines[#lines + 1] = centred(panel.x_label, margin, columns) end
  lines[#lines + 1] = legend(panel)
  return (table.concat(lines, "\n"):gsub(" +%f[\n%z]", ""))
end
