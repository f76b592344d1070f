--- fp8.set_print_options: how tensors and tables are shown.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"

local defaults = {
  threshold = 200, -- elements
  edge = 3,
  width = 100,     -- characters
}

-- What holds now. A script's `width` goes before that of the terminal, which the prompt gives as `terminal_width`.
local options = {threshold = defaults.threshold, edge = defaults.edge}

local known = {precision = "number", threshold = "number", edge = "number", width = "number", scientific = "boolean"}
local least = {precision = 0, threshold = 0, edge = 1, width = 20}

--- The longest line, in characters.
function options.line_width() return options.width or options.terminal_width or defaults.width end

local function check(changes)
  check_options("set_print_options", changes, known)
  for name, smallest in next, least do
    local value = changes[name]
    if value ~= nil and not is_whole(value, smallest) then
      core.raise(("set_print_options: option %s must be a whole number of at least %d, got %s"):format(name, smallest,
        tostring(value)))
    end
  end
  if changes.precision and changes.precision > 17 then
    core.raise(("set_print_options: option precision can be 17 at most, got %d"):format(changes.precision))
  end
end

--- fp8.set_print_options {precision =, threshold =, edge =, width =, scientific =}: how tensors are shown from now on.
-- Options that are left out stay as they are; without a table all are as at first.
--   fp8.set_print_options {precision = 2}
--   local text = tostring(fp8.tensor {0.5, 1})
--   fp8.set_print_options()
--   text:match "\n(.*)" --> "  0.50 1.00"
-- @param changes
--   precision   digits after the point; 4 at first, and for float8 as many as it takes to show the number in full
--   threshold   the most elements of a tensor that is shown whole (200)
--   edge        how many positions at either end of a long dimension are shown of a larger one (3)
--   width       characters in a line; 100 at first, and at the prompt those of the terminal
--   scientific  true: always with an exponent; false: never; else where numbers are very large or small
function options.set(changes)
  if changes == nil then
    options.precision, options.width, options.scientific = nil, nil, nil
    options.threshold, options.edge = defaults.threshold, defaults.edge
    return
  end
  check(changes)
  for name in next, known do
    if changes[name] ~= nil then options[name] = changes[name] end
  end
end

return options
