/* Optimizer steps and norms: cuts lists of tensors into those that kernels take. */
#include "optim/optim.h"

#include "cuda/cuda.h"

/* Adds a tensor without elements not at all, any other with the fields of `listed` and its tiles. */
static void add_tensor(TensorList *list, const Tensor *tensor, ListedTensor listed) {
  listed.count = tensor_count(tensor);
  if (listed.count == 0) return;
  listed.dtype = (uint8_t)tensor->dtype;
  listed.first_tile = list->tiles;
  list->tensor[list->tensors++] = listed;
  list->tiles += (int)divide_up(listed.count, LIST_TILE);
}

static void add_entry(TensorList *list, const UpdateEntry *entry) {
  enum { VECTOR = 4 };
  int64_t bytes = VECTOR * dtype_size(entry->parameter->dtype), state_bytes = VECTOR * (int64_t)sizeof(float);
  ListedTensor listed = {.data = tensor_data(entry->parameter),
                         .grad = tensor_data(entry->grad),
                         .first = entry->first ? tensor_data(entry->first) : NULL,
                         .second = entry->second ? tensor_data(entry->second) : NULL,
                         .master = entry->master ? tensor_data(entry->master) : NULL};
  listed.vectors = is_aligned(listed.data, bytes) && is_aligned(listed.grad, bytes) &&
                   is_aligned(listed.first, state_bytes) && is_aligned(listed.second, state_bytes) &&
                   is_aligned(listed.master, state_bytes);
  add_tensor(list, entry->parameter, listed);
}

static bool update_list(const CudaDevice *device, UpdatePlan *plan) {
  Tensor scratch = {0};
  if (plan->rule == UPDATE_STABLE_ADAMW && plan->list.tiles > 0) {
    int64_t numbers = plan->list.tiles + plan->list.tensors;
    if (!cuda_scratch(&scratch, device, numbers * (int64_t)sizeof(float))) return false;
    plan->partials = tensor_data(&scratch);
    plan->divisors = plan->partials + plan->list.tiles;
  }
  bool done = cuda_launched(device, launch_update(device->launch, plan), "optimizer kernel");
  tensor_release(&scratch);
  return done;
}

bool cuda_update(const Update *update) {
  if (update->count == 0) return true;
  CudaDevice *device = cuda_tensor_device(update->list[0].parameter);
  if (!device) return false;
  UpdatePlan plan = {
      .rule = update->rule, .step = update->step, .live = update->live ? tensor_data(update->live) : NULL};
  for (int i = 0; i < update->count; i++) {
    add_entry(&plan.list, &update->list[i]);
    if (plan.list.tensors < LIST_TENSORS && i + 1 < update->count) continue;
    if (!update_list(device, &plan)) return false;
    plan.list.tensors = plan.list.tiles = 0;
  }
  return true;
}

/* The tensors from *next on, as many as fit; moves *next behind them. */
static void take_tensors(TensorList *taken, Tensor *const *list, int count, int *next) {
  taken->tensors = taken->tiles = 0;
  for (; *next < count && taken->tensors < LIST_TENSORS; ++*next) {
    void *data = tensor_data(list[*next]);
    add_tensor(taken, list[*next], (ListedTensor){.data = data, .vectors = is_aligned(data, 16)});
  }
}

bool cuda_clip_norm(Tensor *norm, Tensor *const *list, int count, float largest) {
  CudaDevice *device = cuda_tensor_device(norm);
  if (!device) return false;
  int64_t tiles = 0;
  for (int i = 0; i < count; i++) tiles += divide_up(tensor_count(list[i]), LIST_TILE);
  Tensor scratch = {0};
  if (!cuda_scratch(&scratch, device, (tiles + 1) * (int64_t)sizeof(double))) return false;
  double *partials = tensor_data(&scratch), *end = partials, *exact = partials + tiles;
  TensorList taken;
  bool done = true;
  for (int next = 0; done && next < count; end += taken.tiles) {
    take_tensors(&taken, list, count, &next);
    done = cuda_launched(device, launch_squares(device->launch, &taken, end), "norm kernel");
  }
  done = done &&
         cuda_launched(device, launch_norm(device->launch, partials, tiles, exact, tensor_data(norm)), "norm kernel");
  for (int next = 0; done && next < count && !isinf(largest);) {
    take_tensors(&taken, list, count, &next);
    done = cuda_launched(device, launch_clip(device->launch, &taken, exact, largest), "norm kernel");
  }
  tensor_release(&scratch);
  return done;
}

bool cuda_store_fields(Tensor *out, const float *fields) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  return cuda_launched(device, launch_store_fields(device->launch, tensor_data(out), fields, (int)tensor_count(out)),
                       "store kernel");
}
