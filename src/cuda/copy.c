/* Copies and conversions. */
#include "cuda/elementwise/plan.h"

/* Bytes of the widest words that elements can be moved in: more than one element where those lie side by side in both
 * operands. */
static int64_t widest_word(const ElementwisePlan *plan, int64_t element) {
  int inner = plan->rank - 1;
  int64_t word = element;
  if (plan->operand[0].stride[inner] != 1 || plan->operand[1].stride[inner] != 1) return word;
  for (word = 16; word > element; word /= 2) {
    bool fits = plan->size[inner] * element % word == 0;
    for (int k = 0; k < 2; k++) {
      fits = fits && is_aligned(plan->operand[k].data, word);
      for (int d = 0; d < inner; d++) fits = fits && plan->operand[k].stride[d] * element % word == 0;
    }
    if (fits) break;
  }
  return word;
}

/* Makes the plan one of words of `ratio` elements. */
static void count_words(ElementwisePlan *plan, int64_t ratio) {
  int inner = plan->rank - 1;
  plan->size[inner] /= ratio;
  plan->count /= ratio;
  for (int d = 0; d < inner; d++) {
    for (int k = 0; k < 2; k++) plan->operand[k].stride[d] /= ratio;
  }
}

/* True, with the plan brought to rank 3, if the output runs along the last dimension and the input along the one
 * before. */
static bool is_transpose(ElementwisePlan *plan) {
  enum { WORTHWHILE = 8 };
  int last = plan->rank - 1;
  if (plan->rank < 2 || plan->rank > 3) return false;
  if (plan->operand[0].stride[last] != 1 || plan->operand[1].stride[last] == 1) return false;
  if (plan->operand[1].stride[last - 1] != 1) return false;
  if (plan->size[last] < WORTHWHILE || plan->size[last - 1] < WORTHWHILE) return false;
  if (plan->rank == 2) {
    for (int d = 2; d > 0; d--) {
      plan->size[d] = plan->size[d - 1];
      for (int k = 0; k < 2; k++) plan->operand[k].stride[d] = plan->operand[k].stride[d - 1];
    }
    plan->size[0] = 1;
    for (int k = 0; k < 2; k++) plan->operand[k].stride[0] = 0;
    plan->rank = 3;
  }
  return true;
}

static bool copy_same_dtype(CudaDevice *device, Tensor *out, const Tensor *src, ElementwisePlan *plan) {
  int64_t element = dtype_size(out->dtype);
  bool together = tensor_is_contiguous(out) && tensor_is_contiguous(src);
  if (together && tensor_data(out) == tensor_data(src)) return true;
  /* A graph of nothing but kernels is launched much faster. */
  if (together && !device->capturing) {
    cudaError_t error = cudaMemcpyAsync(tensor_data(out), tensor_data(src), (size_t)(plan->count * element),
                                        cudaMemcpyDeviceToDevice, device->launch.stream);
    return cuda_check(error, "cudaMemcpyAsync");
  }
  if (is_transpose(plan))
    return cuda_launched(device, launch_transpose_words(device->launch, plan, (int)element), "transpose kernel");
  int64_t word = widest_word(plan, element);
  count_words(plan, word / element);
  return cuda_launched(device, launch_copy_words(device->launch, plan, (int)word), "copy kernel");
}

bool cuda_copy(Tensor *out, const Tensor *src, bool saturate) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand input = tensor_operand(src);
  ElementwisePlan plan = elementwise_plan(out, &input, 1);
  if (out->dtype == src->dtype) return copy_same_dtype(device, out, src, &plan);
  plan.saturate = saturate;
  if (dtype_is_integer(out->dtype) && dtype_is_integer(src->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_convert(device->launch, &plan), "convert kernel");
}

static CopiedPart part_of(const ElementwisePlan *plan) {
  CopiedPart part = {
      .out = plan->operand[0].data, .in = plan->operand[1].data, .rank = plan->rank, .count = plan->count};
  for (int d = 0; d < plan->rank; d++) {
    part.size[d] = plan->size[d];
    part.out_stride[d] = plan->operand[0].stride[d];
    part.in_stride[d] = plan->operand[1].stride[d];
  }
  return part;
}

/* What has been collected for one launch: plans that count elements, all of which can be moved in words of `word` bytes. */
typedef struct Collected {
  int count;
  int64_t word;
  ElementwisePlan plan[COPIED_PARTS];
} Collected;

static bool copy_collected(const CudaDevice *device, Collected *collected, int64_t element) {
  CopyPartsPlan plan = {.parts = collected->count};
  if (collected->count == 0) return true;
  for (int i = 0; i < collected->count; i++) {
    count_words(&collected->plan[i], collected->word / element);
    plan.part[i] = part_of(&collected->plan[i]);
  }
  collected->count = 0;
  return cuda_launched(device, launch_copy_parts(device->launch, &plan, (int)collected->word), "copy_parts kernel");
}

bool cuda_copy_parts(Tensor *parts, const Tensor *sources, int count) {
  CudaDevice *device = cuda_tensor_device(&parts[0]);
  if (!device) return false;
  int64_t element = dtype_size(parts[0].dtype);
  Collected collected;
  collected.count = 0;
  for (int i = 0; i < count; i++) {
    if (tensor_count(&parts[i]) == 0) continue;
    Operand input = tensor_operand(&sources[i]);
    ElementwisePlan plan = elementwise_plan(&parts[i], &input, 1);
    ElementwisePlan turned = plan;
    if (plan.rank > COPIED_RANK || is_transpose(&turned)) {
      if (!copy_same_dtype(device, &parts[i], &sources[i], &plan)) return false;
      continue;
    }
    int64_t word = widest_word(&plan, element);
    if (collected.count == 0 || word < collected.word) collected.word = word;
    collected.plan[collected.count++] = plan;
    if (collected.count == COPIED_PARTS && !copy_collected(device, &collected, element)) return false;
  }
  return copy_collected(device, &collected, element);
}
