/* Fitted scales. */
#include "fitted_scale.h"

#include "cuda/quantize/plan.h"

static bool take_parts(Tensor *scratch, CudaDevice *device, FittedPlan *plan) {
  plan->parts = divide_up(plan->length, (int64_t)FIT_PART);
  int64_t parts = plan->blocks * plan->parts, errors = plan->fit.candidates > 1 ? parts * FIT_CANDIDATES_MOST : 0;
  int64_t doubles = errors * (int64_t)sizeof(double), sums = parts * (int64_t)sizeof *plan->sums;
  if (!cuda_scratch(scratch, device, doubles + sums + plan->blocks * (int64_t)sizeof *plan->magnitudes)) return false;
  char *room = tensor_data(scratch);
  if (errors > 0) plan->errors = (double *)room;
  plan->sums = (FitSums *)(room + doubles);
  plan->magnitudes = (uint32_t *)(room + doubles + sums);
  return true;
}

bool cuda_fitted_scale(Tensor *scale, const Tensor *x, const Quantizer *quantizer, const FitRule *fit) {
  int64_t count = tensor_count(x), columns = tensor_as_matrix(x).size[1];
  if (count == 0) return cuda_fill(scale, number_of(0));
  CudaDevice *device = cuda_tensor_device(x);
  FittedPlan plan = {.fit = *fit, .scale = tensor_data(scale), .blocks = tensor_count(scale)};
  if (!device || !cuda_quantize_plan(&plan.quantize, device, quantizer, count)) return false;
  cuda_set_grid(&plan.quantize);
  plan.quantize.x = tensor_data(x);
  plan.quantize.dtype = x->dtype;
  int64_t length = plan.quantize.blocksize;
  if (quantizer->tile_rows > 0) {
    plan.columns = columns;
    plan.rows = count / columns;
    plan.tile_rows = quantizer->tile_rows;
    plan.tile_columns = quantizer->tile_columns;
    plan.tiles_across = divide_up(columns, quantizer->tile_columns);
    length = quantizer->tile_rows * quantizer->tile_columns;
  }
  plan.length = length;
  plan.lanes = fit_lanes(length);
  Tensor scratch = {0};
  if (length > FIT_PART && !take_parts(&scratch, device, &plan)) return false;
  bool done = cuda_launched(device, launch_fitted_scale(device->launch, &plan), "fitted scale kernel");
  tensor_release(&scratch);
  return done;
}
