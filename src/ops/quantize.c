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

static int64_t columns_of(const Tensor *x) { return x->rank > 0 ? x->size[x->rank - 1] : 1; }

/* Tiles that are runs of elements in row-major order become blocks, for which there are faster kernels. */
static void set_tiles(Quantizer *quantizer, const Tensor *x, Blocks blocks) {
  int64_t columns = columns_of(x), rows = columns > 0 ? tensor_count(x) / columns : 0;
  int64_t tile_rows = blocks.rows < rows ? blocks.rows : rows;
  bool parts_of_rows = tile_rows == 1 && (rows == 1 || columns % blocks.columns == 0);
  if (rows == 0 || columns == 0) {
    quantizer->blocksize = 1;
  } else if (blocks.columns >= columns) {
    quantizer->blocksize = tile_rows * columns;
  } else if (parts_of_rows) {
    quantizer->blocksize = blocks.columns;
  } else {
    quantizer->blocksize = 1;
    quantizer->tile_rows = tile_rows;
    quantizer->tile_columns = blocks.columns;
  }
}

static void set_blocks(Quantizer *quantizer, const Tensor *x, Blocks blocks) {
  int64_t count = tensor_count(x);
  if (blocks.rows > 0) {
    set_tiles(quantizer, x, blocks);
  } else {
    quantizer->blocksize = blocks.length > 0 ? blocks.length : count > 0 ? count : 1;
  }
}

/* The whole-tensor form of a map divides by absmax, as bitsandbytes' quantize does. */
static bool make_quantizer(Quantizer *quantizer, const Tensor *x, Format format, Blocks blocks, ScaleRounding rounding,
                           bool stochastic) {
  *quantizer = (Quantizer){.divide = format.map && blocks.length == 0 && blocks.rows == 0,
                           .scale_rounding = rounding,
                           .stochastic = stochastic};
  set_blocks(quantizer, x, blocks);
  if (format.map && rounding == SCALE_MX) return error_set("scales of 'mx' are for e4m3 and e5m2, not for maps");
  if (!compile_format(quantizer, format)) return false;
  if (!stochastic) return true;
  if (!op_check_random()) return false;
  quantizer->random = op_next_random(tensor_count(x));
  return true;
}

static int64_t quotient_up(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* How many scales there are: one for a whole tensor, an empty one too. */
static int64_t block_count(const Tensor *x, const Quantizer *quantizer, Blocks blocks) {
  if (blocks.length == 0 && blocks.rows == 0) return 1;
  if (quantizer->tile_rows == 0) return quotient_up(tensor_count(x), quantizer->blocksize);
  int64_t columns = columns_of(x);
  return quotient_up(tensor_count(x) / columns, quantizer->tile_rows) * quotient_up(columns, quantizer->tile_columns);
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
  int64_t columns = columns_of(x);
  int64_t turned[2] = {columns, columns > 0 ? tensor_count(x) / columns : 0};
  int64_t scales = options->scale_count > 0 ? options->scale_count : block_count(x, quantizer, options->blocks);
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
      !make_quantizer(&quantizer, x, options->format, options->blocks, options->scale_rounding, options->stochastic)) {
    return false;
  }
  if (options->scale_count > 0 && (options->blocks.length > 0 || options->blocks.rows > 0)) {
    return error_set("only the scale of a whole tensor is repeated");
  }
  if (outputs->transposed && options->format.map) return error_set("only codes of e4m3 and e5m2 can be transposed");
  Tensor input = {0}, known = {0}, created[OUTPUT_COUNT] = {{0}};
  bool done = op_contiguous(&input, x) && create_outputs(created, outputs, x, &quantizer, options);
  if (done && options->known_scale) {
    done = check_scale(options->known_scale, x, block_count(x, &quantizer, options->blocks)) &&
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

bool op_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, Format format, Blocks blocks, DType dtype) {
  Quantizer quantizer;
  if (!check_value_dtype(dtype) || !same_device(codes, scale) ||
      !make_quantizer(&quantizer, codes, format, blocks, SCALE_EXACT, false)) {
    return false;
  }
  if (codes->dtype != quantizer.format) {
    return error_set("codes of this format have dtype %s, got %s", dtype_name(quantizer.format),
                     dtype_name(codes->dtype));
  }
  if (!check_scale(scale, codes, block_count(codes, &quantizer, blocks))) return false;
  Tensor input = {0}, factors = {0}, created = {0};
  bool done = op_contiguous(&input, codes) && op_contiguous(&factors, scale) &&
              tensor_create_like(&created, codes, dtype) &&
              backend_for(codes)->dequantize(&created, &input, &factors, &quantizer);
  tensor_release(&input);
  tensor_release(&factors);
  return hand_over(out, &created, done);
}

static bool check_history(const Tensor *history, const Tensor *x) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(history, x)) return false;
  if (history->dtype == DTYPE_F32 && history->rank == 1 && history->size[0] > 0 && tensor_is_contiguous(history)) {
    return true;
  }
  return error_set("history must be contiguous, f32 and of one dimension with at least 1 element, got %s of shape %s",
                   dtype_name(history->dtype), tensor_shape_text(history, text));
}

bool op_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, Format format, ScaleRounding rounding,
                      bool record) {
  Quantizer quantizer;
  Blocks whole = {0};
  if (!check_value_dtype(x->dtype) || !check_history(history, x) ||
      !make_quantizer(&quantizer, x, format, whole, rounding, false)) {
    return false;
  }
  Tensor input = {0}, created = {0};
  int64_t one = 1;
  record = record && tensor_count(x) > 0;
  bool done = op_contiguous(&input, x) && tensor_create(&created, DTYPE_F32, tensor_device(x), 1, &one) &&
              backend_for(x)->delayed_scale(&created, &input, history, &quantizer, record);
  tensor_release(&input);
  if (done && record) history->storage->version++;
  return hand_over(scale, &created, done);
}

/* Beyond these, x / scale is more than half of the last step away from what the format can hold. */
static CompareRule compare_rule(const Tensor *x, const Quantizer *quantizer) {
  CompareRule rule = {.blocksize = quantizer->blocksize,
                      .tile_rows = quantizer->tile_rows,
                      .tile_columns = quantizer->tile_columns,
                      .columns = columns_of(x)};
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

bool op_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, Format format, Blocks blocks) {
  Quantizer quantizer;
  CompareRule rule = {.blocksize = 1};
  if (!check_compared(row, x, values, scale)) return false;
  if (scale) {
    if (!make_quantizer(&quantizer, x, format, blocks, SCALE_EXACT, false) ||
        !check_scale(scale, x, block_count(x, &quantizer, blocks))) {
      return false;
    }
    rule = compare_rule(x, &quantizer);
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

/* For what a backend does not do in one go. */
static bool quantize_and_compare(Tensor *row, const Tensor *x, const QuantizeOptions *options) {
  Tensor values = {0}, scale = {0};
  QuantizeOutputs outputs = {.scale = &scale};
  if (options->format.map) {
    outputs.values = &values;
  } else {
    outputs.codes = &values;
  }
  bool done =
      op_quantize(&outputs, x, options) && op_compare(row, x, &values, &scale, options->format, options->blocks);
  tensor_release(&values);
  tensor_release(&scale);
  return done;
}

bool op_compare_quantized(Tensor *row, const Tensor *x, const QuantizeOptions *options) {
  Quantizer quantizer;
  const Backend *backend = backend_for(x);
  DType dtype = options->format.map ? options->dtype : DTYPE_F32;
  if (!check_compared(row, x, NULL, NULL) || !check_value_dtype(options->dtype) ||
      !make_quantizer(&quantizer, x, options->format, options->blocks, options->scale_rounding, false)) {
    return false;
  }
  Tensor input = {0}, known = {0};
  bool done = op_contiguous(&input, x);
  if (done && options->known_scale) {
    done = check_scale(options->known_scale, x, block_count(x, &quantizer, options->blocks)) &&
           op_contiguous(&known, options->known_scale);
    quantizer.known_scale = &known;
  }
  if (done && backend->compares_quantized && backend->compares_quantized(&input, &quantizer, dtype)) {
    CompareRule rule = compare_rule(&input, &quantizer);
    done = backend->compare_quantized(row, &input, &quantizer, dtype, &rule);
    if (done) row->storage->version++;
  } else if (done) {
    done = quantize_and_compare(row, &input, options);
  }
  tensor_release(&input);
  tensor_release(&known);
  return done;
}
