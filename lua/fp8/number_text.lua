--- A number as text, by a format of string.format; what is not finite as "nan", "inf" and "-inf" everywhere.
return function(format, value)
  if value ~= value then return "nan" end
  if value == math.huge then return "inf" end
  if value == -math.huge then return "-inf" end
  return format:format(value)
end
