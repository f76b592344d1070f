--- Fields of modules with two letters swapped: layer.wieght.
local raise = require("fp8.core").raise

--- Raises an error if `name` is a key of one of the tables with two neighbouring letters swapped.
return function(name, ...)
  for i = 1, #name - 1 do
    local swapped = name:sub(1, i - 1) .. name:sub(i + 1, i + 1) .. name:sub(i, i) .. name:sub(i + 2)
    for _, known in ipairs {...} do
      if swapped ~= name and not name:sub(i, i + 1):find "%d" and rawget(known, swapped) ~= nil then
        raise(("there is no field %s; did you mean %s?"):format(name, swapped))
      end
    end
  end
end
