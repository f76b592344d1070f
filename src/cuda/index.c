/* Indexing: tensors of shape (outer, n, inner), picked from or put to along the middle dimension. */
#include "index/index.h"

#include "core/context.h"
#include "cuda/cuda.h"

/* `indexed` has the dimension that indices count in, `picked` the one they were listed in. */
static IndexPlan plan_of(const CudaDevice *device, const Tensor *indexed, const Tensor *picked, const Tensor *index) {
  return (IndexPlan){
      .index = tensor_data(index),
      .index_dtype = index->dtype,
      .outer = picked->size[0],
      .length = indexed->size[1],
      .picks = picked->size[1],
      .inner = picked->size[2],
      .fault = device->mapped_fault,
  };
}

/* The largest words, in bytes, that slices of `bytes` are made of in both places. */
static int widest_word(int64_t bytes, const void *to, const void *from) {
  int word = 16;
  while (bytes % word != 0 || !is_aligned(to, word) || !is_aligned(from, word)) word /= 2;
  return word;
}

bool cuda_index_select(Tensor *out, const Tensor *x, const Tensor *index) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  IndexPlan plan = plan_of(device, x, out, index);
  int64_t bytes = plan.inner * dtype_size(out->dtype);
  int word = widest_word(bytes, tensor_data(out), tensor_data(x));
  plan.inner = bytes / word;
  cudaError_t error = launch_index_select(device->launch, tensor_data(out), tensor_data(x), word, &plan);
  return cuda_launched(device, error, "index_select kernel");
}

/* How many entries of the index one thread block, and all that look through the whole of it, may look at: a longer one is
 * sorted, unless slices get so many entries that the few threads of the sums would be what takes time. */
enum { MOST_ENTRIES = 1 << 15, MOST_LOOKED_AT = 1 << 25, MOST_OF_A_SLICE = 64 };

/* Thread blocks that look through it have 8192 elements of the output each. */
static bool is_sorted_better(const IndexAddPlan *plan) {
  const IndexPlan *index = &plan->index;
  const int64_t blocks = index->outer * index->length * index->inner / 8192, picks = index->picks;
  return index_add_fits_vectors(plan) && picks <= INT32_MAX && picks / MOST_OF_A_SLICE <= index->length &&
         (picks >= MOST_ENTRIES || blocks >= MOST_LOOKED_AT / picks);
}

static bool add_sorted(CudaDevice *device, IndexAddPlan *plan, const Tensor *narrow) {
  const Device place = {cuda_kind, device->index};
  Tensor sorted = {0}, positions = {0}, starts = {0};
  bool done = tensor_create(&sorted, DTYPE_I32, place, 2, narrow->size) &&
              tensor_create(&positions, DTYPE_I64, place, 2, narrow->size) &&
              cuda_scratch(&starts, device, (plan->index.length + 1) * (int64_t)sizeof(int32_t)) &&
              cuda_sort(&sorted, &positions, narrow, false);
  if (done) {
    plan->sorted_index = tensor_data(&sorted);
    plan->positions = tensor_data(&positions);
    plan->starts = tensor_data(&starts);
    done = cuda_launched(device, launch_index_add_sorted(device->launch, plan), "sorted index_add kernels");
  }
  tensor_release(&sorted);
  tensor_release(&positions);
  tensor_release(&starts);
  return done;
}

bool cuda_index_add(Tensor *out, const Tensor *x, const Tensor *index, bool adds) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  IndexAddPlan plan = {.index = plan_of(device, out, x, index),
                       .out = tensor_data(out),
                       .x = tensor_data(x),
                       .out_dtype = out->dtype,
                       .dtype = x->dtype,
                       .adds = adds};
  const int64_t length = plan.index.length, picks = plan.index.picks;
  if (tensor_count(out) == 0) return true;
  if (length > INT32_MAX) return error_set("%lld rows are too many: at most 2^31 - 1", (long long)length);
  Tensor narrow = {0};
  if (!tensor_create(&narrow, DTYPE_I32, (Device){cuda_kind, device->index}, 2, (int64_t[]){1, picks})) return false;
  plan.narrow_index = tensor_data(&narrow);
  bool done = picks == 0 || cuda_launched(device, launch_narrow_index(device->launch, &plan), "index kernel");
  if (done && picks > 0 && is_sorted_better(&plan)) {
    done = add_sorted(device, &plan, &narrow);
  } else if (done) {
    done = cuda_launched(device, launch_index_add(device->launch, &plan), "index_add kernel");
  }
  tensor_release(&narrow);
  return done;
}

bool cuda_gather(Tensor *out, const Tensor *x, const Tensor *index) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  IndexPlan plan = plan_of(device, x, out, index);
  int word = (int)dtype_size(out->dtype);
  cudaError_t error = launch_gather(device->launch, tensor_data(out), tensor_data(x), word, &plan);
  return cuda_launched(device, error, "gather kernel");
}

enum {
  FEW_PICKS = 4096, /* in a row, where there are fewer rows than multiprocessors */
  SPARSE = 4        /* elements of a row for each pick: then float32 sums are better made where they lie */
};

bool cuda_sums_rows(const Tensor *x, const Tensor *index) {
  const CudaDevice *device = cuda_tensor_device(x);
  if (!device || context_current()->deterministic || index->rank != 3 || !dtype_is_compute_float(x->dtype))
    return false;
  const int64_t rows = x->size[0], length = x->size[1], picks = index->size[1];
  if (x->size[2] != 1 || length > SCATTER_ROW_MOST || picks > INT32_MAX / 2) return false;
  if (x->dtype == DTYPE_F32 && picks < length / SPARSE) return false;
  return picks <= FEW_PICKS || rows >= device->launch.multiprocessors;
}

bool cuda_scatter(Tensor *x, const Tensor *index, const Tensor *source, ScatterRule rule) {
  CudaDevice *device = cuda_tensor_device(x);
  if (!device) return false;
  bool slices = index->rank == 1, one_value = source->rank == 0;
  int64_t picks = index->size[slices ? 0 : 1], inner = x->size[2];
  int word = (int)dtype_size(x->dtype);
  if (slices && !one_value && rule == SCATTER_SET) {
    int64_t bytes = inner * word;
    word = widest_word(bytes, tensor_data(x), tensor_data(source));
    inner = bytes / word;
  }
  ScatterPlan plan = {.index = {.index = tensor_data(index),
                                .index_dtype = index->dtype,
                                .outer = x->size[0],
                                .length = x->size[1],
                                .picks = picks,
                                .inner = inner,
                                .fault = device->mapped_fault},
                      .x = tensor_data(x),
                      .source = tensor_data(source),
                      .dtype = x->dtype,
                      .word = word,
                      .slices = slices,
                      .one_value = one_value,
                      .in_order = context_current()->deterministic,
                      .rule = rule};
  bool by_rows = rule == SCATTER_SUM && !one_value && tensor_count(index) > 0 && cuda_sums_rows(x, index);
  cudaError_t error = by_rows ? launch_scatter_rows(device->launch, &plan) : launch_scatter(device->launch, &plan);
  return cuda_launched(device, error, "scatter kernel");
}
