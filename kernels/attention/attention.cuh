/* What the attention kernels share: tiles of 64 or 32 rows in shared memory, and products of them on tensor cores.
 *
 * A warp computes 16 rows of a result at a time with mma.m16n8k16. In that instruction's terms (PTX ISA, "Matrix
 * fragments for mma.m16n8k16 with floating point type") lane l holds of a result, for every 8 columns, rows l / 4 and
 * l / 4 + 8, columns 2 (l % 4) and the next: {row, column}, {row, column + 1}, {row + 8, …}, {row + 8, …}. Results of
 * 16 columns, rounded, are the left operand of the next product as they lie. */
#ifndef FP8_ATTENTION_CUH
#define FP8_ATTENTION_CUH

#include "attention/attention.h"
#include "vectors.cuh"

namespace {

enum { ATTENTION_BLOCK = 128, ATTENTION_WARPS = ATTENTION_BLOCK / WARP, TILE = 16 * ATTENTION_WARPS };

/* Elements from row to row of a tile: 16 bytes more than a row, so that eight rows never meet in a bank. */
template <int FEATURES> constexpr int pitch = FEATURES + 8;
template <int ROWS, int FEATURES> constexpr int tile_elements = ROWS *pitch<FEATURES>;

/* --- into shared memory --- */

/* BYTES (4 or 16) on their way to shared memory; zeros where `inside` is false, though `from` must be readable. */
template <int BYTES> __device__ inline void copy_async(void *to, const void *from, bool inside) {
  const uint32_t address = (uint32_t)__cvta_generic_to_shared(to);
  const int bytes = inside ? BYTES : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(BYTES), "r"(bytes));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
/* Until at most PENDING of the last commits are still on their way. */
template <int PENDING> __device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

/* The positions of one head. */
struct HeadRows {
  uint16_t *data;
  int64_t stride;
  int count;
};

__device__ inline HeadRows rows_of(const AttentionOperand &operand, int64_t batch, int64_t head, int count) {
  return {static_cast<uint16_t *>(operand.data) + batch * operand.batch + head * operand.head, operand.position, count};
}

/* Rows first … first + ROWS - 1, zeros beyond the last. */
template <int ROWS, int FEATURES> __device__ inline void load_tile(uint16_t *tile, const HeadRows &rows, int first) {
  constexpr int chunks = FEATURES / 8;
#pragma unroll
  for (int i = threadIdx.x; i < ROWS * chunks; i += ATTENTION_BLOCK) {
    const int row = i / chunks, column = i % chunks * 8;
    const bool inside = first + row < rows.count;
    const uint16_t *from = rows.data + (inside ? first + row : 0) * rows.stride + column;
    copy_async<16>(tile + row * pitch<FEATURES> + column, from, inside);
  }
}

/* The same of one number a row. */
template <int ROWS> __device__ inline void load_numbers(float *tile, const float *numbers, int first, int count) {
  if (threadIdx.x >= ROWS) return;
  const bool inside = first + (int)threadIdx.x < count;
  copy_async<4>(tile + threadIdx.x, numbers + (inside ? first + threadIdx.x : 0), inside);
}

/* --- products --- */

template <bool TRANSPOSED> __device__ inline void load_matrices(uint32_t (&word)[4], const uint16_t *row) {
  const uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
  if (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address));
  }
}

/* sum (16, 8) += a (16, 16) · b (16, 8) */
__device__ inline void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, BFloat16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Half) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Left operand: the warp's 16 rows of a tile, columns 16 · step on. */
template <int FEATURES>
__device__ inline void load_left(uint32_t (&a)[4], const uint16_t *tile, int first_row, int step) {
  const int lane = threadIdx.x % WARP;
  load_matrices<false>(a, tile + (first_row + lane % 16) * pitch<FEATURES> + step * 16 + lane / 16 * 8);
}

/* sum (16, ROWS) += left (16, FEATURES) · tileᵀ, where `left(a, step)` loads 16 columns of the left operand. */
template <typename Scalar, int ROWS, int FEATURES, typename Left>
__device__ inline void multiply_rows(float (&sum)[ROWS / 8][4], const uint16_t *tile, Left left) {
  const int lane = threadIdx.x % WARP;
  const uint16_t *row = tile + (lane / 16 * 8 + lane % 8) * pitch<FEATURES> + lane / 8 % 2 * 8;
#pragma unroll
  for (int step = 0; step < FEATURES / 16; step++) {
    uint32_t a[4];
    left(a, step);
#pragma unroll
    for (int n = 0; n < ROWS / 16; n++) {
      uint32_t b[4];
      load_matrices<false>(b, row + n * 16 * pitch<FEATURES> + step * 16);
      multiply(sum[2 * n], a, b[0], b[1], Scalar());
      multiply(sum[2 * n + 1], a, b[2], b[3], Scalar());
    }
  }
}

/* 16 columns of results, rounded, as a left operand. */
template <typename Scalar>
__device__ inline void pack_step(uint32_t (&a)[4], const float (&low)[4], const float (&high)[4]) {
  a[0] = pack_word(low[0], low[1], Scalar());
  a[1] = pack_word(low[2], low[3], Scalar());
  a[2] = pack_word(high[0], high[1], Scalar());
  a[3] = pack_word(high[2], high[3], Scalar());
}

/* sum (16, FEATURES) += left (16, ROWS) · tile, where `left` are results of an earlier product, rounded. */
template <typename Scalar, int ROWS, int FEATURES>
__device__ inline void multiply_columns(float (&sum)[FEATURES / 8][4], const float (&left)[ROWS / 8][4],
                                        const uint16_t *tile) {
  const int lane = threadIdx.x % WARP;
  const uint16_t *row = tile + (lane / 8 % 2 * 8 + lane % 8) * pitch<FEATURES> + lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < ROWS / 16; step++) {
    uint32_t a[4];
    pack_step<Scalar>(a, left[2 * step], left[2 * step + 1]);
#pragma unroll
    for (int n = 0; n < FEATURES / 16; n++) {
      uint32_t b[4];
      load_matrices<true>(b, row + step * 16 * pitch<FEATURES> + n * 16);
      multiply(sum[2 * n], a, b[0], b[1], Scalar());
      multiply(sum[2 * n + 1], a, b[2], b[3], Scalar());
    }
  }
}

/* --- scores --- */

/* Scores of keys that do not exist or that a query does not see become -infinity. */
template <int FRAGMENTS>
__device__ inline void hide(const AttentionPlan &plan, float (&score)[FRAGMENTS][4], int first_query, int first_key) {
  const int lane = threadIdx.x % WARP, shift = plan.keys - plan.queries;
#pragma unroll
  for (int n = 0; n < FRAGMENTS; n++) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int query = first_query + lane / 4 + k / 2 * 8, key = first_key + n * 8 + lane % 4 * 2 + k % 2;
      if (key >= plan.keys || (plan.causal && key > query + shift)) score[n][k] = -INFINITY;
    }
  }
}

/* Scores are multiples of log2(e). One that the mask hides is this, above minus infinity so that differences of two are
 * numbers; what a mask adds is never so little. */
constexpr float hidden_score = -3e38f, least_bias = -1e38f;

/* What an element of a mask adds to a score, times log2(e); minus infinity for a key that is not seen. */
__device__ inline float bias_of(uint8_t element) { return element != 0 ? 0.0f : -INFINITY; }
template <typename Scalar> __device__ inline float bias_of(Scalar element) {
  const float value = to_float(element), bias = value * 1.44269504f;
  return bias < least_bias && value > -INFINITY ? least_bias : bias;
}

/* f of a value of the type that a mask's elements have. */
template <typename F> __device__ inline void with_mask_element(DType dtype, F f) {
  if (dtype == DTYPE_U8) {
    f(uint8_t());
  } else {
    with_scalar(dtype, f);
  }
}

/* The same of one score. */
__device__ inline float mask_bias(const AttentionMask &mask, int64_t batch, int64_t head, int query, int key) {
  const int64_t at = batch * mask.batch + head * mask.head + query * mask.query + key * mask.key;
  float bias = 0;
  with_mask_element(mask.dtype,
                    [&](auto element) { bias = bias_of(static_cast<const decltype(element) *>(mask.data)[at]); });
  return bias;
}

/* 2^x, to two units in the last place; 0 for very negative x. */
__device__ inline float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/* Scores, times `scale`, become powers of two of their difference to the running maximum. What was summed up before has
 * to be multiplied by `factor`, which `sum` is already. */
template <int FRAGMENTS>
__device__ inline void exponentiate(float (&score)[FRAGMENTS][4], float (&maximum)[2], float (&sum)[2],
                                    float (&factor)[2], float scale) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float largest = maximum[half];
#pragma unroll
    for (int n = 0; n < FRAGMENTS; n++) largest = fmaxf(largest, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
    largest = fmaxf(largest, shuffle_xor(largest, 1));
    largest = fmaxf(largest, shuffle_xor(largest, 2));
    factor[half] = power_of_two((maximum[half] - largest) * scale);
    maximum[half] = largest;
    sum[half] *= factor[half];
    const float shift = largest * scale;
#pragma unroll
    for (int n = 0; n < FRAGMENTS; n++) {
#pragma unroll
      for (int k = 2 * half; k < 2 * half + 2; k++) {
        score[n][k] = power_of_two(fmaf(score[n][k], scale, -shift));
        sum[half] += score[n][k];
      }
    }
  }
}

/* --- results --- */

/* The lane's part of 16 rows, times one factor for its upper and one for its lower row. */
template <int FRAGMENTS> __device__ inline void scale_rows(float (&rows)[FRAGMENTS][4], const float (&factor)[2]) {
#pragma unroll
  for (int n = 0; n < FRAGMENTS; n++) {
#pragma unroll
    for (int k = 0; k < 4; k++) rows[n][k] *= factor[k / 2];
  }
}

/* Writes the lane's part of 16 rows from `first` on, times one factor for its upper and one for its lower row; and raises
 * the running maximum (vectors.cuh) of either. */
template <typename Scalar, int FEATURES>
__device__ inline void store_rows(const HeadRows &rows, int first, const float (&sum)[FEATURES / 8][4], float upper,
                                  float lower, uint32_t (&largest)[2]) {
  const int lane = threadIdx.x % WARP, row = first + lane / 4, column = lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < FEATURES / 8; n++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (row + 8 * half >= rows.count) continue;
      const float factor = half == 0 ? upper : lower;
      const uint32_t word = pack_word(sum[n][2 * half] * factor, sum[n][2 * half + 1] * factor, Scalar());
      *reinterpret_cast<uint32_t *>(rows.data + (row + 8 * half) * rows.stride + n * 8 + column) = word;
      largest[half] = raise<Scalar>(largest[half], word);
    }
  }
}

/* The largest of the warp, to one of the plan's words. */
template <typename Scalar> __device__ inline void note_maximum(const AttentionPlan &plan, uint32_t largest) {
  if (!plan.maxima) return;
  largest = magnitude_bits(largest, Scalar());
#pragma unroll
  for (int mask = WARP / 2; mask > 0; mask /= 2) largest = max(largest, shuffle_xor(largest, mask));
  if (threadIdx.x % WARP == 0) atomicMax(plan.maxima + blockIdx.x % ATTENTION_MAXIMA, largest);
}

/* Thread blocks are numbered so that heads_at_once heads, whose keys and values the cache holds, come together, their
 * longest tiles first. */
struct HeadTile {
  int64_t batch, head, key_head, both;
  int first; /* row of the tile */
};

__device__ inline HeadTile head_tile(const AttentionPlan &plan, int rows, int tile_rows, bool last_first) {
  const int heads = (int)(plan.batch * plan.heads), tiles = divide_up(rows, tile_rows), block = blockIdx.x;
  const int section = block / (tiles * plan.heads_at_once), first_head = section * plan.heads_at_once;
  const int heads_here = min(plan.heads_at_once, heads - first_head), inside = block - first_head * tiles;
  const int turn = inside / heads_here;
  HeadTile place;
  place.both = first_head + inside - turn * heads_here;
  place.batch = place.both / plan.heads;
  place.head = place.both - place.batch * plan.heads;
  place.key_head = place.head / plan.group;
  place.first = (last_first ? tiles - 1 - turn : turn) * tile_rows;
  return place;
}

/* f(n, k, bias) for each of the lane's scores [n][k] of a warp's 16 rows from `first_row` on, which are queries or, with
 * KEYS_ARE_ROWS, keys. Beyond the last row or column it is that of the last one. What the mask has of one row for all is
 * read once for both of the lane's. */
template <int FRAGMENTS, bool KEYS_ARE_ROWS, typename F>
__device__ inline void for_each_bias(const AttentionPlan &plan, const HeadTile &place, int first_row, int first_column,
                                     F f) {
  const AttentionMask &mask = plan.mask;
  const int rows = KEYS_ARE_ROWS ? plan.keys : plan.queries, columns = KEYS_ARE_ROWS ? plan.queries : plan.keys;
  const int64_t row_stride = KEYS_ARE_ROWS ? mask.key : mask.query;
  const int64_t column_stride = KEYS_ARE_ROWS ? mask.query : mask.key;
  const int lane = threadIdx.x % WARP, row = first_row + lane / 4, column = first_column + lane % 4 * 2;
  const int64_t head = place.batch * mask.batch + place.head * mask.head;
  const auto place_of = [&](int n, int k) { return min(column + n * 8 + k, columns - 1) * column_stride; };
  with_mask_element(mask.dtype, [&](auto element) {
    const auto *upper = static_cast<const decltype(element) *>(mask.data) + head + min(row, rows - 1) * row_stride;
    const auto *lower = static_cast<const decltype(element) *>(mask.data) + head + min(row + 8, rows - 1) * row_stride;
    if (row_stride == 0) {
#pragma unroll
      for (int n = 0; n < FRAGMENTS; n++) {
#pragma unroll
        for (int k = 0; k < 2; k++) {
          const float bias = bias_of(upper[place_of(n, k)]);
          f(n, k, bias);
          f(n, 2 + k, bias);
        }
      }
    } else {
#pragma unroll
      for (int n = 0; n < FRAGMENTS; n++) {
#pragma unroll
        for (int k = 0; k < 2; k++) {
          const int64_t at = place_of(n, k);
          f(n, k, bias_of(upper[at]));
          f(n, 2 + k, bias_of(lower[at]));
        }
      }
    }
  });
}

/* Scores, times the plan's scale, under its mask. */
template <int FRAGMENTS>
__device__ inline void add_mask(const AttentionPlan &plan, const HeadTile &place, float (&score)[FRAGMENTS][4],
                                int first_query, int first_key) {
  for_each_bias<FRAGMENTS, false>(plan, place, first_query, first_key, [&](int n, int k, float bias) {
    score[n][k] = bias == -INFINITY ? hidden_score : fmaf(score[n][k], plan.scale_log2, bias);
  });
}

/* The number of key tiles that queries `first` … `first` + TILE - 1 see. */
__device__ inline int visible_tiles(const AttentionPlan &plan, int first) {
  const int visible = plan.causal ? min(plan.keys, first + TILE + plan.keys - plan.queries) : plan.keys;
  return divide_up(visible, TILE);
}

/* --- launching --- */

/* A thread block for every TILE of `rows` of every head, with so many bytes of shared memory. */
template <typename Kernel>
cudaError_t start(Launch launch, Kernel kernel, const AttentionPlan &plan, int rows, int bytes) {
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const int64_t grid = plan.batch * plan.heads * divide_up(rows, TILE);
  kernel<<<(unsigned)grid, ATTENTION_BLOCK, bytes, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <int FEATURES> struct Features { static constexpr int value = FEATURES; };

template <typename Scalar, typename Run> cudaError_t run_sized(int features, Run run) {
  switch (features) {
  case 32:
    return run(Scalar(), Features<32>());
  case 64:
    return run(Scalar(), Features<64>());
  case 128:
    return run(Scalar(), Features<128>());
  }
  trap_missing_case();
}

/* run(Scalar(), Features<N>()) of the plan's dtype and features. */
template <typename Run> cudaError_t run_typed(const AttentionPlan &plan, Run run) {
  switch (plan.dtype) {
  case DTYPE_F16:
    return run_sized<Half>(plan.features, run);
  case DTYPE_BF16:
    return run_sized<BFloat16>(plan.features, run);
  case DTYPE_F32:
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  trap_missing_case();
}

} // namespace

#endif
