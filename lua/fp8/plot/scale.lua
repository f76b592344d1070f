--- Axes: which part of a picture a number is at, and which numbers are written beside it.
local scale = {}

local logarithms = {
  log2 = {of = function(x) return math.log(x) / math.log(2) end, text = "2^%d"},
  log10 = {of = math.log10, text = "1e%d"},
}

--- The place of a number on an axis of this kind, "linear", "log2" or "log10"; nil if it has none.
function scale.place(kind, value)
  local logarithm = logarithms[kind]
  if value ~= value or math.abs(value) == math.huge or logarithm and value <= 0 then return nil end
  return logarithm and logarithm.of(value) or value
end

--- The lowest and the highest place of lists of numbers, not the same.
function scale.range(kind, lists)
  local low, high = math.huge, -math.huge
  for _, list in ipairs(lists) do
    for _, value in ipairs(list) do
      local place = scale.place(kind, value)
      if place then low, high = math.min(low, place), math.max(high, place) end
    end
  end
  if low > high then low, high = 0, 1 end
  if low == high then
    local room = low == 0 and 1 or math.abs(low) / 2
    low, high = low - room, high + room
  end
  return low, high
end

-- A distance of 1, 2 or 5 times a power of ten, at least `least`.
local function round_step(least)
  local power = 10 ^ math.floor(math.log10(least))
  for _, factor in ipairs {1, 2, 5} do
    if factor * power >= least * (1 - 1e-9) then return factor * power end
  end
  return 10 * power
end

--- {place =, text =} of about `count` numbers between two places.
function scale.ticks(kind, low, high, count)
  local step = round_step((high - low) / math.max(count, 1))
  if logarithms[kind] then step = math.max(1, math.ceil(step)) end
  local ticks = {}
  for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do
    local place = i * step
    local text = logarithms[kind] and logarithms[kind].text:format(place) or ("%.6g"):format(place)
    ticks[#ticks + 1] = {place = place, text = text == "-0" and "0" or text}
  end
  return ticks
end

return scale
