/* What quantizing did to a tensor, and what it would do. */
#include "core/formats/float_formats.h"
#include "ops/support/quantizer.h"

/* Beyond these, x / scale is more than half of the last step away from what the format can hold. */
static CompareRule compare_rule(const Tensor *x, const Quantizer *quantizer) {
  CompareRule rule = {.blocksize = quantizer->blocksize,
                      .tile_rows = quantizer->tile_rows,
                      .tile_columns = quantizer->tile_columns,
                      .columns = columns_of(x)};
  if (quantizer->map) {
    const float *first = &quantizer->map->table.value[quantizer->map->first];
    const float *last = &quantizer->map->table.value[quantizer->map->last];
    rule.low = first[0] - (first[1] - first[0]) * 0.5f;
    rule.high = last[0] + (last[0] - last[-1]) * 0.5f;
  } else {
    rule.high = quantizer->format == DTYPE_E4M3 ? E4M3_LARGEST + 16 : E5M2_LARGEST + 4096;
    rule.low = -rule.high;
  }
  return rule;
}

static bool check_compared(const Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale) {
  char text[TENSOR_SHAPE_TEXT_MAX], expected[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(row, x) || !check_compute_float(x->dtype, "dtype")) return false;
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
  bool codes = dtype_is_float8(values->dtype);
  if (codes && !scale) return error_set("codes need their scales");
  return codes || check_compute_float(values->dtype, "dtype");
}

bool op_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale,
                const QuantizeOptions *options) {
  Quantizer quantizer;
  CompareRule rule = {.blocksize = 1};
  if (!check_compared(row, x, values, scale)) return false;
  if (scale) {
    if (!make_quantizer(&quantizer, x, options) ||
        !check_scale(scale, x, block_count(x, &quantizer, options->blocks))) {
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
  if (done) tensor_changed(row);
  return done;
}

/* For what a backend does not do in one go. */
static bool quantize_and_compare(Tensor *row, const Tensor *x, const QuantizeOptions *options) {
  Tensor values = {0}, scale = {0};
  QuantizeOutputs outputs = {.scale = &scale};
  if (!format_is_hardware(options->format)) {
    outputs.values = &values;
  } else {
    outputs.codes = &values;
  }
  bool done = op_quantize(&outputs, x, options) && op_compare(row, x, &values, &scale, options);
  tensor_release(&values);
  tensor_release(&scale);
  return done;
}

bool op_compare_quantized(Tensor *row, const Tensor *x, const QuantizeOptions *options) {
  Quantizer quantizer;
  const Backend *backend = backend_for(x);
  DType dtype = !format_is_hardware(options->format) ? options->dtype : DTYPE_F32;
  if (!check_compared(row, x, NULL, NULL) || !check_compute_float(options->dtype, "dtype") ||
      !make_quantizer(&quantizer, x, options)) {
    return false;
  }
  Tensor input = {0}, known = {0};
  bool done = op_contiguous(&input, x);
  if (done && options->known_scale) {
    done = check_scale(options->known_scale, x, block_count(x, &quantizer, options->blocks)) &&
           op_contiguous(&known, options->known_scale);
    quantizer.known_scale = &known;
  }
  bool fitting = quantizer.rule.fitted && !options->known_scale;
  if (done && !fitting && backend->compares_quantized && backend->compares_quantized(&input, &quantizer, dtype)) {
    CompareRule rule = compare_rule(&input, &quantizer);
    done = backend->compare_quantized(row, &input, &quantizer, dtype, &rule);
    if (done) tensor_changed(row);
  } else if (done) {
    done = quantize_and_compare(row, &input, options);
  }
  tensor_release(&input);
  tensor_release(&known);
  return done;
}
