/* Codes of blocks along rows and the same codes transposed, in one launch: thread blocks that quantize, as for pieces, and others
 * that transpose what those have written, band of 128 rows by band, while the cache still has it.
 *
 * Thread blocks start in the order of their numbers. Those that transpose a band come so long after those that write its codes
 * that they seldom wait for them; who is waited for waits for nobody. */
#include "byte_patch.cuh"
#include "quantize/bands/bands.h"
#include "quantize/pieces/quantize_pieces.cuh"

namespace {

enum { VECTORS = 4 };
static_assert((int)BANDS_ROWS == (int)byte_patch::SIDE && (int)BANDS_THREADS == (int)byte_patch::BLOCK,
              "a band is as high as a patch that is transposed");

/* How many thread blocks quantize a band, how many transpose one, and how many bands those are behind. */
struct BandParts {
  int64_t bands;
  int writers, turners, delay;

  __host__ __device__ int64_t count() const { return bands * (writers + turners); }
};

/* What a thread block does: part number `part` of a band. */
struct BandTask {
  bool turns;
  int64_t band;
  int part;
};

/* First bands of which none is transposed yet, then one quantized and one transposed in turn, then those that are left. */
__device__ inline BandTask task_of(const BandParts &parts, int64_t number) {
  const int64_t early = min((int64_t)parts.delay, parts.bands), first = early * parts.writers;
  const int64_t both = parts.writers + parts.turners, middle = (parts.bands - early) * both;
  if (number < first) {
    const int64_t band = divide(number, parts.writers);
    return {false, band, (int)(number - band * parts.writers)};
  }
  number -= first;
  if (number < middle) {
    const int64_t band = divide(number, both);
    const int part = (int)(number - band * both);
    if (part < parts.writers) return {false, band + early, part};
    return {true, band, part - parts.writers};
  }
  number -= middle;
  const int64_t band = divide(number, parts.turners);
  return {true, parts.bands - early + band, (int)(number - band * parts.turners)};
}

/* --- progress: how many thread blocks have written a band, and how many have seen that all have --- */

__device__ inline void note_written(uint32_t *progress) {
  __syncthreads();
  if (threadIdx.x > 0) return;
  __threadfence();
  atomicAdd(&progress[0], 1u);
}

__device__ inline void wait_until_written(uint32_t *progress, const BandParts &parts) {
  if (threadIdx.x == 0) {
    uint32_t written = 0;
    while (true) {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(written) : "l"(progress) : "memory");
      if (written == (uint32_t)parts.writers) break;
      __nanosleep(100);
    }
    if (atomicAdd(&progress[1], 1u) == (uint32_t)parts.turners - 1) progress[0] = progress[1] = 0; /* the last one */
  }
  __syncthreads();
}

/* --- transposition --- */

__device__ inline void turn_patch(const BandsPlan &plan, int64_t band, int part, uint4 *chunks) {
  using namespace byte_patch;
  const int run = threadIdx.x % RUNS, first_row = threadIdx.x / RUNS;
  const int64_t row = band * SIDE + first_row, column = (int64_t)part * SIDE + run * RUN;
  const uint8_t *codes = plan.pieces.quantize.codes + row * plan.columns + column;
  uint4 raw[PASSES];
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) {
    const int down = pass * ROWS_AT_ONCE;
    raw[pass] = make_uint4(0, 0, 0, 0);
    if (row + down >= plan.rows || column >= plan.columns) continue;
    raw[pass] = __ldcg(reinterpret_cast<const uint4 *>(codes + down * plan.columns));
  }
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) chunks[chunk_at(first_row + pass * ROWS_AT_ONCE, run)] = raw[pass];
  __syncthreads();
  write_columns(chunks, band * SIDE, (int64_t)part * SIDE, plan.rows, plan.columns, plan.transposed, plan.rows);
}

/* --- the kernel --- */

template <typename Scalar, Encoding ENCODING>
__global__ void __launch_bounds__(BANDS_THREADS, 4)
    quantize_bands_kernel(const __grid_constant__ BandsPlan plan, const __grid_constant__ BandParts parts) {
  __shared__ __align__(16) uint4 chunks[byte_patch::SIDE * byte_patch::RUNS];
  __shared__ uint32_t warp_magnitude[WARP];
  const BandTask task = task_of(parts, blockIdx.x);
  uint32_t *progress = plan.progress + 2 * task.band;
  if (task.turns) {
    wait_until_written(progress, parts);
    turn_patch(plan, task.band, task.part, chunks);
    return;
  }
  const PiecesPlan &pieces = plan.pieces;
  const int lane = threadIdx.x & (pieces.group - 1);
  const Piece piece = piece_at(pieces, 0, task.band * parts.writers + task.part, BANDS_THREADS / pieces.group);
  uint4 raw[VECTORS];
  load_piece<Scalar>(pieces, piece, lane, raw);
  NoStage stage;
  const Encoder<ENCODING> encoder(stage, nullptr);
  const VectorScaling scaling = scale_piece<Scalar, ENCODING, false>(pieces, piece, lane, raw, 0, warp_magnitude);
  write_piece<Scalar, ENCODING, false>(pieces, encoder, piece, lane, raw, scaling);
  note_written(progress);
}

template <typename Scalar, Encoding ENCODING> cudaError_t run_bands(Launch launch, const BandsPlan &plan) {
  const auto kernel = quantize_bands_kernel<Scalar, ENCODING>;
  BandParts parts;
  parts.bands = divide_up(plan.rows, (int64_t)BANDS_ROWS);
  parts.writers = (int)(BANDS_ROWS * plan.columns / plan.pieces.length / (BANDS_THREADS / plan.pieces.group));
  parts.turners = (int)divide_up(plan.columns, (int64_t)byte_patch::SIDE);
  /* As many bands as the device works on at once. */
  const int resident = resident_grid((const void *)kernel, launch, BANDS_THREADS, parts.count());
  parts.delay = divide_up(resident, parts.writers + parts.turners);
  kernel<<<(unsigned)parts.count(), BANDS_THREADS, 0, launch.stream>>>(plan, parts);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_quantize_bands(Launch launch, const BandsPlan *plan) {
  return with_scalar(plan->pieces.quantize.dtype, [&](auto scalar) {
    return with_float8(plan->pieces.quantize.format, [&](auto format) {
      return run_bands<decltype(scalar), encoding_of_code<decltype(format)>>(launch, *plan);
    });
  });
}
