/* Sorting rows. */
#include "order/sort.h"

#include "cuda/cuda.h"

enum {
  ELEMENTS_AT_ONCE = 1 << 26, /* of long rows, for which there is scratch space */
  FEW_ROWS = 128,             /* fewer long rows than these are sorted as one */
  PARTS = 264,                /* of all rows that the first are picked from, so that the device is busy, */
  PART_LEAST = 8192           /* and elements of a part */
};

/* Long rows in batches: their keys and positions take several times the memory of their elements. */
static bool sort_long(CudaDevice *device, SortPlan plan) {
  const int64_t rows = plan.rows, element = dtype_size(plan.dtype);
  const bool few = rows < FEW_ROWS;
  int64_t batch = few && element == 8 ? 1 : ELEMENTS_AT_ONCE / plan.columns;
  if (batch < 1) batch = 1;
  if (batch < rows) plan.rows = batch;
  plan.row_bits = few ? 0 : -1;
  while (few && (int64_t)1 << plan.row_bits < plan.rows) plan.row_bits++;
  Tensor scratch = {0};
  size_t bytes;
  if (!cuda_check(sort_long_bytes(&plan, &bytes), "radix sort") || !cuda_scratch(&scratch, device, (int64_t)bytes)) {
    return false;
  }
  void *memory = tensor_data(&scratch);
  cudaError_t error = cudaSuccess;
  for (int64_t row = 0; row < rows && error == cudaSuccess; row += plan.rows) {
    SortPlan part = plan;
    part.x = (const char *)plan.x + row * plan.columns * element;
    part.positions = plan.positions + row * plan.kept;
    if (plan.values) part.values = (char *)plan.values + row * plan.kept * element;
    if (part.rows > rows - row) part.rows = rows - row;
    error = launch_sort_long(device->launch, &part, memory, bytes);
  }
  tensor_release(&scratch);
  return cuda_launched(device, error, "sort kernels");
}

/* How many parts a row is best picked from. */
static int64_t parts_of(const SortPlan *plan) {
  int64_t least = 8 * plan->kept > PART_LEAST ? 8 * plan->kept : PART_LEAST;
  int64_t most = plan->columns / least, parts = plan->rows < PARTS / 2 ? PARTS / plan->rows : 1;
  return most < 1 ? 1 : parts < most ? parts : most;
}

/* The first of each part, then the first of these. */
static bool sort_top(CudaDevice *device, SortPlan plan) {
  plan.parts = parts_of(&plan);
  if (plan.parts == 1) return cuda_launched(device, launch_sort_top(device->launch, &plan), "top kernel");
  const int64_t count = plan.rows * plan.parts * plan.kept;
  Tensor scratch = {0};
  if (!cuda_scratch(&scratch, device, count * ((int64_t)sizeof(int64_t) + dtype_size(plan.dtype)))) return false;
  SortPlan pick = plan;
  pick.positions = tensor_data(&scratch);
  pick.values = pick.positions + count;
  plan.x = pick.values;
  plan.names = pick.positions;
  plan.columns = plan.parts * plan.kept;
  plan.parts = 1;
  cudaError_t error = launch_sort_top(device->launch, &pick);
  if (error == cudaSuccess) error = launch_sort_top(device->launch, &plan);
  tensor_release(&scratch);
  return cuda_launched(device, error, "top kernel");
}

bool cuda_sort(Tensor *values, Tensor *positions, const Tensor *x, bool descending) {
  CudaDevice *device = cuda_tensor_device(positions);
  if (!device) return false;
  SortPlan plan = {.x = tensor_data(x),
                   .dtype = x->dtype,
                   .values = values ? tensor_data(values) : NULL,
                   .positions = tensor_data(positions),
                   .rows = x->size[0],
                   .columns = x->size[1],
                   .kept = positions->size[1],
                   .descending = descending};
  if (plan.rows * plan.kept == 0) return true;
  if (plan.kept <= SORT_TOP_MOST && plan.kept <= plan.columns / 4) return sort_top(device, plan);
  if (plan.columns > SORT_ROW_MOST) return sort_long(device, plan);
  return cuda_launched(device, launch_sort_rows(device->launch, &plan), "sort kernel");
}
