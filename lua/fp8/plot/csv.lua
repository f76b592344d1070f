--- Files of comma-separated values, as the examples and fp8.watch write them.
local core = require "fp8.core"

local csv = {}

local function cells_of(line)
  local cells = {}
  for cell in (line .. ","):gmatch "([^,]*)," do cells[#cells + 1] = (cell:gsub('^"(.*)"$', "%1")) end
  return cells
end

--- The names of the columns, and the rows as lists of texts.
function csv.read(name, path)
  local file, reason = io.open(path)
  if not file then core.raise(("%s: %s"):format(name, reason)) end
  local header, rows = file:read "*l", {}
  for line in file:lines() do
    if line ~= "" then rows[#rows + 1] = cells_of((line:gsub("\r$", ""))) end
  end
  file:close()
  return cells_of(((header or ""):gsub("\r$", ""))), rows
end

--- The position of a column; an error that lists those that there are.
function csv.column(name, columns, wanted, path)
  for i, column in ipairs(columns) do
    if column == wanted then return i end
  end
  core.raise(("%s: %s has no column %s, only %s"):format(name, path, tostring(wanted), table.concat(columns, ", ")))
end

return csv
