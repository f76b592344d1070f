--- All dtypes by name: `size` of an element in bytes, and `kind`, "float", "float8" or "integer".
return {
  f32 = {size = 4, kind = "float"}, f16 = {size = 2, kind = "float"}, bf16 = {size = 2, kind = "float"},
  e4m3 = {size = 1, kind = "float8"}, e5m2 = {size = 1, kind = "float8"},
  u8 = {size = 1, kind = "integer"}, i32 = {size = 4, kind = "integer"}, i64 = {size = 8, kind = "integer"},
}
