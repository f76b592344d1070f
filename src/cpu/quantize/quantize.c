/* Quantization of contiguous tensors in blocks. */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/quantize/codes.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

/* Blocks of at least this many elements are each spread over the threads; shorter ones go to one thread each. */
enum { LONG_BLOCK = 65536 };

/* x to any of codes, scale and out. Dequantizing: codes and scale to out. */
typedef struct Quantize {
  const Quantizer *quantizer;
  const Search *search; /* NULL for hardware formats */
  const void *x;
  uint8_t *codes;
  float *scale;
  const float *known_scale; /* instead of measuring, or NULL */
  void *out;
  DType x_dtype, out_dtype;
  int64_t count, blocksize;
  UpperScale upper;
  /* Of the long block that is at work: */
  int64_t first;
  BlockScaling block_scaling;
} Quantize;

/* The end of `length` elements from `first`, or the limit if that comes first. */
static int64_t end_of(int64_t first, int64_t length, int64_t limit) {
  return limit - first < length ? limit : first + length;
}

/* --- codes --- */

VECTORIZE static void scale_values(float *restrict out, const float *restrict x, const BlockScaling *block, int n) {
  const BlockScaling scaling = *block;
  for (int i = 0; i < n; i++) out[i] = scaled_element(x[i], &scaling);
}

static void decode(const Quantize *job, const uint8_t *codes, int64_t start, int n, float scale) {
  float values[CHUNK];
  float *out = job->out_dtype == DTYPE_F32 ? (float *)job->out + start : values;
  decode_scaled(job->quantizer, out, codes, scale, n);
  store_floats(job->out_dtype, job->out, start, n, out);
}

/* Codes and values of n scaled elements from `start` on, which become the decoded ones: whole blocks of `length`, the
 * last perhaps shorter, or a part of one. `scale` has one for each. */
static void write_chunk(const Quantize *job, float *values, int64_t start, int n, int length, const float *scale) {
  uint8_t *codes = job->codes ? job->codes + start : NULL;
  float *out = job->out && job->out_dtype == DTYPE_F32 ? (float *)job->out + start : values;
  round_scaled(job->quantizer, job->search, codes, values, start, n);
  for (int first = 0, i = 0; first < n; first += length, i++) {
    int count = (int)end_of(first, length, n) - first;
    /* Maps have no code for NaN. */
    if (codes && !job->search && scale[i] != scale[i]) memset(codes + first, FLOAT8_NAN, (size_t)count);
    if (job->out) scale_floats(out + first, values + first, scale[i], count);
  }
  if (job->out) store_floats(job->out_dtype, job->out, start, n, out);
}

/* Elements first … end - 1, all of one block. */
static void quantize_range(const Quantize *job, int64_t first, int64_t end, const BlockScaling *scaling) {
  float buffer[CHUNK], values[CHUNK];
  if (!job->codes && !job->out) return;
  for (int64_t start = first; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    scale_values(values, load_floats(job->x_dtype, job->x, start, n, buffer), scaling, n);
    write_chunk(job, values, start, n, n, &scaling->scale);
  }
}

/* --- blocks --- */

static void quantize_blocks(int64_t begin, int64_t end, const void *context) {
  const Quantize *job = context;
  for (int64_t block = begin; block < end; block++) {
    int64_t first = block * job->blocksize, last = end_of(first, job->blocksize, job->count);
    BlockScaling scaling = job->known_scale ? scaling_with(job->quantizer, job->known_scale[block])
                                            : scaling_of_block(job->quantizer, &job->upper, block,
                                                               range_magnitude(job->x_dtype, job->x, first, last));
    if (job->scale) job->scale[block] = scaling.scale;
    quantize_range(job, first, last, &scaling);
  }
}

/* Blocks of less than this many elements are scaled all at once, with a scale for every element. */
enum { SPREAD_BELOW = 64 };

/* value[i / length] for every element of n. */
VECTORIZE static void spread(float *restrict out, const float *restrict value, int length, int n) {
  int i = 0;
  for (; i + length <= n; i += length) {
    for (int k = 0; k < length; k++) out[i + k] = value[i / length];
  }
  for (int k = i; k < n; k++) out[k] = value[i / length];
}

enum { LANES = 16 };

/* Of blocks whose length is a multiple of LANES. */
VECTORIZE static void measure_lanes(uint32_t *restrict largest, const float *restrict x, int length, int blocks) {
  for (int i = 0; i < blocks; i++) {
    uint32_t lane[LANES] = {0}, most = 0;
    for (int first = 0; first < length; first += LANES) {
      for (int k = 0; k < LANES; k++) {
        uint32_t magnitude = float_to_bits(x[i * length + first + k]) & 0x7FFFFFFFu;
        lane[k] = magnitude > lane[k] ? magnitude : lane[k];
      }
    }
    for (int k = 0; k < LANES; k++) most = lane[k] > most ? lane[k] : most;
    largest[i] = most;
  }
}

/* The largest magnitude of every block of n elements, the last maybe short. */
static void measure_blocks(uint32_t *largest, const float *x, int length, int n) {
  int blocks = length % LANES == 0 ? n / length : 0;
  measure_lanes(largest, x, length, blocks);
  for (int first = blocks * length; first < n; first += length) {
    largest[first / length] = largest_magnitude(x + first, (int)end_of(first, length, n) - first);
  }
}

/* As scaled_element does it where nothing is divided: the inverse is 0 where elements count as 0. */
VECTORIZE static void scale_each(float *restrict out, const float *restrict x, const float *restrict inverse,
                                 float limit, int n) {
  for (int i = 0; i < n; i++) {
    float scaled = inverse[i] == 0 ? 0.0f : x[i] * inverse[i];
    scaled = scaled > limit ? limit : scaled;
    out[i] = scaled < -limit ? -limit : scaled;
  }
}

static BlockScaling scaling_at(const Quantize *job, int64_t block, uint32_t magnitude) {
  return job->known_scale ? scaling_with(job->quantizer, job->known_scale[block])
                          : scaling_of_block(job->quantizer, &job->upper, block, magnitude);
}

/* quantize_together for very short blocks; false if elements have to be divided. */
static bool quantize_spread(const Quantize *job, int64_t begin, int64_t end, const float *x, int n) {
  const int64_t start = begin * job->blocksize;
  const int length = (int)job->blocksize;
  float own[CHUNK], scale[CHUNK], inverse[CHUNK], values[CHUNK];
  uint32_t magnitude[CHUNK];
  const int blocks = (int)(end - begin);
  bool broken = false;
  if (job->quantizer->map && job->quantizer->divide) return false;
  if (job->known_scale) {
    known_scales(job->known_scale + begin, own, inverse, blocks);
  } else {
    measure_blocks(magnitude, x, length, n);
    scales_of_blocks(job->quantizer, &job->upper, begin, magnitude, own, inverse, blocks);
  }
  for (int i = 0; i < blocks; i++) {
    if (isinf(inverse[i])) return false;
    broken |= own[i] != own[i];
  }
  if (job->scale) memcpy(job->scale + begin, own, (size_t)blocks * sizeof *own);
  if (!job->codes && !job->out) return true;
  uint8_t *codes = job->codes ? job->codes + start : NULL;
  spread(scale, inverse, length, n);
  scale_each(values, x, scale, job->search ? job->quantizer->rule.limit : INFINITY, n);
  round_scaled(job->quantizer, job->search, codes, values, start, n);
  spread(scale, own, length, n);
  for (int i = 0; broken && codes && !job->search && i < n; i++)
    codes[i] = scale[i] != scale[i] ? FLOAT8_NAN : codes[i];
  if (!job->out) return true;
  float *out = job->out_dtype == DTYPE_F32 ? (float *)job->out + start : values;
  multiply_floats(out, values, scale, n);
  store_floats(job->out_dtype, job->out, start, n, out);
  return true;
}

/* Blocks begin … end - 1, which are at most CHUNK elements together. */
static void quantize_together(const Quantize *job, int64_t begin, int64_t end) {
  const int64_t start = begin * job->blocksize;
  const int length = (int)job->blocksize, n = (int)(end_of(start, (end - begin) * length, job->count) - start);
  float buffer[CHUNK], values[CHUNK], scale[CHUNK];
  const float *x = load_floats(job->x_dtype, job->x, start, n, buffer);
  if (length < SPREAD_BELOW && quantize_spread(job, begin, end, x, n)) return;
  for (int first = 0, i = 0; first < n; first += length, i++) {
    int count = (int)end_of(first, length, n) - first;
    BlockScaling scaling = scaling_at(job, begin + i, largest_magnitude(x + first, count));
    scale[i] = scaling.scale;
    if (job->scale) job->scale[begin + i] = scaling.scale;
    scale_values(values + first, x + first, &scaling, count);
  }
  if (job->codes || job->out) write_chunk(job, values, start, n, length, scale);
}

static void quantize_short_blocks(int64_t begin, int64_t end, const void *context) {
  const Quantize *job = context;
  const int64_t together = CHUNK / job->blocksize;
  for (int64_t block = begin; block < end; block += together) {
    quantize_together(job, block, end_of(block, together, end));
  }
}

/* Elements of the long block that is at work. */
static void quantize_long_range(int64_t begin, int64_t end, const void *context) {
  const Quantize *job = context;
  quantize_range(job, job->first + begin, job->first + end, &job->block_scaling);
}

static void quantize_long_blocks(Quantize *job) {
  for (int64_t block = 0; job->first < job->count; block++) {
    int64_t end = end_of(job->first, job->blocksize, job->count);
    job->block_scaling = job->known_scale ? scaling_with(job->quantizer, job->known_scale[block])
                                          : scaling_of_block(job->quantizer, &job->upper, block,
                                                             parallel_magnitude(job->x_dtype, job->x, job->first, end));
    if (job->scale) job->scale[block] = job->block_scaling.scale;
    parallel_chunks(end - job->first, 1, quantize_long_range, job);
    job->first = end;
  }
}

static bool quantize_all(Quantize *job) {
  const Quantizer *quantizer = job->quantizer;
  if (job->count == 0) return true;
  job->blocksize = quantizer->blocksize < job->count ? quantizer->blocksize : job->count;
  job->upper = upper_of_all(quantizer);
  if (quantizer->known_scale) job->known_scale = tensor_data(quantizer->known_scale);
  if (quantizer->map) {
    job->search = search_of(quantizer->map, quantizer->stochastic);
    if (!job->search) return false;
  }
  if (job->blocksize >= LONG_BLOCK) {
    quantize_long_blocks(job);
    return true;
  }
  int64_t blocks = divide_up(job->count, job->blocksize);
  parallel_for(blocks, job->blocksize, job->blocksize <= CHUNK ? quantize_short_blocks : quantize_blocks, job);
  return true;
}

static bool sum_columns(Tensor *column_sum, const Tensor *x) {
  Tensor columns = tensor_as_transposed_matrix(x);
  return cpu_reduce(REDUCE_SUM, 0, column_sum, &columns);
}

/* All outputs but the transposed codes, which follow from the codes. */
static bool quantize_in_order(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  Quantize job = {.quantizer = quantizer, .x = tensor_data(x), .x_dtype = x->dtype, .count = tensor_count(x)};
  if (outputs->codes) job.codes = tensor_data(outputs->codes);
  if (outputs->scale) job.scale = tensor_data(outputs->scale);
  if (outputs->values) {
    job.out = tensor_data(outputs->values);
    job.out_dtype = outputs->values->dtype;
  }
  if (outputs->scale && job.count == 0 && !cpu_fill(outputs->scale, number_of(0))) return false;
  if (quantizer->tile_rows > 0 ? !quantize_tiles(outputs, x, quantizer) : !quantize_all(&job)) return false;
  if (outputs->scale && job.count > 0 && job.blocksize == job.count) {
    for (int64_t i = 1; i < tensor_count(outputs->scale); i++) job.scale[i] = job.scale[0];
  }
  return !outputs->column_sum || sum_columns(outputs->column_sum, x);
}

bool cpu_quantize(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  if (!outputs->transposed) return quantize_in_order(outputs, x, quantizer);
  Tensor own = {0};
  QuantizeOutputs in_order = *outputs;
  if (!in_order.codes) {
    if (!tensor_create_like(&own, x, quantizer->format)) return false;
    in_order.codes = &own;
  }
  bool done = quantize_in_order(&in_order, x, quantizer);
  if (done) {
    Tensor turned = tensor_as_transposed_matrix(in_order.codes);
    done = cpu_copy(outputs->transposed, &turned, true);
  }
  tensor_release(&own);
  return done;
}

/* --- back --- */

/* Chunks do not end with blocks: one is decoded in as many runs as it meets blocks. */
static void dequantize_chunks(int64_t begin, int64_t end, const void *context) {
  const Quantize *job = context;
  int64_t limit = end_of(begin * CHUNK, (end - begin) * CHUNK, job->count);
  for (int64_t start = begin * CHUNK; start < limit;) {
    int64_t block = start / job->blocksize;
    int64_t stop = end_of(block * job->blocksize, job->blocksize, limit);
    int n = chunk_length(stop, start);
    decode(job, job->codes + start, start, n, job->scale[block]);
    start += n;
  }
}

bool cpu_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer) {
  if (quantizer->tile_rows > 0) {
    dequantize_tiles(out, codes, scale, quantizer);
    return true;
  }
  Quantize job = {.quantizer = quantizer,
                  .codes = tensor_data(codes),
                  .scale = tensor_data(scale),
                  .out = tensor_data(out),
                  .out_dtype = out->dtype,
                  .count = tensor_count(out),
                  .blocksize = quantizer->blocksize};
  parallel_for(divide_up(job.count, CHUNK), CHUNK, dequantize_chunks, &job);
  return true;
}
