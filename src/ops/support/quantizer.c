#include "ops/support/quantizer.h"

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

bool make_quantizer(Quantizer *quantizer, const Tensor *x, const QuantizeOptions *options) {
  const Tensor *map = options->format.map;
  Blocks blocks = options->blocks;
  *quantizer = (Quantizer){.divide = map && blocks.length == 0 && blocks.rows == 0,
                           .scale_rounding = options->scale_rounding,
                           .stochastic = options->stochastic};
  set_blocks(quantizer, x, blocks);
  if (map && options->scale_rounding == SCALE_MX) {
    return error_set("scales of 'mx' are for e4m3 and e5m2, not for maps");
  }
  if (!compile_format(quantizer, options->format)) return false;
  return !options->stochastic || op_check_random();
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
