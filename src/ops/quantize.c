/* Quantization, and back. */
#include "ops/support/quantizer.h"

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
  if (!check_compute_float(x->dtype, "dtype") || (outputs->values && !check_compute_float(options->dtype, "dtype")) ||
      (outputs->column_sum && !check_compute_float(options->sum_dtype, "dtype")) ||
      !make_quantizer(&quantizer, x, options)) {
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
  if (done && quantizer.stochastic) quantizer.random = op_next_random(tensor_count(x));
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
