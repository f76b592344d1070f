--- A file of comma-separated values that several runs write into, one after the other, and that a run which goes on
-- from a checkpoint continues.
local csv = {}
csv.__index = csv

local function fields_of(line)
  local fields = {}
  for field in (line .. ","):gmatch "([^,]*)," do fields[#fields + 1] = field end
  return fields
end

--- Opens a file.
-- @param path    of it, or nil for an object that writes nothing
-- @param columns their names
-- @param keep    whether the lines of a file that is there stay; they must have the same columns
function csv.open(path, columns, keep)
  local self = setmetatable({path = path, header = table.concat(columns, ","), lines = {}}, csv)
  local file = path and keep and io.open(path)
  if file then
    local header = file:read "*l"
    if header and header ~= self.header then
      error(("%s has other columns than this run: %s"):format(path, header:sub(1, 200)), 0)
    end
    -- A line without its end was cut off when its process was killed.
    for line in file:read("*a"):gmatch "([^\n]*)\n" do self.lines[#self.lines + 1] = line end
    file:close()
  end
  return self
end

--- Begins the lines of a run: those of later steps than `step`, from a process that was killed, go.
-- @param run the text of the columns before that of the step
function csv:begin(run, step)
  if not self.path then return end
  local kept, columns = {}, select(2, run:gsub(",", ",")) + 1
  for _, line in ipairs(self.lines) do
    if line:sub(1, #run + 1) ~= run .. "," or (tonumber(fields_of(line)[columns + 1]) or math.huge) <= step then
      kept[#kept + 1] = line
    end
  end
  self.lines, self.run = kept, run
  if self.file then self.file:close() end
  local temporary = self.path .. ".tmp"
  local file = assert(io.open(temporary, "w"))
  file:write(self.header, "\n")
  for _, line in ipairs(kept) do file:write(line, "\n") end
  assert(file:close())
  assert(os.rename(temporary, self.path))
  self.file = assert(io.open(self.path, "a"))
end

--- Adds a line; `values` follow the columns of the run.
function csv:write(values)
  if not self.path then return end
  local line = self.run .. "," .. table.concat(values, ",")
  self.lines[#self.lines + 1] = line
  self.file:write(line, "\n")
end

--- Hands what was written to the system, so that it survives this process.
function csv:flush()
  if self.file then self.file:flush() end
end

return csv
