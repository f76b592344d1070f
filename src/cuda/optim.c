/* Optimizer steps and norms: cuts lists of tensors into those that kernels take. */
#include "optim/optim.h"

#include "cuda/cuda.h"

/* Completes `listed`, which the others are tiles before; false for a tensor without elements, which no list has. */
static bool complete(ListedTensor *listed, const Tensor *tensor, int tiles) {
  listed->count = tensor_count(tensor);
  listed->dtype = (uint8_t)tensor->dtype;
  listed->first_tile = tiles;
  return listed->count > 0;
}

static int tiles_of(const ListedTensor *listed) { return (int)divide_up(listed->count, LIST_TILE); }

static void add_tensor(TensorList *list, const Tensor *tensor, ListedTensor listed) {
  if (!complete(&listed, tensor, list->tiles)) return;
  list->tensor[list->tensors++] = listed;
  list->tiles += tiles_of(&listed);
}

/* `vector`: how many elements its kernel takes at a time, and `state_bytes` of each moment. */
static ListedTensor describe(const UpdateEntry *entry, int64_t vector, int64_t state_bytes) {
  enum { WIDEST = 16 };
  int64_t bytes = vector * dtype_size(entry->parameter->dtype);
  if (bytes > WIDEST) bytes = WIDEST;
  ListedTensor listed = {.data = tensor_data(entry->parameter),
                         .grad = tensor_data(entry->grad),
                         .first = entry->first ? tensor_data(entry->first) : NULL,
                         .second = entry->second ? tensor_data(entry->second) : NULL,
                         .master = entry->master ? tensor_data(entry->master) : NULL,
                         .first_word = entry->first_word};
  listed.vectors = is_aligned(listed.data, bytes) && is_aligned(listed.grad, bytes) &&
                   is_aligned(listed.first, state_bytes) && is_aligned(listed.second, state_bytes) &&
                   is_aligned(listed.master, WIDEST);
  return listed;
}

static void add_entry(TensorList *list, const UpdateEntry *entry) {
  add_tensor(list, entry->parameter, describe(entry, 4, 4 * (int64_t)sizeof(float)));
}

static void add_coded(CodedList *list, const UpdateEntry *entry) {
  CodedTensor coded = {.listed = describe(entry, 8, 8),
                       .first_scale = tensor_data(entry->first_scale),
                       .second_scale = entry->second_scale ? tensor_data(entry->second_scale) : NULL};
  if (!complete(&coded.listed, entry->parameter, list->tiles)) return;
  list->tensor[list->tensors++] = coded;
  list->tiles += tiles_of(&coded.listed);
}

/* What STABLE_ADAMW needs, in `scratch`. */
static bool make_room(UpdateNumbers *numbers, const CudaDevice *device, Tensor *scratch, int tensors, int tiles) {
  if (numbers->rule != UPDATE_STABLE_ADAMW || tiles == 0) return true;
  if (!cuda_scratch(scratch, device, ((int64_t)tiles + tensors) * (int64_t)sizeof(float))) return false;
  numbers->partials = tensor_data(scratch);
  numbers->divisors = numbers->partials + tiles;
  return true;
}

/* Updates what is in the list, and empties it. */
static bool update_list(const CudaDevice *device, UpdatePlan *plan) {
  Tensor scratch = {0};
  bool done = make_room(&plan->numbers, device, &scratch, plan->list.tensors, plan->list.tiles) &&
              cuda_launched(device, launch_update(device->launch, plan), "optimizer kernel");
  tensor_release(&scratch);
  plan->list.tensors = plan->list.tiles = 0;
  return done;
}

static bool update_coded(const CudaDevice *device, CodedPlan *plan) {
  Tensor scratch = {0};
  bool done = make_room(&plan->numbers, device, &scratch, plan->list.tensors, plan->list.tiles) &&
              cuda_launched(device, launch_update_coded(device->launch, plan), "8-bit optimizer kernel");
  tensor_release(&scratch);
  plan->list.tensors = plan->list.tiles = 0;
  return done;
}

static bool make_format(MomentFormat *moment, const CudaDevice *device, const Quantizer *format, bool raised) {
  *moment = (MomentFormat){.format = format->format, .smallest = raised ? smallest_number(format) : 0};
  if (format->map) moment->map = cuda_map_table(device, format->map);
  return !format->map || moment->map;
}

static bool make_coded(CodedPlan *plan, const CudaDevice *device, const Update *update) {
  while (((int64_t)1 << plan->block_shift) < update->first_format.blocksize) plan->block_shift++;
  return update->first_format.blocksize == 0 || (make_format(&plan->first, device, &update->first_format, false) &&
                                                 make_format(&plan->second, device, &update->second_format, true));
}

bool cuda_update(const Update *update) {
  if (update->count == 0) return true;
  CudaDevice *device = cuda_tensor_device(update->list[0].parameter);
  if (!device) return false;
  UpdateNumbers numbers = {
      .rule = update->rule, .step = update->step, .live = update->live ? tensor_data(update->live) : NULL};
  UpdatePlan plain = {.numbers = numbers};
  CodedPlan coded = {.numbers = numbers};
  bool done = make_coded(&coded, device, update);
  for (int i = 0; done && i < update->count; i++) {
    const UpdateEntry *entry = &update->list[i];
    if (entry->first_scale) {
      add_coded(&coded.list, entry);
      if (coded.list.tensors == CODED_TENSORS) done = update_coded(device, &coded);
    } else {
      add_entry(&plain.list, entry);
      if (plain.list.tensors == LIST_TENSORS) done = update_list(device, &plain);
    }
  }
  return done && update_coded(device, &coded) && update_list(device, &plain);
}

/* The tensors from *next on, as many as fit; moves *next behind them. */
static void take_tensors(TensorList *taken, Tensor *const *list, int count, int *next) {
  taken->tensors = taken->tiles = 0;
  for (; *next < count && taken->tensors < LIST_TENSORS; ++*next) {
    void *data = tensor_data(list[*next]);
    add_tensor(taken, list[*next], (ListedTensor){.data = data, .vectors = is_aligned(data, 16)});
  }
}

bool cuda_clip_norm(Tensor *norm, Tensor *const *list, int measured, int scaled, int count, float largest) {
  CudaDevice *device = cuda_tensor_device(norm);
  if (!device) return false;
  int64_t tiles = 0;
  for (int i = 0; i < measured; i++) tiles += divide_up(tensor_count(list[i]), LIST_TILE);
  Tensor scratch = {0};
  if (!cuda_scratch(&scratch, device, (tiles + 1) * (int64_t)sizeof(double))) return false;
  double *partials = tensor_data(&scratch), *end = partials, *exact = partials + tiles;
  TensorList taken;
  bool done = true;
  for (int next = 0; done && next < measured; end += taken.tiles) {
    take_tensors(&taken, list, measured, &next);
    done = cuda_launched(device, launch_squares(device->launch, &taken, end), "norm kernel");
  }
  done = done &&
         cuda_launched(device, launch_norm(device->launch, partials, tiles, exact, tensor_data(norm)), "norm kernel");
  for (int next = scaled; done && next < count && !isinf(largest);) {
    take_tensors(&taken, list, count, &next);
    done = cuda_launched(device, launch_clip(device->launch, &taken, exact, largest), "norm kernel");
  }
  tensor_release(&scratch);
  return done;
}

bool cuda_store_words(Tensor *out, const uint32_t *words) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  return cuda_launched(device, launch_store_words(device->launch, tensor_data(out), words, (int)tensor_count(out)),
                       "store kernel");
}
