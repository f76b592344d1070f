/* Quantization in tiles: how they are cut into patches, and whether one pass is enough. */
#include "cuda/quantize/tiles.h"

/* For vectors of 16 bytes of `dtype`, or 1. */
static int width_of(DType dtype, const void *data, const QuantizePlan *plan, int64_t columns) {
  enum { VECTOR = 16 };
  int width = (int)(VECTOR / dtype_size(dtype));
  bool aligned = is_aligned(data, VECTOR) && is_aligned(plan->values, VECTOR) && is_aligned(plan->codes, width);
  return aligned && columns % width == 0 ? width : 1;
}

static TilesPlan describe(const QuantizePlan *plan, const Quantizer *quantizer, int64_t columns, int width) {
  TilesPlan tiles = {.quantize = *plan, .rows = plan->count / columns, .columns = columns, .width = width};
  tiles.tile_rows = quantizer->tile_rows;
  tiles.tile_columns = quantizer->tile_columns;
  /* A single row of tiles may as well be longer than the matrix: as a whole number of patches. */
  if (tiles.tile_rows >= tiles.rows) {
    tiles.tile_rows = divide_up(tiles.rows, TILES_SIDE) * TILES_SIDE;
  }
  tiles.tiles_across = divide_up(columns, tiles.tile_columns);
  tiles.looks_up = plan->map && !plan->known_scale && !plan->stochastic && cuda_looks_up(quantizer) &&
                   (!isinf(plan->rule.limit) || plan->rule.rounding == SCALE_EXACT);
  return tiles;
}

static int64_t common_multiple(int64_t a, int64_t b) {
  int64_t greatest = a, rest = b;
  while (rest > 0) {
    int64_t next = greatest % rest;
    greatest = rest;
    rest = next;
  }
  return a / greatest * b;
}

/* Patches of whole tiles; false if none fits. */
static bool cut_at_tiles(TilesPlan *tiles) {
  if (tiles->tile_rows > TILES_SIDE || tiles->tile_columns > TILES_SIDE) return false;
  int64_t unit = common_multiple(tiles->tile_columns, tiles->width);
  if (unit > TILES_SIDE) return false;
  tiles->patch_columns = (int)(TILES_SIDE / unit * unit);
  int64_t across = tiles->tile_columns == 1 ? TILES_SIDE : tiles->patch_columns / tiles->tile_columns;
  int64_t down = TILES_SIDE / tiles->tile_rows;
  if (down * across > TILES_MOST) down = TILES_MOST / across;
  tiles->patch_rows = (int)(down * tiles->tile_rows);
  return true;
}

/* Patches as large as they can be, which may cut tiles. */
static void cut_anywhere(TilesPlan *tiles) {
  int64_t across = tiles->tile_columns == 1 ? TILES_SIDE : TILES_SIDE / tiles->tile_columns + 2;
  int64_t rows = (TILES_MOST / across - 2) * tiles->tile_rows;
  tiles->patch_columns = TILES_SIDE;
  tiles->patch_rows = rows < TILES_SIDE ? (int)rows : TILES_SIDE;
}

bool cuda_quantize_tiles(const CudaDevice *device, const QuantizePlan *plan, const Quantizer *quantizer,
                         int64_t columns) {
  TilesPlan tiles = describe(plan, quantizer, columns, width_of(plan->dtype, plan->x, plan, columns));
  if (!plan->known_scale && cut_at_tiles(&tiles)) {
    return cuda_launched(device, launch_quantize_tiles(device->launch, &tiles), "quantize kernel");
  }
  cut_anywhere(&tiles);
  if (plan->known_scale) return cuda_launched(device, launch_quantize_tiles(device->launch, &tiles), "quantize kernel");
  int64_t tiles_down = divide_up(tiles.rows, tiles.tile_rows);
  int64_t bytes = tiles_down * tiles.tiles_across * (int64_t)sizeof(uint32_t);
  Tensor magnitudes = {0};
  if (!cuda_scratch(&magnitudes, device, bytes)) return false;
  uint32_t *words = tensor_data(&magnitudes);
  tiles.quantize.magnitudes = words;
  bool done = cuda_check(cudaMemsetAsync(words, 0, (size_t)bytes, device->launch.stream), "cudaMemsetAsync") &&
              cuda_launched(device, launch_tile_magnitudes(device->launch, &tiles, words), "absmax kernel") &&
              cuda_launched(device, launch_quantize_tiles(device->launch, &tiles), "quantize kernel");
  tensor_release(&magnitudes);
  return done;
}

bool cuda_dequantize_tiles(const CudaDevice *device, const QuantizePlan *plan, const Quantizer *quantizer,
                           int64_t columns) {
  TilesPlan tiles = describe(plan, quantizer, columns, width_of(plan->values_dtype, plan->values, plan, columns));
  return cuda_launched(device, launch_dequantize_tiles(device->launch, &tiles), "dequantize kernel");
}
