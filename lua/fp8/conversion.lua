--- The arguments of tensor:to and module:to.
local core = require "fp8.core"

local dtypes = {f32 = true, f16 = true, bf16 = true, e4m3 = true, e5m2 = true, u8 = true, i32 = true, i64 = true}

--- The options table of ("f16"), ("cuda"), ("cuda", "f16") or an options table.
return function(first, second)
  if type(first) == "table" then return first end
  if type(first) ~= "string" then
    core.raise("to: a dtype, a device or a table of options is needed, got " .. type(first))
  end
  local options = {[dtypes[first] and "dtype" or "device"] = first}
  if second ~= nil then options[dtypes[second] and "dtype" or "device"] = second end
  return options
end
