/* Quantization of matrices in tiles.
 *
 * The work is cut into units of whole tiles: of one row of tiles, as many as span about WIDTH columns, or a single wider
 * one. A unit finds the largest magnitude of each column and from these its tiles' scales, and then goes through its
 * rows with a scale for every column, so that loops are long whatever the shape of the tiles. */
#include <math.h>
#include <string.h>

#include "cpu/parallel.h"
#include "cpu/quantize/codes.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

enum { WIDTH = 256 };

/* x to any of codes, scale and out. Dequantizing: codes and scale to out. */
typedef struct Tiles {
  const Quantizer *quantizer;
  const Search *search; /* NULL for hardware formats */
  const void *x;
  uint8_t *codes;
  float *scale;
  const float *known_scale; /* instead of measuring, or NULL */
  void *out;
  DType x_dtype, out_dtype;
  int64_t rows, columns, tile_rows, tile_columns;
  int64_t tiles_across;
  int64_t unit_columns, units_across;
  UpperScale upper;
  bool is_fetched; /* ahead of its turn (vectors.h) */
} Tiles;

typedef struct Unit {
  int64_t row, end_row, column, end_column;
  int64_t tile, tiles; /* the number of its first tile, and how many it has */
} Unit;

/* Scales of up to WIDTH columns. */
typedef struct ColumnScales {
  float scale[WIDTH], inverse[WIDTH]; /* the inverse is 0 where elements count as 0 */
  bool divide, broken;                /* whether any column's inverse is infinite, any scale NaN */
} ColumnScales;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static Tiles describe(const Quantizer *quantizer, const Tensor *x) {
  Tensor matrix = tensor_as_matrix(x);
  Tiles job = {.quantizer = quantizer, .rows = matrix.size[0], .columns = matrix.size[1]};
  if (job.rows == 0 || job.columns == 0) return job;
  job.is_fetched = is_fetched(job.rows * job.columns * dtype_size(x->dtype));
  job.tile_rows = smaller(quantizer->tile_rows, job.rows);
  job.tile_columns = smaller(quantizer->tile_columns, job.columns);
  job.tiles_across = divide_up(job.columns, job.tile_columns);
  job.unit_columns = job.tile_columns >= WIDTH ? job.tile_columns : WIDTH / job.tile_columns * job.tile_columns;
  job.units_across = divide_up(job.columns, job.unit_columns);
  return job;
}

static Unit unit_at(const Tiles *job, int64_t number) {
  int64_t row = number / job->units_across * job->tile_rows, column = number % job->units_across * job->unit_columns;
  Unit unit = {.row = row,
               .end_row = smaller(row + job->tile_rows, job->rows),
               .column = column,
               .end_column = smaller(column + job->unit_columns, job->columns)};
  unit.tile = row / job->tile_rows * job->tiles_across + column / job->tile_columns;
  unit.tiles = divide_up(unit.end_column - column, job->tile_columns);
  return unit;
}

/* --- scales --- */

VECTORIZE static void raise_magnitudes(uint32_t *restrict largest, const float *restrict x, int n) {
  for (int i = 0; i < n; i++) {
    uint32_t magnitude = float_to_bits(x[i]) & 0x7FFFFFFF;
    largest[i] = magnitude > largest[i] ? magnitude : largest[i];
  }
}

/* Where a tile of the unit ends among n columns from `column` on. */
static int end_of_tile(const Tiles *job, const Unit *unit, int64_t column, int64_t tile, int n) {
  return (int)smaller(unit->column + (tile + 1) * job->tile_columns - column, n);
}

/* What scales the elements of a unit's tiles: 0 as the inverse where they count as 0. */
typedef struct TileScales {
  float scale[WIDTH], inverse[WIDTH];
} TileScales;

static void measure(const Tiles *job, const Unit *unit, TileScales *tiles) {
  uint32_t largest[WIDTH] = {0};
  for (int64_t column = unit->column; column < unit->end_column; column += WIDTH) {
    int n = (int)smaller(unit->end_column - column, WIDTH);
    uint32_t of_column[WIDTH] = {0};
    float buffer[WIDTH];
    for (int64_t row = unit->row; row < unit->end_row; row++) {
      raise_magnitudes(of_column, load_floats(job->x_dtype, job->x, row * job->columns + column, n, buffer), n);
    }
    if (job->tile_columns == 1) {
      memcpy(largest, of_column, sizeof largest);
      continue;
    }
    int64_t tile = (column - unit->column) / job->tile_columns;
    for (int i = 0; i < n; tile++) {
      int end = end_of_tile(job, unit, column, tile, n);
      for (; i < end; i++) largest[tile] = of_column[i] > largest[tile] ? of_column[i] : largest[tile];
    }
  }
  scales_of_blocks(job->quantizer, &job->upper, unit->tile, largest, tiles->scale, tiles->inverse, (int)unit->tiles);
}

static void take_known(const Unit *unit, const float *scale, TileScales *tiles) {
  known_scales(scale + unit->tile, tiles->scale, tiles->inverse, (int)unit->tiles);
}

VECTORIZE static void note_rare(ColumnScales *columns, int n) {
  int divide = 0, broken = 0;
  for (int i = 0; i < n; i++) {
    divide |= isinf(columns->inverse[i]) != 0;
    broken |= columns->scale[i] != columns->scale[i];
  }
  columns->divide = divide;
  columns->broken = broken;
}

/* Of n columns from `column` on. */
static void spread(ColumnScales *columns, const Tiles *job, const Unit *unit, const TileScales *tiles, int64_t column,
                   int n) {
  int64_t tile = (column - unit->column) / job->tile_columns;
  for (int i = 0; i < n && job->tile_columns > 1; tile++) {
    float scale = tiles->scale[tile], inverse = tiles->inverse[tile];
    for (int end = end_of_tile(job, unit, column, tile, n); i < end; i++) {
      columns->scale[i] = scale;
      columns->inverse[i] = inverse;
    }
  }
  if (job->tile_columns == 1) {
    memcpy(columns->scale, tiles->scale, sizeof columns->scale);
    memcpy(columns->inverse, tiles->inverse, sizeof columns->inverse);
  }
  note_rare(columns, n);
}

/* --- rows --- */

VECTORIZE static void scale_row(float *restrict out, const float *restrict x, const float *restrict inverse, int n) {
  for (int i = 0; i < n; i++) out[i] = inverse[i] == 0 ? 0.0f : x[i] * inverse[i];
}

static void divide_row(float *out, const float *x, const ColumnScales *columns, int n) {
  for (int i = 0; i < n; i++) {
    if (isinf(columns->inverse[i])) out[i] = x[i] / columns->scale[i];
  }
}

/* As scaled_element cuts them off. */
VECTORIZE static void limit_row(float *restrict scaled, float limit, int n) {
  for (int i = 0; i < n; i++) {
    float below = scaled[i] > limit ? limit : scaled[i];
    scaled[i] = below < -limit ? -limit : below;
  }
}

VECTORIZE static void break_codes(uint8_t *restrict codes, const float *restrict scale, int n) {
  for (int i = 0; i < n; i++) codes[i] = scale[i] != scale[i] ? FLOAT8_NAN : codes[i];
}

/* Elements from `start` on, those of the next columns, and where their results go. */
static void fetch(const Tiles *job, int64_t start, int n) {
  if (!job->is_fetched) return;
  if (job->x) fetch_elements(job->x_dtype, job->x, start, n);
  if (job->codes) fetch_ahead(job->codes + start, n);
  if (job->out) fetch_elements(job->out_dtype, job->out, start, n);
}

/* n elements from `start` on. */
static void quantize_row(const Tiles *job, const ColumnScales *columns, int64_t start, int n) {
  float buffer[WIDTH], scaled[WIDTH];
  uint8_t *codes = job->codes ? job->codes + start : NULL;
  fetch(job, start + n, n);
  const float *x = load_floats(job->x_dtype, job->x, start, n, buffer);
  scale_row(scaled, x, columns->inverse, n);
  if (columns->divide) divide_row(scaled, x, columns, n);
  if (job->search) limit_row(scaled, job->quantizer->rule.limit, n);
  round_scaled(job->quantizer, job->search, codes, scaled, start, n);
  if (codes && columns->broken && !job->search) break_codes(codes, columns->scale, n);
  if (!job->out) return;
  float *out = job->out_dtype == DTYPE_F32 ? (float *)job->out + start : scaled;
  multiply_floats(out, scaled, columns->scale, n);
  store_floats(job->out_dtype, job->out, start, n, out);
}

static void decode_row(const Tiles *job, const ColumnScales *columns, const uint8_t *codes, int64_t start, int n) {
  float values[WIDTH];
  float *out = job->out_dtype == DTYPE_F32 ? (float *)job->out + start : values;
  fetch(job, start + n, n);
  decode_scaled(job->quantizer, out, codes, 1.0f, n);
  multiply_floats(out, out, columns->scale, n);
  store_floats(job->out_dtype, job->out, start, n, out);
}

/* --- units --- */

static void quantize_units(int64_t begin, int64_t end, const void *context) {
  const Tiles *job = context;
  for (int64_t number = begin; number < end; number++) {
    Unit unit = unit_at(job, number);
    TileScales tiles;
    if (job->known_scale) {
      take_known(&unit, job->known_scale, &tiles);
    } else {
      measure(job, &unit, &tiles);
    }
    for (int64_t i = 0; job->scale && i < unit.tiles; i++) job->scale[unit.tile + i] = tiles.scale[i];
    for (int64_t column = unit.column; column < unit.end_column; column += WIDTH) {
      int n = (int)smaller(unit.end_column - column, WIDTH);
      ColumnScales columns;
      spread(&columns, job, &unit, &tiles, column, n);
      for (int64_t row = unit.row; row < unit.end_row; row++) {
        quantize_row(job, &columns, row * job->columns + column, n);
      }
    }
  }
}

static void dequantize_units(int64_t begin, int64_t end, const void *context) {
  const Tiles *job = context;
  for (int64_t number = begin; number < end; number++) {
    Unit unit = unit_at(job, number);
    TileScales tiles;
    take_known(&unit, job->scale, &tiles);
    for (int64_t column = unit.column; column < unit.end_column; column += WIDTH) {
      int n = (int)smaller(unit.end_column - column, WIDTH);
      ColumnScales columns;
      spread(&columns, job, &unit, &tiles, column, n);
      for (int64_t row = unit.row; row < unit.end_row; row++) {
        int64_t start = row * job->columns + column;
        decode_row(job, &columns, job->codes + start, start, n);
      }
    }
  }
}

static void for_units(const Tiles *job, ParallelBody body) {
  if (job->rows == 0 || job->columns == 0) return;
  int64_t units = divide_up(job->rows, job->tile_rows) * job->units_across;
  parallel_for(units, job->tile_rows * smaller(job->unit_columns, job->columns), body, job);
}

bool quantize_tiles(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  Tiles job = describe(quantizer, x);
  job.x = tensor_data(x);
  job.x_dtype = x->dtype;
  job.upper = upper_of_all(quantizer);
  if (outputs->codes) job.codes = tensor_data(outputs->codes);
  if (outputs->scale) job.scale = tensor_data(outputs->scale);
  if (outputs->values) {
    job.out = tensor_data(outputs->values);
    job.out_dtype = outputs->values->dtype;
  }
  if (quantizer->known_scale) job.known_scale = tensor_data(quantizer->known_scale);
  if (quantizer->map) {
    job.search = search_of(quantizer->map, quantizer->stochastic);
    if (!job.search) return false;
  }
  for_units(&job, quantize_units);
  return true;
}

void dequantize_tiles(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer) {
  Tiles job = describe(quantizer, codes);
  job.codes = tensor_data(codes);
  job.scale = tensor_data(scale);
  job.out = tensor_data(out);
  job.out_dtype = out->dtype;
  for_units(&job, dequantize_units);
}
