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

enum { VECTOR_BYTES = 16 };

static int64_t vector_width(DType dtype) { return VECTOR_BYTES / dtype_size(dtype); }

/* Vectors of neighbouring elements of one output, or of neighbouring outputs. */
static bool allows_vectors(const ReducePlan *plan) {
  DType dtype = plan->dtype;
  if (dtype != DTYPE_F32 && dtype != DTYPE_F16 && dtype != DTYPE_BF16) return false;
  if (plan->reduced_rank != 1 || !is_aligned(plan->data, VECTOR_BYTES)) return false;
  int64_t width = vector_width(dtype);
  int last = plan->kept_rank - 1;
  bool side_by_side = plan->columns ? plan->kept_stride[last] == 1 && plan->kept_size[last] % width == 0 &&
                                          plan->reduced_stride[0] % width == 0
                                    : plan->reduced_stride[0] == 1;
  for (int d = 0; d < (plan->columns ? last : plan->kept_rank); d++) {
    if (plan->kept_stride[d] % width != 0) return false;
  }
  return side_by_side;
}

/* Cuts long reductions so that the device is busy, into chunks that are still worth a thread block each. */
static void split(ReducePlan *plan, int multiprocessors) {
  enum { BLOCKS_EACH = 8, ROW_CHUNK = 4096, COLUMN_CHUNK = 128, LANES = 32 };
  int64_t tile = plan->vectorize ? LANES * vector_width(plan->dtype) : LANES;
  int64_t blocks = plan->columns ? divide_up(plan->outputs, tile) : plan->outputs;
  int64_t smallest = plan->columns ? COLUMN_CHUNK : ROW_CHUNK;
  int64_t wanted = divide_up((int64_t)multiprocessors * BLOCKS_EACH, blocks);
  int64_t most = divide_up(plan->length, smallest);
  int64_t splits = wanted < most ? wanted : most;
  plan->splits = 1;
  plan->chunk = plan->length;
  if (splits <= 1) return;
  plan->chunk = (divide_up(plan->length, splits) + 7) / 8 * 8; /* whole vectors */
  plan->splits = divide_up(plan->length, plan->chunk);
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

bool cuda_reduce(ReduceOp op, double correction, Tensor *out, const Tensor *x) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  ReducePlan plan = {.op = op,
                     .correction = correction,
                     .data = tensor_data(x),
                     .dtype = x->dtype,
                     .out = tensor_data(out),
                     .out_dtype = out->dtype};
  plan.kept_rank = merge(x, 0, out->rank, plan.kept_size, plan.kept_stride);
  plan.reduced_rank = merge(x, out->rank, x->rank, plan.reduced_size, plan.reduced_stride);
  plan.outputs = product(plan.kept_rank, plan.kept_size);
  plan.length = product(plan.reduced_rank, plan.reduced_size);
  if (plan.outputs == 0) return true;
  if (sums_columns(&plan)) return sum_columns(device, out, x, &plan);
  plan.integer = reduces_integers(op, x->dtype);
  plan.columns = prefers_columns(&plan);
  plan.vectorize = allows_vectors(&plan);
  split(&plan, device->launch.multiprocessors);
  Tensor partials = {0};
  if (plan.splits > 1) {
    if (!cuda_scratch(&partials, device, plan.splits * plan.outputs * REDUCE_PARTIAL_BYTES)) return false;
    plan.partials = tensor_data(&partials);
  }
  bool done = cuda_launched(device, launch_reduce(device->launch, &plan), "reduce kernel");
  tensor_release(&partials);
  return done;
}
