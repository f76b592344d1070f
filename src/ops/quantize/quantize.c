/* Quantization, and back. */
#include "ops/support/quantizer.h"

bool check_quantize_outputs(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options) {
  if (!check_compute_float(x->dtype, "dtype") || (outputs->values && !check_compute_float(options->dtype, "dtype")) ||
      (outputs->column_sum && !check_compute_float(options->sum_dtype, "dtype"))) {
    return false;
  }
  if (options->scale_count > 0 && (options->blocks.length > 0 || options->blocks.rows > 0)) {
    return error_set("only the scale of a whole tensor is repeated");
  }
  if (options->known_scale && options->scale_rounding == SCALE_E4M3) {
    return error_set("scales of 'e4m3' can't be known before");
  }
  if (outputs->transposed && !format_is_hardware(options->format))
    return error_set("only codes of e4m3 and e5m2 can be transposed");
  return true;
}

enum { CODES, TRANSPOSED, VALUES, SCALE, COLUMN_SUM };
_Static_assert(COLUMN_SUM + 1 == QUANTIZE_OUTPUTS, "one tensor for each");

bool create_quantize_outputs(Tensor created[QUANTIZE_OUTPUTS], QuantizeOutputs *targets, const QuantizeOutputs *wanted,
                             const Tensor *x, const Quantizer *quantizer, const QuantizeOptions *options) {
  *targets = (QuantizeOutputs){
      .codes = wanted->codes ? &created[CODES] : NULL,
      .transposed = wanted->transposed ? &created[TRANSPOSED] : NULL,
      .values = wanted->values ? &created[VALUES] : NULL,
      .scale = wanted->scale ? &created[SCALE] : NULL,
      .column_sum = wanted->column_sum ? &created[COLUMN_SUM] : NULL,
  };
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

bool hand_over_quantized(const QuantizeOutputs *outputs, Tensor created[QUANTIZE_OUTPUTS], bool done) {
  Tensor *receivers[QUANTIZE_OUTPUTS] = {outputs->codes, outputs->transposed, outputs->values, outputs->scale,
                                         outputs->column_sum};
  for (int i = 0; i < QUANTIZE_OUTPUTS; i++) {
    if (receivers[i]) hand_over(receivers[i], &created[i], done);
  }
  return done;
}

bool op_quantize(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options) {
  if (fit_is_wanted(&options->fit) && options->known_scale && options->scale_rounding == SCALE_E4M3) {
    QuantizeOptions known = *options;
    known.scale_rounding = SCALE_EXACT;
    known.upper = UPPER_NONE;
    return op_quantize(outputs, x, &known);
  }
  Quantizer quantizer;
  QuantizeOutputs targets;
  if (!check_quantize_outputs(outputs, x, options) || !make_drawing_quantizer(&quantizer, x, options)) return false;
  Tensor input = {0}, known = {0}, created[QUANTIZE_OUTPUTS] = {{0}};
  bool done = op_contiguous(&input, x) && create_quantize_outputs(created, &targets, outputs, x, &quantizer, options);
  if (done && options->known_scale) {
    done = check_scale(options->known_scale, x, block_count(x, &quantizer, options->blocks)) &&
           op_contiguous(&known, options->known_scale);
    quantizer.known_scale = &known;
  }
  QuantizeWay way = {.outputs = targets, .quantizer = quantizer, .upper = options->upper};
  way.outputs.column_sum = NULL;
  if (!options->known_scale) way.fit = options->fit;
  done = done && draw_for_way(&way, &input) && quantize_way(targets.column_sum, &input, &way);
  tensor_release(&input);
  tensor_release(&known);
  return hand_over_quantized(outputs, created, done);
}

/* --- of an activation function, or of its gradient --- */

static bool check_source(const Activated *source) {
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  const Tensor *x = source->x, *grad = source->grad;
  if (!grad) return true;
  if (!same_device(x, grad)) return false;
  if (grad->dtype == x->dtype && tensor_same_shape(grad, x)) return true;
  return error_set("the gradient must be %s of shape %s, got %s of shape %s", dtype_name(x->dtype),
                   tensor_shape_text(x, first), dtype_name(grad->dtype), tensor_shape_text(grad, second));
}

bool check_quantize_made(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options,
                         const HistoryChange *history) {
  if (!check_quantize_outputs(outputs, x, options)) return false;
  if (history->tensor && fit_is_wanted(&options->fit)) return error_set("a fitted scale has no history");
  if (history->tensor && !check_history(history->tensor, x)) return false;
  if (!options->known_scale && outputs->scale) return true;
  return error_set("the scale is found here, and is one of the outputs");
}

bool quantize_by_history(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options,
                         const HistoryChange *history) {
  Tensor scale = {0};
  QuantizeOptions scaled = *options;
  if (!history->tensor) return op_quantize(outputs, x, options);
  scaled.known_scale = &scale;
  bool done =
      op_delayed_scale(&scale, x, history->tensor, options, history->record) && op_quantize(outputs, x, &scaled);
  tensor_release(&scale);
  return done;
}

/* In several steps, for devices and tensors without a kernel for all of them. */
static bool quantize_separately(const QuantizeOutputs *outputs, const Activated *source, const QuantizeOptions *options,
                                const HistoryChange *history) {
  Tensor value = {0};
  Operand x = {.tensor = source->x}, grad = {.tensor = source->grad};
  bool done = source->grad ? op_binary(activation_gradient(source->op), &value, grad, x)
                           : op_unary(source->op, &value, source->x);
  done = done && quantize_by_history(outputs, &value, options, history);
  tensor_release(&value);
  return done;
}

bool op_quantize_activated(const QuantizeOutputs *outputs, const Activated *source, const QuantizeOptions *options,
                           const HistoryChange *history) {
  const Tensor *x = source->x;
  const Backend *backend = backend_for(x);
  Quantizer quantizer;
  QuantizeOutputs targets;
  if (!check_quantize_made(outputs, x, options, history) || !check_source(source) ||
      !make_quantizer(&quantizer, x, options)) {
    return false;
  }
  if (quantizer.rule.fitted || !backend->quantizes_activated ||
      !backend->quantizes_activated(outputs, source, &quantizer)) {
    return quantize_separately(outputs, source, options, history);
  }
  Tensor created[QUANTIZE_OUTPUTS] = {{0}};
  HistoryRecord record = history_record(history->record, x);
  bool done = create_quantize_outputs(created, &targets, outputs, x, &quantizer, options) &&
              backend->quantize_activated(&targets, source, &quantizer, history->tensor, record);
  if (done && history->tensor && record != HISTORY_KEEP) tensor_changed(history->tensor);
  return hand_over_quantized(outputs, created, done);
}

bool op_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, const QuantizeOptions *options) {
  Quantizer quantizer;
  DType dtype = options->dtype;
  if (!check_compute_float(dtype, "dtype") || !same_device(codes, scale) ||
      !make_quantizer(&quantizer, codes, options)) {
    return false;
  }
  if (codes->dtype != quantizer.format) {
    return error_set("codes of this format have dtype %s, got %s", dtype_name(quantizer.format),
                     dtype_name(codes->dtype));
  }
  if (!check_scale(scale, codes, block_count(codes, &quantizer, options->blocks))) return false;
  Tensor input = {0}, factors = {0}, created = {0};
  bool done = op_contiguous(&input, codes) && op_contiguous(&factors, scale) &&
              tensor_create_like(&created, codes, dtype) &&
              backend_for(codes)->dequantize(&created, &input, &factors, &quantizer);
  tensor_release(&input);
  tensor_release(&factors);
  return hand_over(out, &created, done);
}
