/* Quantization: from what scripts say of it to a backend's Quantizer. */
#include "core/float_formats.h"
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
  if (!stochastic) return true;
  if (!op_check_random()) return false;
  quantizer->random = op_next_random(count);
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

static bool check_scale(const Tensor *scale, const Tensor *x, int64_t blocks) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(scale, x)) return false;
  if (scale->dtype == DTYPE_F32 && scale->rank == 1 && scale->size[0] == blocks) return true;
  return error_set("absmax must be f32 of shape (%lld), one for each block, got %s of shape %s", (long long)blocks,
                   dtype_name(scale->dtype), tensor_shape_text(scale, text));
}

enum { CODES, TRANSPOSED, VALUES, SCALE, COLUMN_SUM, OUTPUT_COUNT };

/* Creates the wanted outputs in `created`. */
static bool create_outputs(Tensor created[OUTPUT_COUNT], const QuantizeOutputs *wanted, const Tensor *x,
                           const Quantizer *quantizer, const QuantizeOptions *options) {
  int64_t columns = x->rank > 0 ? x->size[x->rank - 1] : 1;
  int64_t turned[2] = {columns, columns > 0 ? tensor_count(x) / columns : 0};
  int64_t scales = options->scale_count > 0 ? options->scale_count : block_count(x, quantizer->blocksize);
  Device device = tensor_device(x);
  return (!wanted->codes || tensor_create_like(&created[CODES], x, quantizer->format)) &&
         (!wanted->transposed || tensor_create(&created[TRANSPOSED], quantizer->format, device, 2, turned)) &&
         (!wanted->values || tensor_create_like(&created[VALUES], x, options->dtype)) &&
         (!wanted->scale || tensor_create(&created[SCALE], DTYPE_F32, device, 1, &scales)) &&
         (!wanted->column_sum || tensor_create(&created[COLUMN_SUM], options->sum_dtype, device, 1, &columns));
}

bool op_quantize(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options) {
  Quantizer quantizer;
  if (!check_value_dtype(x->dtype) || (outputs->values && !check_value_dtype(options->dtype)) ||
      (outputs->column_sum && !check_value_dtype(options->sum_dtype)) ||
      !make_quantizer(&quantizer, x, options->format, options->blocksize, options->stochastic)) {
    return false;
  }
  if (options->scale_count > 0 && options->blocksize > 0)
    return error_set("only the scale of a whole tensor is repeated");
  if (outputs->transposed && options->format.map) return error_set("only codes of e4m3 and e5m2 can be transposed");
  Tensor input = {0}, known = {0}, created[OUTPUT_COUNT] = {{0}};
  bool done = op_contiguous(&input, x) && create_outputs(created, outputs, x, &quantizer, options);
  if (done && options->known_scale) {
    done = check_scale(options->known_scale, x, block_count(x, quantizer.blocksize)) &&
           op_contiguous(&known, options->known_scale);
    quantizer.known_scale = &known;
  }
  QuantizeOutputs targets = {
      .codes = outputs->codes ? &created[CODES] : NULL,
      .transposed = outputs->transposed ? &created[TRANSPOSED] : NULL,
      .values = outputs->values ? &created[VALUES] : NULL,
      .scale = outputs->scale ? &created[SCALE] : NULL,
      .column_sum = outputs->column_sum ? &created[COLUMN_SUM] : NULL,
  };
  done = done && backend_for(x)->quantize(&targets, &input, &quantizer);
  tensor_release(&input);
  tensor_release(&known);
  Tensor *receivers[OUTPUT_COUNT] = {outputs->codes, outputs->transposed, outputs->values, outputs->scale,
                                     outputs->column_sum};
  for (int i = 0; i < OUTPUT_COUNT; i++) {
    if (done && receivers[i]) {
      *receivers[i] = created[i];
    } else {
      tensor_release(&created[i]);
    }
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
  if (!check_scale(scale, codes, block_count(codes, quantizer.blocksize))) return false;
  Tensor input = {0}, factors = {0}, created = {0};
  bool done = op_contiguous(&input, codes) && op_contiguous(&factors, scale) &&
              tensor_create_like(&created, codes, dtype) &&
              backend_for(codes)->dequantize(&created, &input, &factors, &quantizer);
  tensor_release(&input);
  tensor_release(&factors);
  return hand_over(out, &created, done);
}

/* Beyond these, x / scale is more than half of the last step away from what the format can hold. */
static CompareRule compare_rule(const Quantizer *quantizer) {
  CompareRule rule = {.blocksize = quantizer->blocksize};
  if (quantizer->map) {
    const float *value = quantizer->map->table.value;
    rule.low = value[0] - (value[1] - value[0]) * 0.5f;
    rule.high = value[MAP_SIZE - 1] + (value[MAP_SIZE - 1] - value[MAP_SIZE - 2]) * 0.5f;
  } else {
    rule.high = quantizer->format == DTYPE_E4M3 ? E4M3_LARGEST + 16 : E5M2_LARGEST + 4096;
    rule.low = -rule.high;
  }
  return rule;
}

static bool check_compared(const Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale) {
  char text[TENSOR_SHAPE_TEXT_MAX], expected[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(row, x) || !check_value_dtype(x->dtype)) return false;
  if (row->dtype != DTYPE_I64 || !tensor_is_contiguous(row) || tensor_count(row) != COMPARISON_WORDS) {
    return error_set("the row must be a contiguous i64 tensor of %d elements, got %s of shape %s", COMPARISON_WORDS,
                     dtype_name(row->dtype), tensor_shape_text(row, text));
  }
  if (!values) return true;
  if (!same_device(values, x)) return false;
  if (!tensor_same_shape(values, x)) {
    return error_set("the values must have x's shape %s, got %s", tensor_shape_text(x, expected),
                     tensor_shape_text(values, text));
  }
  bool codes = values->dtype == DTYPE_E4M3 || values->dtype == DTYPE_E5M2;
  if (codes && !scale) return error_set("codes need their scales");
  return codes || check_value_dtype(values->dtype);
}

bool op_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, Format format,
                int64_t blocksize) {
  Quantizer quantizer;
  CompareRule rule = {.blocksize = 1};
  if (!check_compared(row, x, values, scale)) return false;
  if (scale) {
    if (!make_quantizer(&quantizer, x, format, blocksize, false) ||
        !check_scale(scale, x, block_count(x, quantizer.blocksize))) {
      return false;
    }
    rule = compare_rule(&quantizer);
  }
  Tensor input = {0}, compared = {0}, factors = {0};
  bool done = op_contiguous(&input, x) && (!values || op_contiguous(&compared, values)) &&
              (!scale || op_contiguous(&factors, scale)) &&
              backend_for(x)->compare(row, &input, values ? &compared : NULL, scale ? &factors : NULL, &rule);
  tensor_release(&input);
  tensor_release(&compared);
  tensor_release(&factors);
  if (done) row->storage->version++;
  return done;
}
