/* Convolutions without patches, by oneDNN, where that is faster. */
#include "core/context.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/dnnl/library.h"
#include "cpu/matmul/product.h"
#include "cpu/memory/memory.h"
#include "cpu/patches/convolution_dnnl.h"

/* Images are convolved so many at a time that they, and what is made of them, stay in a cache. */
static const int64_t chunk_bytes = (int64_t)8 << 20;

/* Some of oneDNN's kernels count bytes in 32 bits; in blocks of channels there may be twice as many. */
static bool is_small(const Tensor *tensor) { return tensor_count(tensor) <= INT32_MAX / 2 / (int64_t)sizeof(float); }

static bool overlaps(const WindowAxis *axis) { return axis->stride < (axis->kernel - 1) * axis->dilation + 1; }

/* Of the arithmetic of blocks of 16 channels, how much there would be without; few channels fill no vectors in products,
 * either. */
static double share_used(int64_t channels) {
  enum { BLOCK = 16 };
  return channels < BLOCK ? 1 : (double)channels / (double)(divide_up(channels, BLOCK) * BLOCK);
}

/* Where products of patches are as fast or faster: all patches are no more than the image, or a patch is short, or oneDNN would
 * compute many channels in vain. For gradients with images of three channels it has kernels of their own. */
static bool suits_patches(const ConvolutionTensors *tensors) {
  enum { SHORT_PATCH = 32, IMAGE_CHANNELS = 3, FEW_CHANNELS = 8, FEW_OUTPUTS = 16 };
  static const double least_used = 0.57;
  const WindowAxis *y = &tensors->window.y, *x = &tensors->window.x;
  int64_t groups = tensors->x->size[1] / tensors->weight->size[1];
  int64_t channels = tensors->weight->size[1], outputs = tensors->weight->size[0] / groups;
  if (channels == 1 && outputs == 1 && groups > 1) return false;
  if (groups == 1 && !overlaps(y) && !overlaps(x)) return true;
  if (channels * y->kernel * x->kernel < SHORT_PATCH || share_used(channels) * share_used(outputs) < least_used)
    return true;
  switch (tensors->result) {
  case CONVOLUTION_OUTPUT:
    return false;
  case CONVOLUTION_INPUT:
    return channels < FEW_CHANNELS || outputs < FEW_OUTPUTS;
  case CONVOLUTION_WEIGHT:
    return (channels < FEW_CHANNELS && channels != IMAGE_CHANNELS) || outputs < FEW_OUTPUTS;
  }
  trap_missing_case();
}

/* Whether bf16 instructions may lose a subnormal number of the two tensors that are multiplied. */
static bool may_be_subnormal(const ConvolutionTensors *tensors) {
  const Tensor *a = tensors->result == CONVOLUTION_INPUT ? tensors->y : tensors->x;
  const Tensor *b = tensors->result == CONVOLUTION_WEIGHT ? tensors->y : tensors->weight;
  int64_t a_count = tensor_count(a), b_count = tensor_count(b);
  Product product = {.a = {.data = tensor_data(a), .batch = 1, .rows = 1, .columns = a_count, .stride = a_count},
                     .b = {.data = tensor_data(b), .batch = 1, .rows = 1, .columns = b_count, .stride = b_count}};
  return product_may_be_subnormal(&product);
}

/* --- some images at a time --- */

typedef struct Side {
  const Tensor *tensor;
  int64_t step; /* elements of an image; 0: of the weight, which all images share */
  float *wide;  /* room for the elements of a chunk as float32, or NULL */
  size_t wide_bytes;
} Side;

typedef struct Chunks {
  DirectConvolution convolution; /* of a chunk */
  Side side[CONVOLUTION_TENSORS];
  int64_t images; /* of a chunk */
  int result;     /* which side it is */
} Chunks;

static int64_t elements_of(const Side *side, int64_t images) {
  return side->step > 0 ? images * side->step : tensor_count(side->tensor);
}

/* Widens what it reads, if that has to be. */
static void *load(const Side *side, int64_t first, int64_t images, bool reads) {
  char *data = (char *)tensor_data(side->tensor) + first * side->step * dtype_size(side->tensor->dtype);
  if (!side->wide) return data;
  if (reads && (side->step > 0 || first == 0))
    convert_all(DTYPE_F32, side->wide, side->tensor->dtype, data, elements_of(side, images));
  return side->wide;
}

static bool convolve_chunk(Chunks *job, int64_t first, bool *done) {
  DirectConvolution *convolution = &job->convolution;
  for (int i = 0; i < CONVOLUTION_TENSORS; i++)
    convolution->data[i] = load(&job->side[i], first, convolution->images, i != job->result);
  if (!convolution_dnnl(convolution, done)) return false;
  const Side *result = &job->side[job->result];
  if (*done && result->wide) {
    DType dtype = result->tensor->dtype;
    char *data = (char *)tensor_data(result->tensor) + first * result->step * dtype_size(dtype);
    convert_all(dtype, data, DTYPE_F32, result->wide, elements_of(result, convolution->images));
  }
  return true;
}

static bool convolve_chunks(Chunks *job, bool *done) {
  const Context *stopper = tensor_stopper(job->side[job->result].tensor);
  int64_t images = job->side[CONVOLUTION_X].tensor->size[0];
  bool succeeded = *done = true;
  for (int64_t first = 0; succeeded && *done && first < images; first += job->images) {
    if (context_stops(stopper)) return false;
    job->convolution.images = images - first < job->images ? images - first : job->images;
    succeeded = convolve_chunk(job, first, done);
  }
  return succeeded;
}

/* Gives each tensor that is not f32 room to be it. */
static bool allocate_wide(Chunks *job) {
  for (int i = 0; i < CONVOLUTION_TENSORS; i++) {
    Side *side = &job->side[i];
    if (side->tensor->dtype == DTYPE_F32) continue;
    side->wide_bytes = (size_t)elements_of(side, job->images) * sizeof(float);
    side->wide = scratch_allocate(side->wide_bytes);
    if (!side->wide) return false;
  }
  return true;
}

static Chunks chunks_of(const ConvolutionTensors *tensors, DType dtype) {
  const Tensor *x = tensors->x, *weight = tensors->weight, *y = tensors->y;
  int64_t images = x->size[0], x_step = tensor_count(x) / images, y_step = tensor_count(y) / images;
  int64_t chunk = chunk_bytes / ((x_step + y_step) * (int64_t)dtype_size(dtype));
  if (chunk < 1) chunk = 1;
  if (chunk > images || tensors->result == CONVOLUTION_WEIGHT) chunk = images;
  return (Chunks){.convolution = {.result = tensors->result,
                                  .window = tensors->window,
                                  .channels = x->size[1],
                                  .outputs = y->size[1],
                                  .groups = x->size[1] / weight->size[1],
                                  .dtype = dtype,
                                  .kernel_dtype = dtype == DTYPE_F32 ? dtype : weight->dtype},
                  .side = {[CONVOLUTION_X] = {.tensor = x, .step = x_step},
                           [CONVOLUTION_KERNEL] = {.tensor = weight},
                           [CONVOLUTION_Y] = {.tensor = y, .step = y_step}},
                  .images = chunk,
                  .result = convolution_result_tensor(tensors->result)};
}

bool cpu_convolve(const ConvolutionTensors *tensors, bool *done) {
  const Tensor *x = tensors->x, *weight = tensors->weight;
  *done = false;
  /* oneDNN's sums may depend on the number of threads. */
  if (context_now->deterministic || !dnnl_has_instructions(DTYPE_F32) || suits_patches(tensors) || !is_small(x) ||
      !is_small(weight) || !is_small(tensors->y)) {
    return true;
  }
  bool is_narrow = x->dtype == DTYPE_BF16 && dnnl_has_instructions(DTYPE_BF16) && !may_be_subnormal(tensors);
  Chunks job = chunks_of(tensors, is_narrow ? DTYPE_BF16 : DTYPE_F32);
  bool succeeded = (is_narrow || allocate_wide(&job)) && convolve_chunks(&job, done);
  for (int i = 0; i < CONVOLUTION_TENSORS; i++) {
    if (job.side[i].wide) scratch_release(job.side[i].wide, job.side[i].wide_bytes);
  }
  return succeeded;
}
