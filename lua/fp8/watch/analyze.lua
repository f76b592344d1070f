--- fp8.analyze: what formats and scalings would do to a tensor.
local blocks = require "fp8.watch.blocks"
local core = require "fp8.core"
local check_options = require "fp8.check_options"
local comparison = require "fp8.watch.compare"
local computable = require "fp8.computable"
local planning = require "fp8.linear.plan"
local recipes = require "fp8.linear.recipes"
local shapes = require "fp8.shapes"

local raise = core.raise

-- Formats that have names here, besides the hardware types.
local maps = {
  e4m3_map = recipes.mixed.input.format, e5m2_map = recipes.mixed.grad_output.format,
  dynamic = core.create_dynamic_map(), linear = core.create_linear_map(),
}
local own_options = {formats = true, scales = true, blocks = "boolean"}
local default_formats = {"e4m3", "e5m2", "e4m3_map", "e5m2_map"}
local default_scales = {"tensor", "row", "block"}

local function read_options(options)
  options = check_options("analyze", options, own_options)
  local formats = options.formats == nil and default_formats or options.formats
  local scales = options.scales == nil and default_scales or options.scales
  if type(formats) ~= "table" or formats.format ~= nil or formats.quantize ~= nil then formats = {formats} end
  if type(scales) ~= "table" then scales = {scales} end
  return formats, scales, options.blocks
end

-- {label =, operand =} of one element of `formats`: an operand with its scale, or one for each of `scales`.
local function candidates_of(label, format, scales)
  if type(format) == "function" then format = {quantize = format} end
  if format == "full" then return {{label = label or format, operand = format}} end
  if type(format) == "table" and format.quantize ~= nil then
    return {{label = label or comparison.format_name(format.quantize), operand = format}}
  end
  local operand = type(format) == "table" and format or {format = format}
  local name, candidates = operand.format, {}
  label = label or (type(name) == "string" and name or comparison.format_name(name))
  for i, scale in ipairs(operand.scale ~= nil and {operand.scale} or scales) do
    local copy = {}
    for field, value in pairs(operand) do copy[field] = value end
    copy.format, copy.scale = maps[name] or name, scale
    candidates[i] = {label = label, operand = copy}
  end
  return candidates
end

-- Labels of their own for different formats: of those called alike, "map" say, the second becomes "map2", and so on.
local function new_labels()
  local owners = {} -- by label
  return function(label, format)
    local own, number = label, 1
    while owners[own] ~= nil and owners[own] ~= format do
      number = number + 1
      own = label .. number
    end
    owners[own] = format
    return own
  end
end

-- All of them: those of a list in its order, then those with names, sorted. Given names come first to their labels.
local function all_candidates(formats, scales)
  local list, named, names, label_of = {}, {}, {}, new_labels()
  local function add(to, label, format)
    for _, candidate in ipairs(candidates_of(label, format, scales)) do
      local operand = candidate.operand
      local what = type(operand) == "table" and (operand.format or operand.quantize) or operand
      candidate.label = label_of(candidate.label, what)
      to[#to + 1] = candidate
    end
  end
  for name in pairs(formats) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do add(named, name, formats[name]) end
  for _, format in ipairs(formats) do add(list, nil, format) end
  for _, candidate in ipairs(named) do list[#list + 1] = candidate end
  if #list == 0 then raise "analyze: formats and scales must name at least one each" end
  return list
end

local Analysis = {}
Analysis.__index = Analysis

local headings = {"snr", "underflow", "saturated", "relative_error"}
local headings_of_blocks = {"snr", "underflow", "saturated", "relative_error", "blocks", "dominated", "exponents"}

function Analysis:__tostring()
  local first = self[1]
  local title = ("%s of shape %s: absmax %.4g, rms %.4g, mean %.3g, %.0f zeros"):format(self.dtype,
    shapes.text(self.shape), first.absmax, first.rms, first.mean, first.zeros)
  if first.nonfinite > 0 then title = title .. ", " .. comparison.nonfinite_text(first, self.shape) end
  local rows, shown = {{"format", "scale"}}, first.blocks and headings_of_blocks or headings
  for i, name in ipairs(shown) do rows[1][i + 2] = comparison.columns[name][1] end
  for _, entry in ipairs(self) do
    local row = {entry.format, entry.scale}
    for i, name in ipairs(shown) do row[i + 2] = comparison.columns[name][2](entry) end
    rows[#rows + 1] = row
  end
  return title .. "\n" .. table.concat(comparison.align(rows, 2), "\n")
end

local function features_of(x)
  local rank = core.rank(x)
  return rank > 0 and core.size(x, rank) or 1
end

--- Compares what formats and scalings make of a tensor: tostring(result) is a table, result[i] its rows, and
-- result[format][scale] the row of these. Waits for the device.
--
--   print(fp8.analyze(x))
--   fp8.analyze(x, {formats = {"e4m3", mine = my_map}, scales = {"tensor", 64}}).mine["64"].snr
--   fp8.analyze(x, {formats = {{format = "e4m3", scale = {1, 32}, scale_rounding = "mx"}}}).e4m3["1x32_mx"].snr
--
-- A row has `format` and `scale`, names (maps that have none are "map", "map2", …; a scale rounding is part of the
-- scale's: "tensor", "1x32", "1x32_mx"), `snr` in dB, `underflow` and `saturated` (shares of the non-zero elements),
-- `relative_error` (the largest), and what x itself is like: compare.lua says what each means. Values are rounded to
-- nearest. A function has the scale "-", and so has "full", which shows what x itself is like. With blocks = true a row
-- also has `blocks`, `dominated`, `exponents` and `spread`, of the blocks that share a scale: blocks.lua.
-- @param x       f32, f16 or bf16
-- @param options {formats = list of names in fp8.formats, "e4m3_map", "e5m2_map", "dynamic", "linear", maps, and
--                 operands as in fp8.recipes, {format =, scale =, scale_rounding =, …}, {quantize = f} or "full", and
--                 such functions f themselves; with names as keys where that suits, scales = list for formats that
--                 come without one}; left out: the four E4M3 and E5M2, with "tensor", "row" and "block"
--   fp8.analyze(fp8.randn(64, 64), {formats = {"e4m3"}, scales = {"row"}}).e4m3.row.snr > 20 --> true
return function(x, options)
  if not core.is_tensor(x) then raise("analyze: a tensor is needed, got " .. type(x)) end
  local dtype = core.dtype(x)
  if not computable[dtype] then raise("analyze: the tensor must be f32, f16 or bf16, got " .. dtype) end
  local formats, scales, of_blocks = read_options(options)
  local candidates, rules = all_candidates(formats, scales), {}
  for i, candidate in ipairs(candidates) do
    rules[i] = planning.operand("analyze: " .. candidate.label, candidate.operand, features_of(x))
  end
  local rows = blocks.new_rows(core.device(x), of_blocks, #candidates)
  for i, rule in ipairs(rules) do
    local compared, part = blocks.parts(core.select(rows, 1, i))
    comparison.quantize(compared, x, rule, "f32")
    if part then blocks.write(part, x, rule) end
  end
  rows = core.to(rows, {device = "cpu"})
  local result, by_format = setmetatable({shape = core.shape(x), dtype = dtype}, Analysis), {}
  for i, candidate in ipairs(candidates) do
    local entry = blocks.read(rows, i - 1, of_blocks)
    entry.format, entry.scale = candidate.label, comparison.scale_name(candidate.operand) or "-"
    result[i] = entry
    by_format[entry.format] = by_format[entry.format] or {}
    by_format[entry.format][entry.scale] = entry
  end
  for format, entries in pairs(by_format) do result[format] = result[format] or entries end
  return result
end
