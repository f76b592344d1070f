--- tostring(tensor): a line with shape, dtype and device, then the values in aligned columns, or an excerpt of them.
local core = require "fp8.core"
local later = require "fp8.later"
local number_text = require "fp8.number_text"
local options = require "fp8.printing.options"
local shapes = require "fp8.shapes"

local dtypes = core.dtypes

local ellipsis = "…"

-- Positions shown at either end of a shortened dimension.
local function edge_length(rank, dimension)
  return (rank <= 3 or dimension > rank - 2) and options.edge or 1
end

-- The first and last positions of every long dimension; only these leave the device. Returns the excerpt and, by
-- dimension, the position after which something was left out.
local function excerpt(x)
  local cuts, rank = {}, core.rank(x)
  if core.numel(x) <= options.threshold then return x, cuts end
  for dimension = 1, rank do
    local size, edge = core.size(x, dimension), edge_length(rank, dimension)
    if size > 2 * edge + 1 then
      x = core.cat({core.narrow(x, dimension, 1, edge), core.narrow(x, dimension, size - edge + 1, edge)}, dimension)
      cuts[dimension] = edge
    end
  end
  return x, cuts
end

-- Calls visit(value) for every number in nested tables.
local function each_number(values, visit)
  if type(values) ~= "table" then return visit(values) end
  for _, value in ipairs(values) do each_number(value, visit) end
end

-- The format that shows all of these numbers well. Integers are shown in full, and so is float8: 14 digits hold the
-- longest of its numbers.
local function number_format(values, kind)
  if kind == "integer" then return "%.0f" end
  if options.scientific then return ("%%.%de"):format(options.precision or 4) end
  if kind == "float8" and not options.precision then return "%.14g" end
  local whole, largest, smallest = true, 0, math.huge
  each_number(values, function(value)
    local magnitude = math.abs(value)
    if value ~= value or magnitude == math.huge then return end
    whole = whole and value == math.floor(value)
    largest = math.max(largest, magnitude)
    if magnitude > 0 then smallest = math.min(smallest, magnitude) end
  end)
  if whole and largest < 1e15 then return "%.0f" end
  local precision = options.precision or 4
  local exponents = options.scientific == nil and (largest >= 1e5 or smallest < 10 ^ -math.max(precision, 1))
  return ("%%.%d%s"):format(precision, exponents and "e" or "f")
end

-- Large integers are int64_t, whose text ends in LL.
local function text_of(format, value)
  return type(value) == "number" and number_text(format, value) or tostring(value):match "^-?%d+"
end

-- The elements of a tensor, nested, and the format of the numbers.
local function shown_values(x)
  local values = core.totable(x)
  return values, number_format(values, dtypes[core.dtype(x)].kind)
end

-- One row of numbers: right-aligned, continued on further lines where it is too long. `page` holds the lines so far,
-- the tensor's shape, the cuts of the excerpt, and format and width of a number.
local function append_row(page, row)
  local line, rank = " ", #page.shape
  local function append(text, length)
    if #line + page.width + 1 > page.line_width then
      page[#page + 1] = line
      line = "   "
    end
    line = line .. (" "):rep(page.width + 1 - length) .. text
  end
  for i, value in ipairs(row) do
    local text = text_of(page.format, value)
    append(text, #text)
    if i == page.cuts[rank] then append(ellipsis, 1) end
  end
  page[#page + 1] = line
end

-- Everything from `dimension` on; `place` is the list of positions so far, which heads each matrix.
local function append_values(page, values, dimension, place)
  local rank, size, cut = #page.shape, page.shape[dimension], page.cuts[dimension]
  if dimension == rank then return append_row(page, values) end
  if dimension == rank - 1 and rank > 2 then page[#page + 1] = ("(%s, :, :)"):format(table.concat(place, ", ")) end
  for i, value in ipairs(values) do
    place[dimension] = cut and i > cut and size - #values + i or i
    append_values(page, value, dimension + 1, place)
    if i == cut then page[#page + 1] = "  " .. ellipsis end
  end
  place[dimension] = nil
end

--- The text of a tensor.
return function(x)
  local alive, shape = pcall(core.shape, x)
  if not alive then return "tensor that was freed" end
  local rank = #shape
  local title = ("tensor of shape %s, %s on %s"):format(shapes.text(shape), core.dtype(x), core.device(x))
  if core.requires_grad(x) then title = title .. ", requires grad" end
  if core.numel(x) == 0 then return title end
  if rank == 0 then
    local value, format = shown_values(x)
    return title .. ": " .. text_of(format, value)
  end
  local part, cuts = excerpt(x)
  local values, format = shown_values(part)
  local width = 0
  each_number(values, function(value) width = math.max(width, #text_of(format, value)) end)
  local page = {title, shape = shape, cuts = cuts, format = format, width = width,
    line_width = options.line_width()}
  local maps = rank == 1 and later "fp8.printing.map"
  if maps and maps.is_map(x) then page[2] = maps.summary(x) end
  append_values(page, values, 1, {})
  return table.concat(page, "\n")
end
