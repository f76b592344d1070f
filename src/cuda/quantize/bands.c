/* Codes of blocks along rows and the same transposed, band by band. */
#include "quantize/bands/bands.h"

#include "cuda/quantize/job.h"

enum { MOST_BANDS = 16384 };
static const size_t progress_bytes = (size_t)MOST_BANDS * 2 * sizeof(uint32_t);

void cuda_release_bands(CudaDevice *device) {
  if (device->bands) cuda_allocator.release(device->index, device->bands, progress_bytes);
  device->bands = NULL;
}

/* The device's words, which every launch leaves as it finds them; NULL with an error. */
static uint32_t *progress_of(CudaDevice *device) {
  if (device->bands) return device->bands;
  uint32_t *words = cuda_allocate_uncounted(device, progress_bytes);
  if (!words) return NULL;
  if (!cuda_check(cudaMemsetAsync(words, 0, progress_bytes, cuda_direct_stream(device)), "cudaMemsetAsync")) {
    cuda_allocator.release(device->index, words, progress_bytes);
    return NULL;
  }
  return device->bands = words;
}

/* Whether a band's blocks are those of whole thread blocks. */
static bool cut(BandsPlan *plan, const QuantizeJob *job) {
  enum { VECTORS = 4 };
  int64_t length = job->plan.blocksize, band = BANDS_ROWS * job->columns;
  if (length % job->vector != 0 || length > BANDS_THREADS * VECTORS * job->vector) return false;
  cuda_cut_pieces(&plan->pieces, length, job->vector, VECTORS);
  return band % (length * (BANDS_THREADS / plan->pieces.group)) == 0;
}

static bool suits(const QuantizeJob *job) {
  enum { SIDE = 16 };
  const QuantizeOutputs *outputs = job->outputs;
  if (!job->fast || job->quantizer->map || job->quantizer->tile_rows > 0) return false;
  if (outputs->column_sum || job->plan.values || divide_up(job->rows, (int64_t)BANDS_ROWS) > MOST_BANDS) return false;
  return job->rows % SIDE == 0 && job->columns % SIDE == 0 && is_aligned(tensor_data(outputs->transposed), SIDE);
}

bool cuda_quantize_bands(const QuantizeJob *job, bool *done) {
  BandsPlan plan = {.pieces = {.quantize = job->plan},
                    .transposed = tensor_data(job->outputs->transposed),
                    .rows = job->rows,
                    .columns = job->columns};
  *done = suits(job) && cut(&plan, job);
  if (!*done) return true;
  plan.progress = progress_of(job->device);
  return plan.progress &&
         cuda_launched(job->device, launch_quantize_bands(job->device->launch, &plan), "quantize kernel");
}
