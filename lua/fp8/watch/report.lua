--- What a watcher (init.lua) has recorded, as text: methods of watchers.
local core = require "fp8.core"
local number_text = require "fp8.number_text"
local paths = require "fp8.files.paths"
local comparison = require "fp8.watch.compare"
local ranks = require "fp8.watch.ranks"

local raise = core.raise

local report = {}

-- Worst first: what is not finite; what loses most elements, in whole percents; what has the most noise; what is not
-- quantized. Equals in the order of computation.
local function badness(row)
  if row.nonfinite > 0 or row.snr ~= row.snr then return math.huge, 0 end
  if not row.format then return -1, 0 end
  return math.floor((row.underflow + row.saturated) * 100), -row.snr
end

local function is_worse(a, b)
  local loss_a, noise_a = badness(a.row)
  local loss_b, noise_b = badness(b.row)
  if loss_a ~= loss_b then return loss_a > loss_b end
  if noise_a ~= noise_b then return noise_a > noise_b end
  return a.record.order < b.record.order
end

local headings = {"absmax", "rms", "snr", "underflow", "saturated", "relative_error", "nonfinite"}
local headings_of_blocks = {
  "absmax", "snr", "underflow", "saturated", "nonfinite", "blocks", "dominated", "exponents",
}
local of_quantization = {
  snr = true, underflow = true, saturated = true, relative_error = true, blocks = true, dominated = true,
  exponents = true, spread = true,
}

-- The table of the last recorded step, its worst `count` rows.
local function last_table(self, count)
  local list = {}
  self:each_row(function(row, record) list[#list + 1] = {row = row, record = record} end, true)
  if #list == 0 then return "nothing recorded yet" end
  table.sort(list, is_worse)
  local rows, shown = {{"layer", "tensor", "format", "scale"}}, self.blocks and headings_of_blocks or headings
  for i, name in ipairs(shown) do rows[1][i + 4] = comparison.columns[name][1] end
  for i = 1, math.min(count, #list) do
    local row = list[i].row
    local cells = {row.layer, row.tensor, row.format or "-", row.scale or "-"}
    for k, name in ipairs(shown) do
      cells[k + 4] = (row.format or not of_quantization[name]) and comparison.columns[name][2](row) or "-"
    end
    rows[i + 1] = cells
  end
  return ("step %d, worst first:\n%s"):format(list[1].row.step, table.concat(comparison.align(rows, 4), "\n"))
end

--- tostring(watcher): the table of the last recorded step, worst tensors first.
function report:text() return last_table(self, math.huge) end

--- Prints that table, or its first `count` rows; of several processes the first one does. Waits for the device.
function report:print(count)
  if count ~= nil and type(count) ~= "number" then
    raise("print: the number of rows must be a number, got " .. type(count))
  end
  local text = last_table(self, count or math.huge)
  if not self.distributed or self.distributed.rank() == 0 then print(text) end
end

local fields = {
  "step", "layer", "tensor", "format", "scale", "count", "zeros", "nonfinite", "first_nonfinite", "absmax", "rms",
  "mean", "snr", "underflow", "saturated", "relative_error",
}

local fields_of_blocks = {"blocks", "dominated", "spread", "exponents"}

local function csv_text(value)
  if value == nil then return "" end
  if type(value) == "table" then return table.concat(value, " ") end
  if type(value) == "number" then return number_text("%.9g", value) end
  return value:find '[,"\n]' and '"' .. value:gsub('"', '""') .. '"' or value
end

--- Writes all that was recorded as comma-separated values: a row a tensor and step, the fields of rows(), snr to
-- relative_error empty where nothing is quantized; with those of blocks.lua where they are recorded, the exponents with
-- spaces between them. Waits for the device.
function report:save(path)
  paths.check("save", path)
  local columns = {unpack(fields)}
  for _, field in ipairs(self.blocks and fields_of_blocks or {}) do columns[#columns + 1] = field end
  local lines = {table.concat(columns, ",")}
  self:each_row(function(row)
    local cells = {}
    for i, field in ipairs(columns) do
      cells[i] = csv_text((row.format or not of_quantization[field]) and row[field] or nil)
    end
    lines[#lines + 1] = table.concat(cells, ",")
  end)
  local file, message = io.open(path, "w")
  if not file then raise("save: " .. message) end
  local written, reason = file:write(table.concat(lines, "\n"), "\n")
  local closed, late_reason = file:close()
  if not (written and closed) then raise(("save: %s: %s"):format(path, reason or late_reason)) end
end

local Finding = {}
Finding.__index = Finding

function Finding:__tostring()
  local text = ("step %d: %s: %s has %s"):format(self.step, self.layer, self.tensor,
    comparison.nonfinite_text(self, self.shape))
  if self.before and self.before < self.step - 1 then
    text = ("%s (step %d, the last one recorded before, was finite)"):format(text, self.before)
  end
  return text
end

--- Where a NaN or an infinity first appeared among what was recorded: the step, and in it the first layer and tensor in
-- the order of computation. nil if all is finite. Waits for the device.
--
-- Between two recorded steps a NaN spreads through the whole model; to see its origin, watch with every = 1, or go back
-- to a checkpoint and call fp8.watch.find.
-- @return {step =, layer =, tensor =, nonfinite = how many, first_nonfinite = position, shape =, before = the recorded
--   step before, if any}; tostring gives a sentence
function report:first_bad()
  local finding, order, step, before
  self:each_row(function(row, record, entry)
    if row.step ~= step then before, step = step, row.step end
    if row.nonfinite == 0 or (finding and (row.step > finding.step or record.order > order)) then return end
    order = record.order
    finding = setmetatable({step = step, layer = row.layer, tensor = row.tensor, nonfinite = row.nonfinite,
      first_nonfinite = row.first_nonfinite, before = before,
      shape = self.distributed and ranks.shape(self.distributed, entry, record.shape) or record.shape}, Finding)
  end)
  return finding
end

return report
