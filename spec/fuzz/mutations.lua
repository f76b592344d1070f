--- Mutations that know more of an input than that it is bytes.
local mutations = {}

local numbers = {
  "0", "1", "2", "4", "8", "-1", "-0", "1.0", "1e0", "0.5", "1e400", "2147483648", "4294967295", "9007199254740992",
  "9007199254740993", "18446744073709551615", "00", "127", "65536", "null", '"1"', "[]", "{}", "true",
}

local function replaced(text, start, stop, by) return text:sub(1, start - 1) .. by .. text:sub(stop + 1) end

-- The first match of a pattern after a random place: where it starts and stops, or nil.
local function find_after(text, pattern, random) return text:find(pattern, random(#text + 1)) end

--- JSON text with one thing inserted, replaced, repeated or removed.
-- @param words strings that may be there
function mutations.json(text, words, random)
  local way = random(6)
  if way == 1 then
    local start, stop = find_after(text, "%-?%d[%d.eE+-]*", random)
    if not start then return text end
    local number = random(2) == 1 and tonumber(text:sub(start, stop))
    local other = number and ("%.0f"):format(number + random(3) - 2) or numbers[random(#numbers)]
    return replaced(text, start, stop, other)
  elseif way == 2 then
    local start, stop = find_after(text, '"[^"]*"', random)
    return start and replaced(text, start, stop, '"' .. words[random(#words)] .. '"') or text
  elseif way == 3 then
    local start, stop = find_after(text, '"[^"]*":%b{}', random)
    if not start then return text end
    return replaced(text, start, stop, random(2) == 1 and "" or text:sub(start, stop) .. "," .. text:sub(start, stop))
  elseif way == 4 then
    local start, stop = find_after(text, random(2) == 1 and "%b[]" or "%b{}", random)
    local other, last = find_after(text, "%b[]", random)
    return start and other and replaced(text, start, stop, text:sub(other, last)) or text
  elseif way == 5 then
    local start, stop = find_after(text, ',?"[^"]*":%s*["%[]?[%w,]+["%]]?', random)
    return start and replaced(text, start, stop, random(2) == 1 and "" or text:sub(start, stop):rep(2)) or text
  end
  local place, marks = random(#text + 1), {" ", "\n", ",", ":", "{", "}", "[", "]", '"', "\\", "\\u0041", "\\ud800"}
  return text:sub(1, place - 1) .. marks[random(#marks)] .. text:sub(place)
end

-- JSON text in which the JSON that stands in the string of a field is another.
local function mutate_nested(text, field, words, random)
  local _, before = text:find(('"%s":"'):format(field), 1, true)
  local stop = before
  while stop and stop < #text and text:sub(stop + 1, stop + 1) ~= '"' do
    stop = stop + (text:sub(stop + 1, stop + 1) == "\\" and 2 or 1)
  end
  if not stop then return text end
  local nested = mutations.json(text:sub(before + 1, stop):gsub("\\(.)", "%1"), words, random)
  return text:sub(1, before) .. nested:gsub('["\\]', "\\%0") .. text:sub(stop + 1)
end

-- Eight bytes, little-endian.
local function u64(value)
  local bytes = {}
  for i = 1, 8 do
    bytes[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(bytes)
end

local widths = {
  F64 = 8, I64 = 8, F32 = 4, I32 = 4, F16 = 2, BF16 = 2, I16 = 2, U8 = 1, BOOL = 1, F8_E4M3 = 1, F8_E5M2 = 1,
}

-- A header whose tensors lie one after the other and are as long as their shapes say; and the end of the last one.
local function repaired(header, longest)
  local position = 0
  header = header:gsub('("dtype":"([%w_]+)","shape":(%b[]),"data_offsets":)%b[]', function(start, dtype, shape)
    local size, from = widths[dtype] or 1, position
    for count in shape:gmatch "%d+" do size = size * tonumber(count) end
    if position + size <= longest then position = position + size end
    return ("%s[%d,%d]"):format(start, from, position)
  end)
  return header, position
end

--- A safetensors file whose header or data are another, with the header's length right, and often with the bytes that
-- the header speaks of.
-- @param words  strings that may be in the header
-- @param fields names of those whose strings are JSON
function mutations.safetensors(bytes, words, fields, longest, random, mutate_bytes)
  local length = #bytes >= 8 and bytes:byte(1) + 256 * bytes:byte(2) + 65536 * bytes:byte(3) or #bytes
  if length > #bytes - 8 or random(16) == 1 then return mutate_bytes(bytes, longest) end
  local header, data, way = bytes:sub(9, 8 + length), bytes:sub(9 + length), random(8)
  if way <= 2 and #data > 0 then
    data = mutate_bytes(data, #data)
  elseif way <= 4 then
    header = mutate_bytes(header, math.max(longest - 8 - #data, 1))
  else
    local nested = fields[random(8)]
    header = nested and mutate_nested(header, nested, words, random) or mutations.json(header, words, random)
  end
  if random(8) > 1 then
    local last
    header, last = repaired(header, longest)
    data = data:sub(1, last) .. ("\1"):rep(last - #data)
  end
  return u64(#header) .. header .. data
end

-- The position after the value that begins at list[position]: a word, or what stands between braces.
local function after_value(list, position)
  local depth = 0
  repeat
    local word = list[position]
    depth = depth + (word == "{" and 1 or word == "}" and -1 or 0)
    position = position + 1
  until depth <= 0 or not list[position]
  return position
end

-- Gives the first key after a random place another value that it can have.
local function choose(list, choices, random)
  local position = random(#list + 1)
  while list[position] and not choices[list[position]] do position = position + 1 end
  local values = choices[list[position]]
  if not values or not list[position + 1] then return end
  for _ = position + 1, after_value(list, position + 1) - 1 do table.remove(list, position + 1) end
  table.insert(list, position + 1, values[random(#values)])
end

-- Inserts, replaces, removes or repeats words.
local function change_words(list, words, random)
  local place, way = random(#list + 1), random(4)
  local word = random(3) == 1 and list[random(math.max(#list, 1))] or words[random(#words)]
  if way == 1 then
    table.remove(list, math.min(place, #list))
  elseif way == 2 then
    table.insert(list, place, word)
  elseif way == 3 then
    list[place] = word
  else
    local from, count = random(#list + 1), random(8)
    for i = 0, count - 1 do
      if list[from + i] then table.insert(list, math.min(place + i, #list + 1), list[from + i]) end
    end
  end
end

--- Words with spaces between them, of which some are others.
-- @param words   that may be there
-- @param choices by word: texts that may follow it
function mutations.words(text, words, choices, random)
  local list, count = {}, random(3)
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  if random(2) == 1 then
    for _ = 1, count do choose(list, choices, random) end
  else
    for _ = 1, count do change_words(list, words, random) end
  end
  return table.concat(list, " ")
end

return mutations
