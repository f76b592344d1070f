/* Quantization: from what scripts say of it to a backend's Quantizer. */
#include "ops/internal.h"

static bool compile_format(Quantizer *quantizer, Format format) {
  if (!format.map) {
    quantizer->format = format.hardware;
    return true;
  }
  const Tensor *map = format.map;
  char text[TENSOR_SHAPE_TEXT_MAX], name[DEVICE_NAME_MAX];
  if (map->dtype != DTYPE_F32 || map->rank != 1 || map->size[0] != MAP_SIZE || tensor_device(map).kind != DEVICE_CPU) {
    return error_set("a map must be an f32 tensor of shape (256) on the CPU, got %s of shape %s on %s",
                     dtype_name(map->dtype), tensor_shape_text(map, text), device_name(tensor_device(map), name));
  }
  float values[MAP_SIZE];
  if (!op_to_host(map, values)) return false;
  quantizer->format = DTYPE_U8;
  quantizer->map = map_compile(values);
  return quantizer->map != NULL;
}

/* The whole-tensor form of a map divides by absmax, as bitsandbytes' quantize does. */
static bool make_quantizer(Quantizer *quantizer, const Tensor *x, Format format, int64_t blocksize, bool stochastic) {
  int64_t count = tensor_count(x);
  *quantizer = (Quantizer){.blocksize = blocksize > 0 ? blocksize : (count > 0 ? count : 1),
                           .divide = format.map && blocksize == 0,
                           .stochastic = stochastic};
  if (blocksize < 0) return error_set("blocksize must be at least 1, got %lld", (long long)blocksize);
  if (!compile_format(quantizer, format)) return false;
  if (stochastic) quantizer->random = op_next_random(count);
  return true;
}

static int64_t block_count(const Tensor *x, int64_t blocksize) {
  int64_t count = tensor_count(x);
  return count / blocksize + (count % blocksize != 0);
}

static bool check_value_dtype(DType dtype) {
  if (dtype_is_compute_float(dtype)) return true;
  return error_set("dtype must be f32, f16 or bf16, got %s", dtype_name(dtype));
}

bool op_quantize(Tensor *codes, Tensor *scale, const Tensor *x, Format format, int64_t blocksize, bool stochastic) {
  Quantizer quantizer;
  if (!check_value_dtype(x->dtype) || !make_quantizer(&quantizer, x, format, blocksize, stochastic)) return false;
  Tensor input = {0}, new_codes = {0}, new_scale = {0};
  int64_t blocks = block_count(x, quantizer.blocksize);
  bool done = op_contiguous(&input, x) && tensor_create_like(&new_codes, x, quantizer.format) &&
              tensor_create(&new_scale, DTYPE_F32, tensor_device(x), 1, &blocks) &&
              backend_for(x)->quantize(&new_codes, &new_scale, &input, &quantizer);
  tensor_release(&input);
  if (done) {
    *codes = new_codes;
    *scale = new_scale;
  } else {
    tensor_release(&new_codes);
    tensor_release(&new_scale);
  }
  return done;
}

bool op_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, Format format, int64_t blocksize,
                   DType dtype) {
  Quantizer quantizer;
  if (!check_value_dtype(dtype) || !same_device(codes, scale) ||
      !make_quantizer(&quantizer, codes, format, blocksize, false)) {
    return false;
  }
  if (codes->dtype != quantizer.format) {
    return error_set("codes of this format have dtype %s, got %s", dtype_name(quantizer.format),
                     dtype_name(codes->dtype));
  }
  int64_t blocks = block_count(codes, quantizer.blocksize);
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (scale->dtype != DTYPE_F32 || scale->rank != 1 || scale->size[0] != blocks) {
    return error_set("absmax must be f32 of shape (%lld), one for each block, got %s of shape %s", (long long)blocks,
                     dtype_name(scale->dtype), tensor_shape_text(scale, text));
  }
  Tensor input = {0}, factors = {0}, created = {0};
  bool done = op_contiguous(&input, codes) && op_contiguous(&factors, scale) &&
              tensor_create_like(&created, codes, dtype) &&
              backend_for(codes)->dequantize(&created, &input, &factors, &quantizer);
  tensor_release(&input);
  tensor_release(&factors);
  if (done) {
    *out = created;
  } else {
    tensor_release(&created);
  }
  return done;
}

bool op_fake_quantize(Tensor *out, const Tensor *x, Format format, int64_t blocksize, bool stochastic, DType dtype) {
  Quantizer quantizer;
  if (!check_value_dtype(x->dtype) || !check_value_dtype(dtype)) return false;
  if (!make_quantizer(&quantizer, x, format, blocksize, stochastic)) return false;
  Tensor input = {0}, created = {0};
  bool done = op_contiguous(&input, x) && tensor_create_like(&created, x, dtype) &&
              backend_for(x)->fake_quantize(&created, &input, &quantizer);
  tensor_release(&input);
  if (done) {
    *out = created;
  } else {
    tensor_release(&created);
  }
  return done;
}
