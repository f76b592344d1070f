#include "cpu/attention/head.h"

#include <math.h>
#include <string.h>

#include "core/formats/float_formats.h"
#include "core/portable.h"
#include "cpu/convert.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/matmul/product.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

/* Keys of one product, so that oneDNN meets few shapes, whatever the number of keys. */
enum { KEY_BLOCK = 256 };

size_t temporary_floats(int64_t features) { return (size_t)(KEY_BLOCK * features); }

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* --- rows --- */

static int64_t head_offset(const Tensor *x, int64_t head) {
  return head / x->size[1] * x->stride[0] + head % x->size[1] * x->stride[1];
}

static bool is_finite(const float *x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t start = 0; start < n; start += CHUNK) {
    uint32_t of_chunk = largest_magnitude(x + start, chunk_length(n, start));
    if (of_chunk > largest) largest = of_chunk;
  }
  return largest < float_to_bits(INFINITY);
}

/* Rows are short: a call for each would take as long as the rows. */
VECTORIZE static void pack_f32(float *restrict out, const float *restrict x, int64_t rows, int64_t features,
                               int64_t stride) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < features; j++) out[i * features + j] = x[i * stride + j];
  }
}

VECTORIZE static void pack_bf16(float *restrict out, const uint16_t *restrict x, int64_t rows, int64_t features,
                                int64_t stride) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < features; j++) out[i * features + j] = bf16_to_float(x[i * stride + j]);
  }
}

Rows rows_of_head(const Tensor *x, int64_t head, float *buffer) {
  int64_t count = x->size[2], features = x->size[3], stride = x->stride[2], offset = head_offset(x, head);
  const float *data = buffer;
  if (x->dtype == DTYPE_F32 && stride == features) {
    data = (const float *)tensor_data(x) + offset;
  } else if (x->dtype == DTYPE_F32) {
    pack_f32(buffer, (const float *)tensor_data(x) + offset, count, features, stride);
  } else if (x->dtype == DTYPE_BF16) {
    pack_bf16(buffer, (const uint16_t *)tensor_data(x) + offset, count, features, stride);
  } else {
    for (int64_t i = 0; i < count; i++) {
      convert_run(DTYPE_F32, buffer, i * features, x->dtype, tensor_data(x), offset + i * stride, features);
    }
  }
  return (Rows){data, count, features, is_finite(data, count * features)};
}

void store_rows(const Tensor *x, int64_t head, int64_t first, int64_t count, const float *values) {
  int64_t features = x->size[3], offset = head_offset(x, head);
  for (int64_t i = 0; i < count; i++) {
    convert_run(x->dtype, tensor_data(x), offset + (first + i) * x->stride[2], DTYPE_F32, values, i * features,
                features);
  }
}

/* --- products --- */

QueryBlock query_block(const Attention *attention, int64_t head, int64_t first, float *temporary) {
  int64_t queries = attention->q->size[2], keys = attention->k->size[2];
  QueryBlock block = {.first = first,
                      .count = smaller(QUERY_BLOCK, queries - first),
                      .visible = keys,
                      .causal = attention->causal,
                      .shift = keys - queries,
                      .temporary = temporary,
                      .mask = attention->mask};
  if (block.mask) block.mask_start = head_offset(block.mask, head) + first * block.mask->stride[2];
  if (block.causal) block.visible = first + block.count + block.shift;
  return block;
}

/* Keys of the product that begins with key `first`. */
static int64_t key_count(const QueryBlock *block, int64_t first) { return smaller(KEY_BLOCK, block->visible - first); }

/* How many keys row i of the block sees, from key `first` on: none, some or all of `count`. */
static int64_t keys_seen(const QueryBlock *block, int64_t i, int64_t first, int64_t count) {
  int64_t seen = block->causal ? block->first + i + block->shift + 1 - first : count;
  return seen < 0 ? 0 : smaller(seen, count);
}

static Matrix matrix(const float *data, int64_t rows, int64_t columns) {
  return (Matrix){.data = data, .dtype = DTYPE_F32, .batch = 1, .rows = rows, .columns = columns, .stride = columns};
}

/* The transpose of matrix(data, rows, columns). */
static Matrix turned(const float *data, int64_t rows, int64_t columns) {
  Matrix result = matrix(data, rows, columns);
  result.rows = columns;
  result.columns = rows;
  result.transposed = true;
  return result;
}

static const float *row(Rows rows, int64_t i) { return rows.data + i * rows.features; }

static bool multiply(Matrix a, Matrix b, float *out) {
  Product product = product_of(a, b, out, DTYPE_F32, NULL);
  product.planned = true;
  return product_any(&product);
}

bool multiply_keys(const QueryBlock *block, float *weights, Rows x, Rows y) {
  Matrix queries = matrix(row(x, block->first), block->count, x.features);
  for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
    Matrix keys = turned(row(y, first), key_count(block, first), y.features);
    if (!multiply(queries, keys, weights + first * block->count)) return false;
  }
  return true;
}

/* out[i] += factor · x[i] */
VECTORIZE static void add_multiple(float *restrict out, const float *restrict x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] += factor * x[i];
}

static void add_run(float *out, const float *x, int64_t n) {
  for (int64_t start = 0; start < n; start += CHUNK) {
    add_floats(out + start, out + start, x + start, chunk_length(n, start));
  }
}

/* A weight at a time, of those that are seen: to each query's row of out from the key's row of x, or `to_keys` to the key's
 * row from the query's. */
static void add_seen(const QueryBlock *block, float *out, const float *weights, Rows x, bool to_keys) {
  for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
    int64_t count = key_count(block, first);
    for (int64_t i = 0; i < block->count; i++) {
      const float *weight = weights + first * block->count + i * count;
      for (int64_t j = 0; j < keys_seen(block, i, first, count); j++) {
        int64_t target = to_keys ? first + j : i, source = to_keys ? block->first + i : first + j;
        add_multiple(out + target * x.features, row(x, source), weight[j], x.features);
      }
    }
  }
}

bool sum_over_keys(const QueryBlock *block, float *out, const float *weights, Rows y) {
  if (block->causal && !y.finite) {
    memset(out, 0, (size_t)(block->count * y.features) * sizeof *out);
    add_seen(block, out, weights, y, false);
    return true;
  }
  for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
    int64_t count = key_count(block, first);
    float *target = first == 0 ? out : block->temporary;
    Matrix left = matrix(weights + first * block->count, block->count, count);
    if (!multiply(left, matrix(row(y, first), count, y.features), target)) return false;
    if (first > 0) add_run(out, target, block->count * y.features);
  }
  return true;
}

bool add_over_queries(const QueryBlock *block, float *out, const float *weights, Rows x) {
  if (block->causal && !x.finite) {
    add_seen(block, out, weights, x, true);
    return true;
  }
  Matrix queries = matrix(row(x, block->first), block->count, x.features);
  for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
    int64_t count = key_count(block, first);
    if (!multiply(turned(weights + first * block->count, block->count, count), queries, block->temporary)) return false;
    add_run(out + first * x.features, block->temporary, count * x.features);
  }
  return true;
}

/* --- softmax --- */

/* Independent partial results, so that a loop over them is a vector operation. */
enum { LANES = 32 };

/* The weights of query i for keys from `first` on: `count`, of which it sees `seen`, and what is worked on is `length`. */
typedef struct Piece {
  int64_t start;
  int seen, length, count;
} Piece;

static Piece piece_of(const QueryBlock *block, int64_t i, int64_t first) {
  int64_t count = key_count(block, first), seen = keys_seen(block, i, first, count);
  int64_t length = smaller(divide_up(seen, LANES) * LANES, count);
  return (Piece){first * block->count + i * count, (int)seen, (int)length, (int)count};
}

/* What is beyond the keys that are seen is 0: a NaN of a query is none of theirs. */
static void clear_unseen(float *weights, Piece piece) {
  memset(weights + piece.start + piece.seen, 0, (size_t)(piece.count - piece.seen) * sizeof *weights);
}

/* What the mask adds to scores of query i and n keys from `first` on, at most KEY_BLOCK: `buffer`, or the mask itself. */
static const float *mask_values(const QueryBlock *block, int64_t i, int64_t first, int n, float *buffer) {
  const Tensor *mask = block->mask;
  int64_t stride = mask->stride[3], at = block->mask_start + i * mask->stride[2] + first * stride;
  const float *values = buffer;
  if (stride == 1) {
    values = load_floats(mask->dtype, tensor_data(mask), at, n, buffer);
  } else {
    for (int j = 0; j < n; j++) convert_run(DTYPE_F32, buffer, j, mask->dtype, tensor_data(mask), at + j * stride, 1);
  }
  if (mask->dtype != DTYPE_U8) return values;
  for (int j = 0; j < n; j++) buffer[j] = values[j] != 0 ? 0.0f : -INFINITY;
  return buffer;
}

VECTORIZE static void add_scaled(float *restrict x, const float *restrict addend, float scale, int n) {
  for (int i = 0; i < n; i++) x[i] = x[i] * scale + addend[i];
}

/* Scales the scores, of which those from `seen` on become minus infinity; returns the largest that is not NaN. */
VECTORIZE static float scale_scores(float *x, float scale, int seen, int n) {
  float lane[LANES];
  for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
  int i = 0;
  for (; i + LANES <= seen; i += LANES) {
    for (int j = 0; j < LANES; j++) {
      x[i + j] *= scale;
      lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    }
  }
  for (; i < n; i++) {
    x[i] = i < seen ? x[i] * scale : -INFINITY;
    lane[0] = x[i] > lane[0] ? x[i] : lane[0];
  }
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] = lane[j] > lane[j + width] ? lane[j] : lane[j + width];
  }
  return lane[0];
}

/* x[i] = e^(x[i] - largest); returns their sum. */
VECTORIZE static float exponentials(float *x, float largest, int n) {
  float lane[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) {
      x[i + j] = vector_exp_down(x[i + j] - largest);
      lane[j] += x[i + j];
    }
  }
  for (; i < n; i++) {
    x[i] = vector_exp_down(x[i] - largest);
    lane[0] += x[i];
  }
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] += lane[j + width];
  }
  return lane[0];
}

/* A NaN among a query's scores makes their sum NaN, and with it all of its probabilities. If all are minus infinity the
 * sum is 0, and they become 0. */
void scores_to_probabilities(const QueryBlock *block, float *scores, float attention_scale, float *log_sums) {
  float scale = block->mask ? 1 : attention_scale; /* where there is a mask it is added to scaled scores */
  float buffer[KEY_BLOCK];
  for (int64_t i = 0; i < block->count; i++) {
    float largest = -INFINITY;
    for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
      Piece piece = piece_of(block, i, first);
      if (block->mask) {
        const float *values = mask_values(block, i, first, piece.seen, buffer);
        add_scaled(scores + piece.start, values, attention_scale, piece.seen);
      }
      float of_piece = scale_scores(scores + piece.start, scale, piece.seen, piece.length);
      largest = of_piece > largest ? of_piece : largest;
    }
    if (block->mask && largest == -INFINITY) largest = 0;
    double total = 0;
    for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
      Piece piece = piece_of(block, i, first);
      total += (double)exponentials(scores + piece.start, largest, piece.length);
    }
    float sum = (float)total;
    for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
      Piece piece = piece_of(block, i, first);
      scale_floats(scores + piece.start, scores + piece.start, sum == 0 ? 0 : 1.0f / sum, piece.length);
      clear_unseen(scores, piece);
    }
    if (log_sums) log_sums[i] = largest * 1.44269504f + vector_log2(sum);
  }
}

VECTORIZE static double sum_products(const float *restrict a, const float *restrict b, int n) {
  double lane[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] += (double)(a[i + j] * b[i + j]);
  }
  for (; i < n; i++) lane[0] += (double)(a[i] * b[i]);
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] += lane[j + width];
  }
  return lane[0];
}

VECTORIZE static void score_gradients(float *restrict grad, const float *restrict probability, float sum, float scale,
                                      int n) {
  for (int i = 0; i < n; i++) grad[i] = probability[i] * (grad[i] - sum) * scale;
}

void to_score_gradients(const QueryBlock *block, float *grads, const float *probabilities, float scale) {
  for (int64_t i = 0; i < block->count; i++) {
    double sum = 0;
    for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
      Piece piece = piece_of(block, i, first);
      clear_unseen(grads, piece);
      sum += sum_products(grads + piece.start, probabilities + piece.start, piece.length);
    }
    for (int64_t first = 0; first < block->visible; first += KEY_BLOCK) {
      Piece piece = piece_of(block, i, first);
      score_gradients(grads + piece.start, probabilities + piece.start, (float)sum, scale, piece.length);
      clear_unseen(grads, piece);
    }
  }
}
