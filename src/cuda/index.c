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

bool cuda_index_add(Tensor *out, const Tensor *x, const Tensor *index, bool adds) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  IndexAddPlan plan = {.index = plan_of(device, out, x, index),
                       .out = tensor_data(out),
                       .x = tensor_data(x),
                       .out_dtype = out->dtype,
                       .dtype = x->dtype,
                       .adds = adds};
  int64_t length = plan.index.length;
  if (length > INT32_MAX) return error_set("%lld rows are too many: at most 2^31 - 1", (long long)length);
  Tensor narrow = {0};
  if (!cuda_scratch(&narrow, device, plan.index.picks * (int64_t)sizeof(int32_t))) return false;
  plan.narrow_index = tensor_data(&narrow);
  cudaError_t error = launch_index_add(device->launch, &plan);
  tensor_release(&narrow);
  return cuda_launched(device, error, "index_add kernel");
}

bool cuda_gather(Tensor *out, const Tensor *x, const Tensor *index) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  IndexPlan plan = plan_of(device, x, out, index);
  int word = (int)dtype_size(out->dtype);
  cudaError_t error = launch_gather(device->launch, tensor_data(out), tensor_data(x), word, &plan);
  return cuda_launched(device, error, "gather kernel");
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
  return cuda_launched(device, launch_scatter(device->launch, &plan), "scatter kernel");
}
