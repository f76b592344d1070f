/* Quantization of a matrix along its rows and along its columns: at once where the backend can, else one after the other. */
#include "ops/support/quantizer.h"

/* The length of runs of elements that follow one another, along rows or down columns, with a scale each, and all in one row
 * or column; 0 for other blocks. */
static int64_t row_run(const Quantizer *quantizer, int64_t rows, int64_t columns) {
  if (quantizer->tile_rows > 0) return quantizer->tile_rows == 1 ? quantizer->tile_columns : 0;
  bool inside = quantizer->blocksize <= columns && (columns % quantizer->blocksize == 0 || rows == 1);
  return inside ? quantizer->blocksize : 0;
}

static int64_t column_run(const Quantizer *quantizer, int64_t rows, int64_t columns) {
  if (quantizer->tile_rows > 0) return quantizer->tile_columns == 1 ? quantizer->tile_rows : 0;
  return columns == 1 && quantizer->blocksize <= rows ? quantizer->blocksize : 0;
}

static bool make_rule(BothWaysRule *rule, const Tensor *x, const Quantizer *along_rows,
                      const Quantizer *along_columns) {
  if (tensor_count(x) == 0) return false;
  int64_t columns = columns_of(x), rows = tensor_count(x) / columns;
  *rule = (BothWaysRule){.format = along_rows->format,
                         .row_run = row_run(along_rows, rows, columns),
                         .column_run = column_run(along_columns, rows, columns),
                         .row_rounding = along_rows->scale_rounding,
                         .column_rounding = along_columns->scale_rounding};
  bool nearest = !along_rows->map && !along_columns->map && !along_rows->stochastic && !along_columns->stochastic;
  return nearest && along_rows->format == along_columns->format && rule->row_run > 0 && rule->column_run > 0;
}

/* A view of scales (runs, elements) as one row of them an element, or as a vector where each has but one. */
static void turn_scales(Tensor *scale) {
  bool vector = scale->size[0] == 1;
  *scale = transposed(scale, 0, 1);
  if (vector) scale->rank = 1;
}

static bool quantize_at_once(const BothWays *outputs, const Tensor *x, const BothWaysRule *rule, DType sum_dtype) {
  int64_t columns = columns_of(x), rows = tensor_count(x) / columns;
  int64_t turned[2] = {columns, rows}, row_scales[2] = {divide_up(columns, rule->row_run), rows},
          column_scales[2] = {divide_up(rows, rule->column_run), columns};
  Device device = tensor_device(x);
  Tensor codes = {0}, scale = {0}, transposed_codes = {0}, transposed_scale = {0}, sum = {0};
  bool done = tensor_create_like(&codes, x, rule->format) && tensor_create(&scale, DTYPE_F32, device, 2, row_scales) &&
              tensor_create(&transposed_codes, rule->format, device, 2, turned) &&
              tensor_create(&transposed_scale, DTYPE_F32, device, 2, column_scales) &&
              (!outputs->column_sum || tensor_create(&sum, sum_dtype, device, 1, &columns));
  BothWays made = {&codes, &scale, &transposed_codes, &transposed_scale, outputs->column_sum ? &sum : NULL};
  done = done && backend_for(x)->quantize_both_ways(&made, x, rule);
  turn_scales(&scale);
  turn_scales(&transposed_scale);
  if (outputs->column_sum) hand_over(outputs->column_sum, &sum, done);
  hand_over(outputs->codes, &codes, done);
  hand_over(outputs->scale, &scale, done);
  hand_over(outputs->transposed, &transposed_codes, done);
  return hand_over(outputs->transposed_scale, &transposed_scale, done);
}

/* Scales in row-major order as a matrix of `rows`, turned if they are those of columns. */
static void shape_scales(Tensor *scale, int64_t rows, bool turned) {
  int64_t columns = rows > 0 ? tensor_count(scale) / rows : 0;
  if (turned ? rows <= 1 : columns <= 1) return;
  scale->rank = 2;
  scale->size[0] = rows;
  scale->size[1] = scale->stride[0] = columns;
  scale->stride[1] = 1;
  if (turned) *scale = transposed(scale, 0, 1);
}

static bool quantize_in_turn(const BothWays *outputs, const Tensor *x, const QuantizeOptions *along_rows,
                             const QuantizeOptions *along_columns, const Quantizer *rows_quantizer,
                             const Quantizer *columns_quantizer) {
  QuantizeOutputs first = {.codes = outputs->codes, .scale = outputs->scale, .column_sum = outputs->column_sum};
  QuantizeOutputs second = {.transposed = outputs->transposed, .scale = outputs->transposed_scale};
  if (!op_quantize(&first, x, along_rows)) return false;
  if (!op_quantize(&second, x, along_columns)) {
    tensor_release(outputs->codes);
    tensor_release(outputs->scale);
    if (outputs->column_sum) tensor_release(outputs->column_sum);
    return false;
  }
  int64_t columns = columns_of(x), rows = columns > 0 ? tensor_count(x) / columns : 0;
  if (rows > 0 && row_run(rows_quantizer, rows, columns) > 0) shape_scales(outputs->scale, rows, false);
  int64_t run = rows > 0 ? column_run(columns_quantizer, rows, columns) : 0;
  if (run > 0) shape_scales(outputs->transposed_scale, divide_up(rows, run), true);
  return true;
}

bool op_quantize_both_ways(const BothWays *outputs, const Tensor *x, const QuantizeOptions *along_rows,
                           const QuantizeOptions *along_columns) {
  Quantizer rows_quantizer, columns_quantizer;
  BothWaysRule rule;
  const Backend *backend = backend_for(x);
  if (!check_compute_float(x->dtype, "dtype") ||
      (outputs->column_sum && !check_compute_float(along_rows->sum_dtype, "dtype")) ||
      !make_quantizer(&rows_quantizer, x, along_rows) || !make_quantizer(&columns_quantizer, x, along_columns)) {
    return false;
  }
  Tensor input = {0};
  if (!op_contiguous(&input, x)) return false;
  bool at_once = make_rule(&rule, &input, &rows_quantizer, &columns_quantizer) && backend->quantizes_both_ways &&
                 backend->quantizes_both_ways(&input, &rule);
  bool done = at_once
                  ? quantize_at_once(outputs, &input, &rule, along_rows->sum_dtype)
                  : quantize_in_turn(outputs, &input, along_rows, along_columns, &rows_quantizer, &columns_quantizer);
  tensor_release(&input);
  return done;
}
