--- Picking from tensors and putting into them, by positions in integer tensors, masks and slices.
local index = {}
for _, part in ipairs {"pick", "put", "scatter", "slices"} do
  for name, operation in next, require("fp8.ops.index." .. part) do index[name] = operation end
end
index.read, index.write = nil, nil -- x[key], which tensor.lua takes from slices.lua
return index
