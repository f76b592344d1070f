/* What quantizing did to a tensor. */
#include "internal.h"

/* Whether four elements at a time can be read. */
static bool allows_vectors(const ComparePlan *plan) {
  return is_aligned(plan->x, 4 * element_bytes(plan->dtype)) &&
         (!plan->values || is_aligned(plan->values, 4 * element_bytes(plan->values_dtype)));
}

bool cuda_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, const CompareRule *rule) {
  CudaDevice *device = cuda_tensor_device(x);
  if (!device) return false;
  ComparePlan plan = {.x = tensor_data(x), .dtype = x->dtype, .count = tensor_count(x), .rule = *rule};
  if (values) {
    plan.values = tensor_data(values);
    plan.values_dtype = values->dtype;
    plan.codes = element_bytes(values->dtype) == 1;
  }
  if (scale) plan.scale = tensor_data(scale);
  plan.vectorize = allows_vectors(&plan);
  Tensor partials = {0};
  int64_t bytes = compare_grid(plan.count, device->launch.multiprocessors) * (int64_t)sizeof *plan.partials;
  if (!cuda_scratch(&partials, device, bytes)) return false;
  plan.partials = tensor_data(&partials);
  bool done = cuda_check(launch_compare(device->launch, &plan, tensor_data(row)), "compare kernel");
  tensor_release(&partials);
  return done;
}
