--- The notation of einsum: terms of letters, in which "..." stands for further dimensions. Those are called "...1",
-- "...2" and so on, counted from the last one, as broadcasting aligns them.
local raise = require("fp8.core").raise

local equation = {}

--- The terms of the operands, a list, and that of the result, nil if there is none.
function equation.terms(text)
  text = text:gsub("%s", "")
  local inputs, output = text:match "^([^>]*)%->([^>]*)$"
  local terms = {}
  for term in ((inputs or text) .. ","):gmatch "([^,]*)," do terms[#terms + 1] = term end
  return terms, output
end

--- The letters of a term in their order, and where among them the ellipsis stands, nil for none: before letter 2, say.
function equation.letters(term)
  local letters, place = {}, nil
  local position = 1
  while position <= #term do
    local letter = term:sub(position, position)
    if term:sub(position, position + 2) == "..." then
      if place then raise(("einsum: two ellipses in '%s'"):format(term)) end
      place, position = #letters + 1, position + 3
    elseif letter:find "%a" then
      letters[#letters + 1], position = letter, position + 1
    else
      raise(("einsum: '%s' in '%s' is neither a letter nor part of an ellipsis"):format(letter, term))
    end
  end
  return letters, place
end

--- With the names of `count` dimensions in the ellipsis' place.
function equation.labels(letters, place, count)
  if not place then return letters end
  local labels = {}
  for i = 1, #letters + 1 do
    if i == place then
      for d = count, 1, -1 do labels[#labels + 1] = "..." .. d end
    end
    labels[#labels + 1] = letters[i]
  end
  return labels
end

--- Where a label is in a list of them, from `start` (1 if left out) on; nil if it is not.
function equation.place(labels, label, start)
  for i = start or 1, #labels do
    if labels[i] == label then return i end
  end
end

--- The labels of the result: those of its term `given`, or the ellipsis' and, in the order of the alphabet, those that
-- occur once.
-- @param terms    of the operands
-- @param ellipsis how many dimensions an ellipsis stands for at most
-- @param sizes    by label, of the operands'
function equation.output(given, terms, ellipsis, sizes)
  if given then
    local letters, place = equation.letters(given)
    local labels = equation.labels(letters, place, ellipsis)
    for i, label in ipairs(labels) do
      if equation.place(labels, label, i + 1) then raise(("einsum: the result repeats %s"):format(label)) end
      if not sizes[label] then raise(("einsum: the result has %s, which no operand has"):format(label)) end
    end
    return labels
  end
  local counts, once = {}, {}
  for letter in table.concat(terms):gmatch "%a" do counts[letter] = (counts[letter] or 0) + 1 end
  for letter, count in next, counts do
    if count == 1 then once[#once + 1] = letter end
  end
  table.sort(once)
  return equation.labels(once, 1, ellipsis)
end

return equation
