/* Reductions: merges dimensions and decides how the work is spread over the device. */
#include "cuda/measure.h"

/* Appends dimensions [first, last) of x to a merged shape; returns its rank. */
static int merge(const Tensor *x, int first, int last, int64_t size[], int64_t stride[]) {
  int rank = 0;
  for (int d = first; d < last; d++) {
    if (x->size[d] == 1) continue;
    if (rank > 0 && stride[rank - 1] == x->stride[d] * x->size[d]) {
      size[rank - 1] *= x->size[d];
    } else {
      size[rank++] = x->size[d];
    }
    stride[rank - 1] = x->stride[d];
  }
  return rank;
}

static int64_t product(int rank, const int64_t size[]) {
  int64_t count = 1;
  for (int d = 0; d < rank; d++) count *= size[d];
  return count;
}

/* Lanes take outputs of their own where those, and not the reduced elements, lie side by side, or where a row would
 * leave most lanes of a warp idle. */
static bool prefers_columns(const ReducePlan *plan) {
  enum { FEW = 8 };
  if (plan->kept_rank == 0 || plan->outputs < FEW) return false;
  bool reduced_side_by_side = plan->reduced_rank > 0 && plan->reduced_stride[plan->reduced_rank - 1] == 1;
  return plan->length <= FEW || (!reduced_side_by_side && plan->kept_stride[plan->kept_rank - 1] == 1);
}

/* Cuts long reductions so that the device is busy, into chunks that are still worth a thread block each. */
static void split(ReducePlan *plan, int multiprocessors) {
  enum { BLOCKS_EACH = 8, ROW_CHUNK = 4096, COLUMN_CHUNK = 128, COLUMNS_A_BLOCK = 32 };
  int64_t blocks = plan->columns ? divide_up(plan->outputs, COLUMNS_A_BLOCK) : plan->outputs;
  int64_t smallest = plan->columns ? COLUMN_CHUNK : ROW_CHUNK;
  int64_t wanted = divide_up((int64_t)multiprocessors * BLOCKS_EACH, blocks);
  int64_t most = divide_up(plan->length, smallest);
  int64_t splits = wanted < most ? wanted : most;
  plan->splits = 1;
  plan->chunk = plan->length;
  if (splits <= 1) return;
  plan->chunk = (divide_up(plan->length, splits) + 3) / 4 * 4; /* whole vectors */
  plan->splits = divide_up(plan->length, plan->chunk);
}

static bool allows_vectors(const ReducePlan *plan) {
  if (plan->integer || dtype_is_integer(plan->dtype) || plan->columns) return false;
  if (plan->reduced_rank != 1 || plan->reduced_stride[0] != 1) return false;
  for (int d = 0; d < plan->kept_rank; d++) {
    if (plan->kept_stride[d] % 4 != 0) return false;
  }
  return is_aligned(plan->data, 4 * dtype_size(plan->dtype));
}

/* Sums over the rows of a contiguous matrix, which cuda_measure takes at the speed of memory. */
static bool sums_columns(const ReducePlan *plan) {
  enum { FEW_ROWS = 32 };
  return plan->op == REDUCE_SUM && plan->kept_rank == 1 && plan->reduced_rank == 1 && plan->kept_stride[0] == 1 &&
         plan->reduced_stride[0] == plan->kept_size[0] && plan->length >= FEW_ROWS &&
         cuda_measurable(plan->data, plan->dtype, plan->outputs);
}

/* x has the kept dimension before the reduced ones here, as no view that is all of a tensor in its order has. */
static bool sum_columns(const CudaDevice *device, Tensor *out, const Tensor *x, const ReducePlan *plan) {
  Tensor matrix = *x;
  bool known = false;
  matrix.rank = 2;
  matrix.size[0] = plan->length;
  matrix.size[1] = matrix.stride[0] = plan->outputs;
  matrix.stride[1] = 1;
  if (!cuda_known_column_sums(device, out, &matrix, &known)) return false;
  return known || cuda_measure(device, plan->data, plan->dtype, plan->length, plan->outputs, out, NULL);
}

bool cuda_reduce(ReduceOp op, Tensor *out, const Tensor *x) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  ReducePlan plan = {
      .op = op, .data = tensor_data(x), .dtype = x->dtype, .out = tensor_data(out), .out_dtype = out->dtype};
  plan.kept_rank = merge(x, 0, out->rank, plan.kept_size, plan.kept_stride);
  plan.reduced_rank = merge(x, out->rank, x->rank, plan.reduced_size, plan.reduced_stride);
  plan.outputs = product(plan.kept_rank, plan.kept_size);
  plan.length = product(plan.reduced_rank, plan.reduced_size);
  if (plan.outputs == 0) return true;
  if (sums_columns(&plan)) return sum_columns(device, out, x, &plan);
  plan.integer = reduces_integers(op, x->dtype);
  plan.columns = prefers_columns(&plan);
  split(&plan, device->launch.multiprocessors);
  plan.vectorize = allows_vectors(&plan);
  Tensor partials = {0};
  if (plan.splits > 1) {
    if (!cuda_scratch(&partials, device, plan.splits * plan.outputs * REDUCE_PARTIAL_BYTES)) return false;
    plan.partials = tensor_data(&partials);
  }
  bool done = cuda_launched(device, launch_reduce(device->launch, &plan), "reduce kernel");
  tensor_release(&partials);
  return done;
}
