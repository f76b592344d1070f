--- A table of a session's variables, for :who.
local core = require "fp8.core"
local cut = require "fp8.printing.cut"
local shapes = require "fp8.shapes"
local text_of = require "fp8.printing.value"

local longest = 60 -- characters of a value

local units = {"B", "KiB", "MiB", "GiB", "TiB"}

local function bytes_text(bytes)
  local unit = 1
  while bytes >= 1024 and unit < #units do bytes, unit = bytes / 1024, unit + 1 end
  return (unit == 1 and "%d %s" or "%.1f %s"):format(bytes, units[unit])
end

local function tensor_row(name, x)
  if not pcall(core.shape, x) then return {name, "freed", "", "", ""} end
  local bytes = core.numel(x) * core.dtypes[core.dtype(x)].size
  return {name, core.dtype(x), shapes.text(core.shape(x)), core.device(x), bytes_text(bytes)}
end

local function other_row(name, value)
  local text = text_of(value):gsub("%s+", " ")
  return {name, type(value), cut(text, longest)}
end

-- Rows of texts in columns, of which the last one needs no room.
local function columns(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i = 1, #row - 1 do widths[i] = math.max(widths[i] or 0, #row[i]) end
  end
  local lines = {}
  for _, row in ipairs(rows) do
    local line = ""
    for i, text in ipairs(row) do line = line .. text .. (i < #row and (" "):rep(widths[i] - #text + 2) or "") end
    lines[#lines + 1] = line
  end
  return lines
end

--- The lines of the table: tensors with shape, device and bytes, then everything else. A tensor's bytes are those of
-- its elements, which it may share with others.
return function(session)
  local tensors, others = {}, {}
  session:each_variable(function(name, value)
    if core.is_tensor(value) then
      tensors[#tensors + 1] = tensor_row(tostring(name), value)
    else
      others[#others + 1] = other_row(tostring(name), value)
    end
  end)
  local lines = columns(tensors)
  for _, line in ipairs(columns(others)) do lines[#lines + 1] = line end
  return lines
end
