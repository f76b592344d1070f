--- Elementwise operations: two operands broadcast as NumPy's do, and one of them may be a number.
local elementwise = {}
for _, part in ipairs {
  "unary", "activation", "binary", "choice", "composed", "trigonometry", "limits", "gates", "in_place",
} do
  for name, operation in next, require("fp8.ops.elementwise." .. part) do elementwise[name] = operation end
end
return elementwise
