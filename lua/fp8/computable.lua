--- The dtypes that products, gradients and parameters can have, as a set.
return {f32 = true, f16 = true, bf16 = true}
