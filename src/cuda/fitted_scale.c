/* Fitted scales. */
#include "fitted_scale/fitted_scale.h"

#include "cuda/quantize/plan.h"

static bool take_parts(Tensor *scratch, CudaDevice *device, FittedPlan *plan) {
  int64_t parts = plan->blocks * plan->parts, errors = plan->fit.candidates > 1 ? parts * FIT_CANDIDATES_MOST : 0;
  int64_t sums = parts * (int64_t)sizeof *plan->sums, words = 2 * plan->blocks * (int64_t)sizeof *plan->magnitudes;
  if (!cuda_scratch(scratch, device, sums + words + errors * (int64_t)sizeof *plan->errors)) return false;
  char *room = tensor_data(scratch);
  plan->sums = (FitSums *)room;
  plan->magnitudes = (uint32_t *)(room + sums);
  if (errors > 0) plan->errors = (float *)(room + sums + words);
  return true;
}

/* A map's look-up is for numbers up to some limit. */
static bool looks_up(const Quantizer *quantizer) {
  if (!quantizer->map || quantizer->map->table.lookup.half == 0) return false;
  float limit = isinf(quantizer->rule.limit) ? LOOKUP_LIMIT : quantizer->rule.limit;
  const float *value = quantizer->map->table.value;
  return value[0] >= -limit && value[MAP_SIZE - 1] <= limit;
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
  if (plan.quantize.grid.bits > 0) {
    plan.grid = fit_grid(&plan.quantize.grid, plan.quantize.rule.limit);
    plan.bound = fit_bound(&plan.quantize.grid, plan.quantize.rule.limit);
  }
  plan.looks_up = looks_up(quantizer);
  int64_t length = plan.quantize.blocksize, width = length;
  if (quantizer->tile_rows > 0) {
    plan.columns = columns;
    plan.rows = count / columns;
    plan.tile_rows = quantizer->tile_rows;
    plan.tile_columns = quantizer->tile_columns;
    plan.tiles_across = divide_up(columns, quantizer->tile_columns);
    width = quantizer->tile_columns;
    length = quantizer->tile_rows * width;
  }
  plan.length = length;
  plan.parts = divide_up(length, (int64_t)FIT_PART);
  plan.whole = count % plan.quantize.blocksize == 0;
  plan.usual = fit->candidates > 0 && quantizer->rule.headroom == 1 && quantizer->rule.constant == 0 &&
               (quantizer->rule.rounding == SCALE_EXACT || quantizer->rule.rounding == SCALE_E4M3);
  plan.vectors = is_aligned(plan.quantize.x, 2 * FIT_EIGHT) && width % FIT_EIGHT == 0 &&
                 (quantizer->tile_rows > 0 ? columns : count) % FIT_EIGHT == 0;
  Tensor scratch = {0};
  if (plan.parts > FITTED_FEW_PARTS && !take_parts(&scratch, device, &plan)) return false;
  bool done = cuda_launched(device, launch_fitted_scale(device->launch, &plan), "fitted scale kernel");
  tensor_release(&scratch);
  return done;
}
