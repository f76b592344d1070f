--- What quantizing did to a tensor: the rows that core.compare writes, as Lua tables and as text.
local ffi = require "ffi"
local core = require "fp8.core"
local number_text = require "fp8.number_text"
local operands = require "fp8.linear.operands"
local recipes = require "fp8.linear.recipes"
local shapes = require "fp8.shapes"

-- The Comparison of C; core.comparison_words is the size that it has there.
local row_type = ffi.typeof [[
struct {
  int64_t count, zeros, nonfinite, first_nonfinite, underflow, saturated;
  double sum, square_sum, error_square_sum, absmax, relative_error;
}]]
local pointer = ffi.typeof("$ *", row_type)

local comparison = {}

--- Elements of a row.
comparison.words = ffi.sizeof(row_type) / 8
assert(core.comparison_words == comparison.words, "fp8: the C struct has changed")

--- A row, or rows, for core.compare to write.
-- @param ... leading sizes
function comparison.new_rows(device, ...)
  local sizes = {...}
  sizes[#sizes + 1] = comparison.words
  return core.zeros(sizes, {dtype = "i64", device = device})
end

--- The row at an address on the CPU, with the fields of C's Comparison, which can be written.
function comparison.row_of(address) return ffi.cast(pointer, address)[0] end

-- Row `index` (from 0) of rows of `words` elements on the CPU.
local function row_at(rows, index, words)
  return comparison.row_of(ffi.cast("const int64_t *", core.data(rows)) + index * (words or comparison.words))
end

local function share(part, whole) return whole > 0 and part / whole or 0 end

--- The statistics in row `index` (from 0) of rows on the CPU:
--
--   count, zeros, nonfinite  how many elements there are, and how many of them are 0, and NaN or infinite
--   first_nonfinite          position of the first NaN or infinity, row-major from 1; nil if there is none
--   absmax, rms, mean        of the finite elements
--   snr                      10·log10(Σx² / Σ(x - v)²) in dB, v being what x became; infinite if nothing was lost, NaN
--                            if x holds a NaN or an infinity
--   underflow                share of the finite non-zero elements that became 0
--   saturated                share of them that the format's range cut off: more than half of the range's last step
--   relative_error           the largest |x - v| / |x| of elements that did not become 0
--
-- @param words of a row, if there is more in it
function comparison.read(rows, index, words)
  local row = row_at(rows, index, words)
  local count, zeros, nonfinite = tonumber(row.count), tonumber(row.zeros), tonumber(row.nonfinite)
  local finite, first = count - nonfinite, tonumber(row.first_nonfinite)
  local snr = 10 * math.log10(row.square_sum / row.error_square_sum)
  if nonfinite > 0 then snr = 0 / 0 elseif row.error_square_sum == 0 then snr = math.huge end
  return {
    count = count, zeros = zeros, nonfinite = nonfinite, first_nonfinite = nonfinite > 0 and first + 1 or nil,
    absmax = row.absmax, rms = math.sqrt(share(row.square_sum, finite)), mean = share(row.sum, finite), snr = snr,
    underflow = share(tonumber(row.underflow), finite - zeros),
    saturated = share(tonumber(row.saturated), finite - zeros), relative_error = row.relative_error,
  }
end

--- Σx² and Σ(x - v)² of row `index`, in double; NaN if x holds a NaN or an infinity.
function comparison.sums(rows, index)
  local row = row_at(rows, index)
  if row.nonfinite > 0 then return 0 / 0, 0 / 0 end
  return row.square_sum, row.error_square_sum
end

-- What a script's function makes of x, written to `row`. Random numbers that it draws are drawn again by what follows.
local function compare_function(row, x, operand, dtype)
  local seed, position = core.random_state()
  local function restore()
    local _, now = core.random_state()
    if now ~= position then core.manual_seed(seed, position) end
  end
  core.finally(restore, function()
    local matrix = shapes.contiguous_rows(x)
    core.compare(row, matrix, operands.values(matrix, operand, "values", {dtype = dtype}))
  end)
end

--- What quantizing x as `operand` (plan.lua) does to it, to nearest, written to `row`; nothing, where it is left alone.
-- x is what is transformed and smoothed before; an operand that is made from the forward pass's values is looked at as
-- if it were made from x.
-- @param dtype of the values that a map gives
-- @param known scales to be used, or nil
function comparison.quantize(row, x, operand, dtype, known)
  if operand.full then return core.compare(row, x) end
  if operand.quantize then return compare_function(row, x, operand, dtype) end
  if operand.prepared then x = operands.prepared(shapes.contiguous_rows(x), operand) end
  core.compare_quantized(row, x, operand.quantizer, known, dtype)
end

-- --- text ---

local names = {
  [recipes.mixed.input.format] = "e4m3_map", [recipes.mixed.grad_output.format] = "e5m2_map",
  [recipes.luq.grad_output.format] = "e3m0_map",
}

--- The name of a format: that of a hardware type, "e4m3_map", "e5m2_map" and "e3m0_map" for the maps of fp8.recipes,
-- else "map"; "function" for a script's function.
function comparison.format_name(format)
  if type(format) == "function" then return "function" end
  return type(format) == "string" and format or names[format] or "map"
end

--- The name of an operand's scale with its rounding, if any: "tensor", "64", "128x128", "1x32_mx", "row_power_of_two";
-- nil where a function sees to it, or nothing is quantized.
function comparison.scale_name(operand)
  if operand.quantize or operand == "full" then return nil end
  local scale, rounding = operand.scale, operand.scale_rounding
  local name = type(scale) == "table" and table.concat(scale, "x") or tostring(scale)
  if rounding and rounding ~= "none" then name = name .. "_" .. rounding end
  if operand.second_scale and operand.second_scale ~= "none" then name = name .. "_" .. operand.second_scale end
  if operand.constant_scale then name = ("%s_constant_%.9g"):format(name, operand.constant_scale) end
  if operand.headroom then name = ("%s_headroom_%.9g"):format(name, operand.headroom) end
  if operand.range then
    name = ("%s_range_%.9g_%.9g"):format(name, operand.range.root_mean_square or 0, operand.range.mean_magnitude or 0)
  end
  if operand.candidates then name = ("%s_of_%s"):format(name, table.concat(operand.candidates, "_")) end
  if operand.largest_scale then name = ("%s_up_to_%.9g"):format(name, operand.largest_scale) end
  if operand.smooth then name = ("%s_smooth_%s"):format(name, operand.smooth) end
  if operand.hadamard then name = ("%s_hadamard_%d"):format(name, operand.hadamard) end
  if operand.across then name = ("%s_across_%d"):format(name, operand.across) end
  return operand.from and ("%s_from_%s"):format(name, operand.from) or name
end

--- "12 non-finite values, first at (10, 355) of shape (2048, 384)", of statistics with some.
function comparison.nonfinite_text(statistics, shape)
  local place, rest = {}, statistics.first_nonfinite - 1
  for dimension = #shape, 1, -1 do
    place[dimension] = rest % shape[dimension] + 1
    rest = math.floor(rest / shape[dimension])
  end
  local many = statistics.nonfinite > 1 and "s" or ""
  return ("%.0f non-finite value%s, first at %s of shape %s"):format(statistics.nonfinite, many, shapes.text(place),
    shapes.text(shape))
end

local function share_text(value)
  return value == 0 and "0" or value < 1e-4 and "<0.01" or ("%.2f"):format(value * 100)
end

--- The columns of a table of statistics: heading, then the text of an entry.
comparison.columns = {
  absmax = {"absmax", function(entry) return number_text("%.3g", entry.absmax) end},
  rms = {"rms", function(entry) return number_text("%.3g", entry.rms) end},
  snr = {"snr dB", function(entry) return entry.snr == math.huge and "exact" or number_text("%.1f", entry.snr) end},
  underflow = {"underflow %", function(entry) return share_text(entry.underflow) end},
  saturated = {"saturated %", function(entry) return share_text(entry.saturated) end},
  relative_error = {"largest rel. error", function(entry) return number_text("%.3g", entry.relative_error) end},
  nonfinite = {"non-finite", function(entry) return ("%.0f"):format(entry.nonfinite) end},
  blocks = {"blocks", function(entry) return ("%.0f"):format(entry.blocks) end},
  dominated = {"dominated %", function(entry) return share_text(entry.dominated) end},
  exponents = {"log2 absmax", function(entry)
    local list = entry.exponents
    return list and ("%.1f..%.1f..%.1f"):format(list[1], list[3], list[5]) or "-"
  end},
}

--- Lines of a table of texts, first row the headings: the first `left` columns to the left, the others to the right.
function comparison.align(rows, left)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for column, text in ipairs(row) do widths[column] = math.max(widths[column] or 0, #text) end
  end
  for i, row in ipairs(rows) do
    local cells = {}
    for column, text in ipairs(row) do
      cells[column] = ("%" .. (column <= left and "-" or "") .. widths[column] .. "s"):format(text)
    end
    lines[i] = "  " .. table.concat(cells, "  "):gsub("%s+$", "")
  end
  return lines
end

return comparison
