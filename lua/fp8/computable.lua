--- The dtypes that products, gradients and parameters can have, as a set.
local computable = {}
for name, dtype in pairs(require("fp8.core").dtypes) do
  if dtype.kind == "float" then computable[name] = true end
end
return computable
