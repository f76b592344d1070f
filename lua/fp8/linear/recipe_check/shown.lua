--- How the checks of recipes show a value that is wrong.
return function(value)
  return type(value) == "string" and ('"%s"'):format(value) or
    type(value) == "number" and tostring(value) or type(value)
end
