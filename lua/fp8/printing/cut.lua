-- The number of bytes that the first `count` characters of UTF-8 take.
local function bytes_of(text, count)
  local position = 1
  for _ = 1, count do
    position = position + 1
    while (text:byte(position) or 0) >= 0x80 and text:byte(position) < 0xc0 do position = position + 1 end
  end
  return position - 1
end

--- A text of at most `width` characters of UTF-8; one that is cut ends in "…".
return function(text, width)
  if #text <= width or select(2, text:gsub("[^\128-\191]", "")) <= width then return text end
  return text:sub(1, bytes_of(text, width - 1)) .. "…"
end
