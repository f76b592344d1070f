#include "cpu/quantize/codes.h"

#include <string.h>

#include "core/formats/float_formats.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

VECTORIZE static void cast_stochastic(uint8_t *restrict codes, const float *restrict values,
                                      const uint32_t *restrict bits, DType format, int n) {
  if (format == DTYPE_E4M3) {
    for (int i = 0; i < n; i++) codes[i] = e4m3_stochastic(values[i], bits[i]);
  } else if (format == DTYPE_E5M2) {
    for (int i = 0; i < n; i++) codes[i] = e5m2_stochastic(values[i], bits[i]);
  } else {
    trap_missing_case();
  }
}

void encode_scaled(const Quantizer *quantizer, const Search *search, uint8_t *codes, const float *scaled, int64_t start,
                   int n) {
  uint32_t buffer[RANDOM_WORDS];
  const uint32_t *bits = NULL;
  if (quantizer->stochastic) bits = rounding_bits(quantizer->random, start, n, buffer);
  if (search) {
    search_codes(search, codes, scaled, n);
    if (bits) search_round_up(search, codes, scaled, bits, n);
  } else if (bits) {
    cast_stochastic(codes, scaled, bits, quantizer->format, n);
  } else {
    store_floats(quantizer->format, codes, 0, n, scaled);
  }
}

VECTORIZE static void decode_hardware(float *restrict out, const uint8_t *restrict codes, DType format, float scale,
                                      int n) {
  if (format == DTYPE_E4M3) {
    for (int i = 0; i < n; i++) out[i] = e4m3_to_float(codes[i]) * scale;
  } else if (format == DTYPE_E5M2) {
    for (int i = 0; i < n; i++) out[i] = e5m2_to_float(codes[i]) * scale;
  } else {
    trap_missing_case();
  }
}

void decode_scaled(const Quantizer *quantizer, float *out, const uint8_t *codes, float scale, int n) {
  if (quantizer->map) {
    search_decode(quantizer->map->table.value, out, codes, scale, n);
  } else {
    decode_hardware(out, codes, quantizer->format, scale, n);
  }
}

/* --- rounding by arithmetic, without codes on the way --- */

typedef struct GridRounding {
  FormatGrid grid;
  float limit;
  uint32_t sign; /* the bit that a 0 keeps */
} GridRounding;

/* False for formats without a grid. */
static bool grid_rounding(GridRounding *rounding, const Quantizer *quantizer) {
  if (quantizer->map) {
    *rounding = (GridRounding){quantizer->grid, quantizer->rule.limit, 0};
  } else if (quantizer->format == DTYPE_E4M3) {
    *rounding = (GridRounding){e4m3_grid(), E4M3_LARGEST, 0x80000000u};
  } else {
    *rounding = (GridRounding){e5m2_grid(), E5M2_LARGEST, 0x80000000u};
  }
  return rounding->grid.bits > 0;
}

bool grid_of(const Quantizer *quantizer, FormatGrid *grid, float *limit) {
  GridRounding rounding;
  if (!grid_rounding(&rounding, quantizer)) return false;
  *grid = rounding.grid;
  *limit = rounding.limit;
  return true;
}

INLINED float within_limit(const GridRounding *rounding, float value) {
  value = value > rounding->limit ? rounding->limit : value;
  return value < -rounding->limit ? -rounding->limit : value;
}

INLINED float with_sign(const GridRounding *rounding, float rounded, float value) {
  return float_from_bits(float_to_bits(rounded) | (float_to_bits(value) & rounding->sign));
}

VECTORIZE static void round_to_grid(float *restrict values, const GridRounding *rule, int n) {
  const GridRounding rounding = *rule;
  for (int i = 0; i < n; i++) {
    float value = within_limit(&rounding, values[i]);
    values[i] = with_sign(&rounding, grid_nearest(&rounding.grid, value), value);
  }
}

VECTORIZE static void round_to_grid_at_random(float *restrict values, const uint32_t *restrict bits,
                                              const GridRounding *rule, int n) {
  const GridRounding rounding = *rule;
  for (int i = 0; i < n; i++) {
    float value = within_limit(&rounding, values[i]);
    values[i] = with_sign(&rounding, grid_stochastic(&rounding.grid, value, bits[i]), value);
  }
}

VECTORIZE static void codes_of_grid(uint8_t *restrict codes, const float *restrict values, const FormatGrid *of_map,
                                    int n) {
  const FormatGrid grid = *of_map;
  for (int i = 0; i < n; i++) codes[i] = grid_code(&grid, values[i]);
}

VECTORIZE static void round_to_powers(float *restrict values, const uint32_t *restrict bits, const PowersOfTwo *of_map,
                                      int n) {
  const PowersOfTwo powers = *of_map;
  for (int i = 0; i < n; i++) values[i] = powers_stochastic(&powers, values[i], bits[i]);
}

VECTORIZE static void round_to_powers_and_codes(uint8_t *restrict codes, float *restrict values,
                                                const uint32_t *restrict bits, const PowersOfTwo *of_map, int n) {
  const PowersOfTwo powers = *of_map;
  for (int i = 0; i < n; i++) {
    float rounded = powers_stochastic(&powers, values[i], bits[i]);
    codes[i] = powers_code(&powers, rounded, values[i]);
    values[i] = rounded;
  }
}

/* False where the format is another one, or rounding is to nearest. */
static bool rounds_to_powers(const Quantizer *quantizer, uint8_t *codes, float *scaled, int64_t start, int n) {
  uint32_t buffer[RANDOM_WORDS];
  if (!quantizer->stochastic || !quantizer->map || quantizer->map->powers.count == 0) return false;
  const PowersOfTwo *powers = &quantizer->map->powers;
  const uint32_t *bits = rounding_bits(quantizer->random, start, n, buffer);
  if (codes) {
    round_to_powers_and_codes(codes, scaled, bits, powers, n);
  } else {
    round_to_powers(scaled, bits, powers, n);
  }
  return true;
}

void round_scaled(const Quantizer *quantizer, const Search *search, uint8_t *codes, float *scaled, int64_t start,
                  int n) {
  GridRounding rounding;
  if (rounds_to_powers(quantizer, codes, scaled, start, n)) return;
  if (!grid_rounding(&rounding, quantizer) || (!quantizer->map && codes)) {
    uint8_t buffer[CHUNK];
    if (search && search->has_pairs && !codes) {
      search_values(search, scaled, n);
      return;
    }
    if (!codes) codes = buffer;
    encode_scaled(quantizer, search, codes, scaled, start, n);
    decode_scaled(quantizer, scaled, codes, 1.0f, n);
    return;
  }
  if (quantizer->stochastic) {
    uint32_t buffer[RANDOM_WORDS];
    round_to_grid_at_random(scaled, rounding_bits(quantizer->random, start, n, buffer), &rounding, n);
  } else {
    round_to_grid(scaled, &rounding, n);
  }
  if (codes) codes_of_grid(codes, scaled, &rounding.grid, n);
}

float quantizer_scale(const Quantizer *quantizer, uint32_t magnitude) {
  return scale_by_rule(magnitude, &quantizer->rule);
}

BlockScaling scaling_with(const Quantizer *quantizer, float scale) {
  BlockScaling scaling = block_scaling(scale, 1.0f / scale, quantizer->map && quantizer->divide);
  scaling.limit = quantizer->rule.limit;
  return scaling;
}

static UpperScale upper_of(const Quantizer *quantizer, int64_t position) {
  const float *absmax = tensor_data(quantizer->upper);
  return upper_scale(&quantizer->rule, absmax[position]);
}

UpperScale upper_of_all(const Quantizer *quantizer) {
  if (!quantizer->upper || quantizer->upper_each > 0) return no_upper_scale(&quantizer->rule);
  return upper_of(quantizer, 0);
}

BlockScaling scaling_of_block(const Quantizer *quantizer, const UpperScale *whole, int64_t block, uint32_t magnitude) {
  if (quantizer->rule.rounding != SCALE_E4M3) return scaling_with(quantizer, quantizer_scale(quantizer, magnitude));
  UpperScale upper = *whole;
  if (quantizer->upper && quantizer->upper_each > 0) upper = upper_of(quantizer, block / quantizer->upper_each);
  BlockScaling scaling = scaling_below(scale_below(magnitude, &upper), &upper);
  scaling.limit = quantizer->rule.limit;
  return scaling;
}

VECTORIZE static void scales_below(float *restrict scale, float *restrict inverse, const uint32_t *restrict magnitude,
                                   const UpperScale *whole, int n) {
  const UpperScale upper = *whole;
  for (int i = 0; i < n; i++) {
    BlockScaling scaling = scaling_below(scale_below(magnitude[i], &upper), &upper);
    scale[i] = scaling.scale;
    inverse[i] = scaling.empty ? 0.0f : scaling.inverse;
  }
}

/* `rounding`: the rule's, a constant, without which this is not vectorized. */
INLINED void scales_with(float *restrict scale, const uint32_t *restrict magnitude, const ScaleRule *of_format,
                         ScaleRounding rounding, int n) {
  ScaleRule rule = *of_format;
  rule.rounding = rounding;
  for (int i = 0; i < n; i++) scale[i] = scale_by_rule(magnitude[i], &rule);
}

VECTORIZE static void scales_by_rule(float *restrict scale, const uint32_t *restrict magnitude, const ScaleRule *rule,
                                     int n) {
  if (rule->rounding == SCALE_EXACT) {
    scales_with(scale, magnitude, rule, SCALE_EXACT, n);
  } else if (rule->rounding == SCALE_MX) {
    scales_with(scale, magnitude, rule, SCALE_MX, n);
  } else {
    for (int i = 0; i < n; i++) scale[i] = scale_by_rule(magnitude[i], rule);
  }
}

VECTORIZE static void invert_scales(float *restrict inverse, const float *restrict scale, int n) {
  for (int i = 0; i < n; i++) inverse[i] = scale_is_empty(scale[i]) ? 0.0f : 1.0f / scale[i];
}

void known_scales(const float *known, float *scale, float *inverse, int n) {
  memcpy(scale, known, (size_t)n * sizeof *scale);
  invert_scales(inverse, scale, n);
}

void scales_of_blocks(const Quantizer *quantizer, const UpperScale *whole, int64_t first, const uint32_t *magnitude,
                      float *scale, float *inverse, int n) {
  if (quantizer->rule.rounding != SCALE_E4M3) {
    scales_by_rule(scale, magnitude, &quantizer->rule, n);
    invert_scales(inverse, scale, n);
  } else if (quantizer->upper && quantizer->upper_each > 0) {
    for (int i = 0; i < n; i++) {
      BlockScaling scaling = scaling_of_block(quantizer, whole, first + i, magnitude[i]);
      scale[i] = scaling.scale;
      inverse[i] = scaling.empty ? 0.0f : scaling.inverse;
    }
  } else {
    scales_below(scale, inverse, magnitude, whole, n);
  }
}

uint32_t range_magnitude(DType dtype, const void *data, int64_t first, int64_t end) {
  float buffer[CHUNK];
  uint32_t largest = 0;
  for (int64_t start = first; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    uint32_t magnitude = largest_magnitude(load_floats(dtype, data, start, n, buffer), n);
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}

typedef struct Measure {
  DType dtype;
  const void *data;
  int64_t first, end;
  uint32_t *largest;
} Measure;

static void measure_chunks(int64_t begin, int64_t end, const void *context) {
  const Measure *job = context;
  int64_t first = job->first + begin * CHUNK, last = job->first + end * CHUNK;
  uint32_t magnitude = range_magnitude(job->dtype, job->data, first, last < job->end ? last : job->end);
  uint32_t largest = __atomic_load_n(job->largest, __ATOMIC_RELAXED);
  while (magnitude > largest &&
         !__atomic_compare_exchange_n(job->largest, &largest, magnitude, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

uint32_t parallel_magnitude(DType dtype, const void *data, int64_t first, int64_t end) {
  uint32_t largest = 0;
  Measure job = {dtype, data, first, end, &largest};
  parallel_for(divide_up(end - first, CHUNK), CHUNK / 4, measure_chunks, &job);
  return largest;
}
