--- Pictures of characters.
local Canvas = {}
Canvas.__index = Canvas

--- An empty one of so many rows and columns.
function Canvas.new(rows, columns)
  local self = setmetatable({rows = rows, columns = columns, cells = {}, dots = {}}, Canvas)
  for row = 1, rows do self.cells[row], self.dots[row] = {}, {} end
  return self
end

--- Writes a character into a cell, row 1 at the top.
function Canvas:put(row, column, character)
  if row >= 1 and row <= self.rows and column >= 1 and column <= self.columns then
    self.cells[row][column] = character
  end
end

function Canvas:is_empty(row, column)
  return self.cells[row][column] == nil and self.dots[row][column] == nil
end

-- Bits of the eight dots of a braille character, by row and column in it.
local bits = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}

--- Sets one of the dots, of which a cell has four rows and two columns; both count from 0, at the top left.
function Canvas:dot(y, x)
  local row, column = math.floor(y / 4) + 1, math.floor(x / 2) + 1
  if row < 1 or row > self.rows or column < 1 or column > self.columns then return end
  local own = bits[y % 4 + 1][x % 2 + 1]
  local set = self.dots[row][column] or 0
  if math.floor(set / own) % 2 == 0 then self.dots[row][column] = set + own end
end

-- U+2800 + set, in UTF-8.
local function braille(set) return string.char(0xe2, 0xa0 + math.floor(set / 64), 0x80 + set % 64) end

--- The rows as texts.
function Canvas:lines()
  local lines = {}
  for row = 1, self.rows do
    local line = {}
    for column = 1, self.columns do
      local set = self.dots[row][column]
      line[column] = self.cells[row][column] or set and braille(set) or " "
    end
    lines[row] = table.concat(line)
  end
  return lines
end

return Canvas
