--- A file of comma-separated values that several runs write into, one after the other, and that a run which goes on
-- from a checkpoint continues.
local atomic_file = require "fp8.files.atomic_file"
local paths = require "fp8.files.paths"

local csv = {}
csv.__index = csv

local function fields_of(line)
  local fields = {}
  for field in (line .. ","):gmatch "([^,]*)," do fields[#fields + 1] = field end
  return fields
end

local function open(path, mode)
  local file, reason = io.open(path, mode)
  return file or error(reason, 0)
end

-- The lines of an earlier process.
local function read_lines(path, header)
  local file = open(path, "r")
  local found, lines = file:read "*l", {}
  if found and found ~= header then
    error(("%s has other columns than this run: %s"):format(path, found:sub(1, 200)), 0)
  end
  -- A line without its end was cut off when its process was killed.
  for line in file:read("*a"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  file:close()
  return lines
end

--- Opens a file. Into what is no regular file, a pipe or a device, lines go as they come.
-- @param path    of it, or nil for an object that writes nothing
-- @param columns their names
-- @param keep    whether the lines of a regular file that is there stay; they must have the same columns
function csv.open(path, columns, keep)
  local is_regular = path and paths.is_regular(path)
  local self = setmetatable({path = path, is_stream = is_regular == false, header = table.concat(columns, ",")}, csv)
  self.lines = keep and is_regular and read_lines(path, self.header) or {}
  return self
end

--- Begins the lines of a run: those of later steps than `step`, from a process that was killed, go.
-- @param run the text of the columns before that of the step
function csv:begin(run, step)
  if not self.path then return end
  self.run = run
  if self.is_stream then
    if self.file then return end
    self.file = open(self.path, "a")
    self.file:write(self.header, "\n")
    return
  end
  local kept, columns = {}, select(2, run:gsub(",", ",")) + 1
  for _, line in ipairs(self.lines) do
    if line:sub(1, #run + 1) ~= run .. "," or (tonumber(fields_of(line)[columns + 1]) or math.huge) <= step then
      kept[#kept + 1] = line
    end
  end
  self.lines = kept
  if self.file then self.file:close() end
  local text = self.header .. "\n" .. table.concat(kept, "\n") .. (#kept > 0 and "\n" or "")
  local ok, failure = pcall(atomic_file.write, self.path, function(put) put(text, #text) end)
  if not ok then error(("%s: %s"):format(self.path, type(failure) == "table" and failure.message or failure), 0) end
  self.file = open(self.path, "a")
end

--- Adds a line; `values` follow the columns of the run.
function csv:write(values)
  if not self.path then return end
  local line = self.run .. "," .. table.concat(values, ",")
  if not self.is_stream then self.lines[#self.lines + 1] = line end
  self.file:write(line, "\n")
end

--- Hands what was written to the system, so that it survives this process.
function csv:flush()
  if self.file then self.file:flush() end
end

return csv
