/* One head of attention, in float32: what its forward and backward pass have in common. */
#ifndef FP8_CPU_ATTENTION_HEAD_H
#define FP8_CPU_ATTENTION_HEAD_H

#include "backend.h"

/* Queries whose scores are in memory at once: the products' blocks are small enough for the second-level cache, and large
 * enough for oneDNN. */
enum { QUERY_BLOCK = 64 };

/* Rows of `features` floats, one a position. */
typedef struct Rows {
  const float *data;
  int64_t count, features;
  bool finite;
} Rows;

/* Rows of a head of x (batch, heads, positions, features), the features side by side: x's own where they are f32 without a
 * gap, which oneDNN wants, else in `buffer`, which holds positions · features. */
Rows rows_of_head(const Tensor *x, int64_t head, float *buffer);

/* Stores such rows into positions first … first + count - 1 of a head. */
void store_rows(const Tensor *x, int64_t head, int64_t first, int64_t count, const float *values);

/* A block of queries. Its weights, which are scores, probabilities or their gradients, one for each query and key that one
 * of the queries sees, are matrices without a gap: (count, KEY_BLOCK) of the first keys, then the same of the next. */
typedef struct QueryBlock {
  int64_t first, count; /* queries */
  int64_t visible;      /* keys that the last of them sees */
  bool causal;
  int64_t shift;      /* causal: query i sees keys up to i + shift */
  float *temporary;   /* for products that are added to others */
  const Tensor *mask; /* or NULL */
  int64_t mask_start; /* its element of the first query and key */
} QueryBlock;

/* Queries of a head, counted through the batch, from `first` on. */
QueryBlock query_block(const Attention *attention, int64_t head, int64_t first, float *temporary);

/* Floats that `temporary` needs. */
size_t temporary_floats(int64_t features);

/* weights = x · yᵀ: x are rows of queries, of which the block's count, y those of keys. */
bool multiply_keys(const QueryBlock *block, float *weights, Rows x, Rows y);

/* out (count, features) = weights · y: rows of keys. What a query does not see, a NaN maybe, does not count. */
bool sum_over_keys(const QueryBlock *block, float *out, const float *weights, Rows y);

/* out (visible, features) += weightsᵀ · x: rows of queries, with the same care. */
bool add_over_queries(const QueryBlock *block, float *out, const float *weights, Rows x);

/* Makes probabilities of scores, 0 for keys that are not seen; log_sums gets a number for each query: backend.h. NULL if
 * they are not wanted. */
void scores_to_probabilities(const QueryBlock *block, float *scores, float scale, float *log_sums);

/* Makes gradients of scores, before the scale, of those of their probabilities. */
void to_score_gradients(const QueryBlock *block, float *grads, const float *probabilities, float scale);

#endif
