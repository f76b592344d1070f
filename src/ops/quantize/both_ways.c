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

/* The side of squares by both quantizers alike; 0 for anything else. */
static int64_t square_side(const Quantizer *along_rows, const Quantizer *along_columns) {
  int64_t side = along_rows->tile_rows;
  bool alike = along_rows->tile_columns == side && along_columns->tile_rows == side &&
               along_columns->tile_columns == side && along_rows->rule.rounding == along_columns->rule.rounding;
  return alike && side > 1 ? side : 0;
}

/* Whether the rounding says all of a rule, and a scale follows from absmax alone. */
static bool is_usual(const ScaleRule *rule) {
  return rule->rounding != SCALE_E4M3 && !rule->fitted && rule->headroom == 1 && rule->constant == 0;
}

static bool make_rule(BothWaysRule *rule, const Tensor *x, const Quantizer *along_rows,
                      const Quantizer *along_columns) {
  if (tensor_count(x) == 0) return false;
  int64_t columns = columns_of(x), rows = tensor_count(x) / columns;
  *rule = (BothWaysRule){.format = along_rows->format,
                         .row_run = row_run(along_rows, rows, columns),
                         .column_run = column_run(along_columns, rows, columns),
                         .row_rounding = along_rows->rule.rounding,
                         .column_rounding = along_columns->rule.rounding};
  int64_t side = square_side(along_rows, along_columns);
  if (side > 0) {
    rule->squares = true;
    rule->row_run = rule->column_run = side;
  }
  bool nearest = !along_rows->map && !along_columns->map && !along_rows->stochastic && !along_columns->stochastic;
  return nearest && is_usual(&along_rows->rule) && is_usual(&along_columns->rule) &&
         along_rows->format == along_columns->format && rule->row_run > 0 && rule->column_run > 0;
}

/* A view of scales (runs, elements) as one row of them an element, or as a vector where each has but one. */
static void turn_scales(Tensor *scale) {
  bool vector = scale->size[0] == 1;
  *scale = transposed(scale, 0, 1);
  if (vector) scale->rank = 1;
}

/* The scales of runs of all elements, or of squares, whose rows begin at multiples of 16 bytes. */
static bool create_scales(Tensor *scale, Device device, const BothWaysRule *rule, int64_t elements, int64_t length,
                          int64_t run) {
  enum { WORDS = 4 };
  int64_t size[2] = {divide_up(length, run), elements};
  if (!rule->squares) return tensor_create(scale, DTYPE_F32, device, 2, size);
  size[0] = divide_up(elements, run);
  int64_t across = divide_up(length, run);
  size[1] = divide_up(across, (int64_t)WORDS) * WORDS;
  if (!tensor_create(scale, DTYPE_F32, device, 2, size)) return false;
  scale->size[1] = across;
  return true;
}

static bool quantize_at_once(const BothWays *outputs, const Tensor *x, const BothWaysRule *rule, DType sum_dtype) {
  int64_t columns = columns_of(x), rows = tensor_count(x) / columns;
  int64_t turned[2] = {columns, rows};
  Device device = tensor_device(x);
  Tensor codes = {0}, scale = {0}, transposed_codes = {0}, transposed_scale = {0}, sum = {0};
  bool done = tensor_create_like(&codes, x, rule->format) &&
              create_scales(&scale, device, rule, rows, columns, rule->row_run) &&
              tensor_create(&transposed_codes, rule->format, device, 2, turned) &&
              create_scales(&transposed_scale, device, rule, columns, rows, rule->column_run) &&
              (!outputs->column_sum || tensor_create(&sum, sum_dtype, device, 1, &columns));
  BothWays made = {&codes, &scale, &transposed_codes, &transposed_scale, outputs->column_sum ? &sum : NULL};
  done = done && backend_for(x)->quantize_both_ways(&made, x, rule);
  if (done && !rule->squares) {
    turn_scales(&scale);
    turn_scales(&transposed_scale);
  }
  if (outputs->column_sum) hand_over(outputs->column_sum, &sum, done);
  hand_over(outputs->codes, &codes, done);
  hand_over(outputs->scale, &scale, done);
  hand_over(outputs->transposed, &transposed_codes, done);
  return hand_over(outputs->transposed_scale, &transposed_scale, done);
}

/* Scales in row-major order as a matrix of `rows`, turned if they are those of columns; a vector where each row, or column,
 * has but one. */
static void shape_scales(Tensor *scale, int64_t rows, bool turned) {
  int64_t columns = tensor_count(scale) / rows;
  if (turned ? rows == 1 : columns == 1) return;
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
  if (tensor_count(x) == 0) return true;
  int64_t columns = columns_of(x), rows = tensor_count(x) / columns;
  int64_t side = square_side(rows_quantizer, columns_quantizer), run = column_run(columns_quantizer, rows, columns);
  if (side > 0) {
    shape_scales(outputs->scale, divide_up(rows, side), false);
    shape_scales(outputs->transposed_scale, divide_up(rows, side), true);
  } else {
    if (row_run(rows_quantizer, rows, columns) > 0) shape_scales(outputs->scale, rows, false);
    if (run > 0) shape_scales(outputs->transposed_scale, divide_up(rows, run), true);
  }
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
