#include "ops/support/quantizer.h"

static bool compile_format(Quantizer *quantizer, Format format) {
  if (format_is_hardware(format)) {
    quantizer->format = format.hardware;
    return true;
  }
  quantizer->format = DTYPE_U8;
  if (format.small) {
    quantizer->map = small_format_map(format.small);
    quantizer->grid = format.small->grid;
    return quantizer->map != NULL;
  }
  const Tensor *map = format.map;
  char text[TENSOR_SHAPE_TEXT_MAX], name[DEVICE_NAME_MAX];
  if (map->dtype != DTYPE_F32 || map->rank != 1 || map->size[0] != MAP_SIZE || tensor_device(map).kind != DEVICE_CPU) {
    return error_set("a map must be an f32 tensor of shape (256) on the CPU, got %s of shape %s on %s",
                     dtype_name(map->dtype), tensor_shape_text(map, text), device_name(tensor_device(map), name));
  }
  float values[MAP_SIZE];
  if (!op_to_host(map, values)) return false;
  quantizer->map = map_compile(values, 0, MAP_SIZE - 1, LOOKUP_LIMIT);
  return quantizer->map != NULL;
}

int64_t columns_of(const Tensor *x) { return x->rank > 0 ? x->size[x->rank - 1] : 1; }

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

static ScaleRule rule_of(const QuantizeOptions *options) {
  Format format = options->format;
  ScaleRule rule = scale_rule(format_is_hardware(format) ? format.hardware : DTYPE_U8, options->scale_rounding);
  if (format.small) {
    rule.largest = rule.limit = format.small->largest;
    rule.exponent = format.small->exponent;
    rule.mantissa_bits = format.small->mantissa_bits;
  }
  if (options->headroom > 0) rule.headroom = options->headroom;
  rule.constant = options->constant_scale;
  rule.fitted = fit_is_wanted(&options->fit);
  return rule;
}

/* How many blocks follow one another in each row; false if some lie in several. */
static bool blocks_of_rows(Quantizer *quantizer, const Tensor *x) {
  int64_t columns = columns_of(x);
  if (tensor_count(x) == 0) return true;
  if (quantizer->tile_rows > 0) {
    quantizer->upper_each = divide_up(columns, quantizer->tile_columns);
    return quantizer->tile_rows == 1;
  }
  quantizer->upper_each = divide_up(columns, quantizer->blocksize);
  return columns % quantizer->blocksize == 0 || tensor_count(x) == columns;
}

bool make_drawing_quantizer(Quantizer *quantizer, const Tensor *x, const QuantizeOptions *options) {
  Blocks blocks = options->blocks;
  *quantizer = (Quantizer){.divide = options->format.map && blocks.length == 0 && blocks.rows == 0,
                           .rule = rule_of(options),
                           .stochastic = options->stochastic};
  set_blocks(quantizer, x, blocks);
  if (options->upper == UPPER_ROW && !blocks_of_rows(quantizer, x)) {
    return error_set("a second scale for each row needs blocks that lie in one row each");
  }
  return compile_format(quantizer, options->format);
}

bool make_quantizer(Quantizer *quantizer, const Tensor *x, const QuantizeOptions *options) {
  return make_drawing_quantizer(quantizer, x, options) && (!options->stochastic || op_check_random());
}

bool measure_upper_scales(Tensor *upper, const Tensor *x, UpperLevel level) {
  Quantizer absmax = {.format = DTYPE_E4M3, .blocksize = columns_of(x), .rule = scale_rule(DTYPE_U8, SCALE_EXACT)};
  Device device = tensor_device(x);
  int64_t scales = level == UPPER_ROW ? tensor_count(x) / absmax.blocksize : 1;
  if (!tensor_create(upper, DTYPE_F32, device, 1, &scales)) return false;
  if (level == UPPER_ROW) {
    QuantizeOutputs outputs = {.scale = upper};
    return backend_for(x)->quantize(&outputs, x, &absmax);
  }
  /* Without a history to speak of, the scale is that of x itself. */
  Tensor history = {0};
  bool done = tensor_create(&history, DTYPE_F32, device, 1, &scales) && backend_for(x)->fill(&history, number_of(0)) &&
              backend_for(x)->delayed_scale(upper, x, &history, &absmax, HISTORY_KEEP);
  tensor_release(&history);
  return done;
}

int64_t block_count(const Tensor *x, const Quantizer *quantizer, Blocks blocks) {
  if (blocks.length == 0 && blocks.rows == 0) return 1;
  if (quantizer->tile_rows == 0) return divide_up(tensor_count(x), quantizer->blocksize);
  int64_t columns = columns_of(x);
  return divide_up(tensor_count(x) / columns, quantizer->tile_rows) * divide_up(columns, quantizer->tile_columns);
}

bool check_scale(const Tensor *scale, const Tensor *x, int64_t blocks) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(scale, x)) return false;
  if (scale->dtype == DTYPE_F32 && scale->rank == 1 && scale->size[0] == blocks) return true;
  return error_set("absmax must be f32 of shape (%lld), one for each block, got %s of shape %s", (long long)blocks,
                   dtype_name(scale->dtype), tensor_shape_text(scale, text));
}
