/* Products through oneDNN. */
#include <omp.h>
#include <stddef.h>
#include <string.h>

#include "core/context.h"
#include "core/memory.h"
#include "core/process.h"
#include "cpu/dnnl/guard.h"
#include "cpu/dnnl/library.h"
#include "cpu/matmul/product.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

#if DNNL_VERSION_MAJOR >= 3

static dnnl_status_t create_description(dnnl_primitive_desc_t *result, dnnl_engine_t engine, DnnlDescription *a,
                                        DnnlDescription *b, DnnlDescription *bias, DnnlDescription *out) {
  return dnnl_matmul_primitive_desc_create(result, engine, *a, *b, bias ? *bias : NULL, *out, NULL);
}

#else

static dnnl_status_t create_description(dnnl_primitive_desc_t *result, dnnl_engine_t engine, DnnlDescription *a,
                                        DnnlDescription *b, DnnlDescription *bias, DnnlDescription *out) {
  dnnl_matmul_desc_t operation;
  dnnl_status_t status = dnnl_matmul_desc_init(&operation, a, b, bias, out);
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(result, &operation, NULL, engine, NULL);
}

#endif

/* --- plans --- */

enum { A, B, BIAS, OUT, ARGUMENTS };

/* Compared as bytes, so all of it is set, and 64-bit fields leave no gaps. */
typedef struct PlanKey {
  int64_t batch, rows, inner, columns;
  int64_t a_stride[3], b_stride[3], out_stride[3]; /* of batch, row and column */
  int64_t type, out_type, has_bias;
  int64_t threads;
} PlanKey;

typedef struct Plan {
  DnnlPlan state;
  PlanKey key;
  dnnl_primitive_t primitive;
  dnnl_memory_t memory[ARGUMENTS];
  /* While it is made; here, since an exception may end that. */
  DnnlDescription description[ARGUMENTS];
  dnnl_primitive_desc_t operation;
} Plan;

static void finish_making(Plan *plan) {
  if (plan->operation) dnnl_primitive_desc_destroy(plan->operation);
  plan->operation = NULL;
  for (int i = 0; i < ARGUMENTS; i++) dnnl_forget(&plan->description[i]);
}

static void clear(void *made) {
  Plan *plan = made;
  finish_making(plan);
  if (plan->primitive) dnnl_primitive_destroy(plan->primitive);
  for (int i = 0; i < ARGUMENTS; i++) {
    if (plan->memory[i]) dnnl_memory_destroy(plan->memory[i]);
  }
  memset(plan, 0, sizeof *plan);
}

/* Strides of (batch, row, column). */
static void strides_of(const Matrix *matrix, int64_t stride[3]) {
  stride[0] = matrix->batch_stride;
  stride[1] = matrix->transposed ? 1 : matrix->stride;
  stride[2] = matrix->transposed ? matrix->stride : 1;
}

static PlanKey key_of(const Product *product) {
  PlanKey key;
  memset(&key, 0, sizeof key);
  key.batch = product->a.batch;
  key.rows = product->a.rows;
  key.inner = product->a.columns;
  key.columns = product->b.columns;
  strides_of(&product->a, key.a_stride);
  strides_of(&product->b, key.b_stride);
  key.out_stride[0] = product->out_batch_stride;
  key.out_stride[1] = product->out_stride;
  key.out_stride[2] = 1;
  key.type = dnnl_type_of(product->a.dtype);
  key.out_type = dnnl_type_of(product->out_dtype);
  key.has_bias = product->bias != NULL;
  key.threads = omp_get_max_threads();
  return key;
}

/* One matrix that serves the whole batch is a batch of one to oneDNN, which then repeats it. */
static dnnl_status_t describe_matrices(DnnlDescription *description, int64_t batch, int64_t rows, int64_t columns,
                                       const int64_t stride[3], int64_t type, bool batched) {
  dnnl_dims_t sizes = {batch, rows, columns}, strides = {stride[0], stride[1], stride[2]};
  if (stride[0] == 0) {
    sizes[0] = 1;
    strides[0] = rows * columns;
  }
  int skipped = batched ? 0 : 1;
  return dnnl_describe(description, 3 - skipped, sizes + skipped, (dnnl_data_type_t)type, strides + skipped);
}

/* oneDNN's reference implementations handle everything and are far slower than converting to float32; and of its
 * float32 products only those that it compiles for a shape are faster than OpenBLAS's. */
static bool is_slow(const_dnnl_primitive_desc_t description, int64_t type) {
  const char *name = dnnl_implementation(description);
  return type == dnnl_f32 ? strncmp(name, "brg", 3) != 0 : strncmp(name, "ref", 3) == 0;
}

static const char operation_name[] = "matmul:";

/* Fills in the primitive and the memories. What is supported only slowly counts as unimplemented. */
static dnnl_status_t compile(void *made, dnnl_engine_t engine) {
  Plan *plan = made;
  const PlanKey *key = &plan->key;
  bool batched = key->batch > 1;
  DnnlDescription *description = plan->description;
  int64_t bias_stride[3] = {0, key->columns, 1};
  dnnl_status_t status =
      describe_matrices(&description[A], key->batch, key->rows, key->inner, key->a_stride, key->type, batched);
  if (status == dnnl_success) {
    status =
        describe_matrices(&description[B], key->batch, key->inner, key->columns, key->b_stride, key->type, batched);
  }
  if (status == dnnl_success) {
    status = describe_matrices(&description[BIAS], 1, 1, key->columns, bias_stride, key->out_type, batched);
  }
  if (status == dnnl_success) {
    status = describe_matrices(&description[OUT], key->batch, key->rows, key->columns, key->out_stride, key->out_type,
                               batched);
  }
  if (status == dnnl_success) {
    DnnlDescription *bias = key->has_bias ? &description[BIAS] : NULL;
    status = create_description(&plan->operation, engine, &description[A], &description[B], bias, &description[OUT]);
  }
  if (status == dnnl_success && is_slow(plan->operation, key->type)) status = dnnl_unimplemented;
  for (int i = 0; i < ARGUMENTS && status == dnnl_success; i++) {
    if (i == BIAS && !key->has_bias) continue;
    status = dnnl_memory_create(&plan->memory[i], dnnl_described(&description[i]), engine, DNNL_MEMORY_NONE);
  }
  if (status == dnnl_success &&
      !dnnl_has_memory(operation_name, dnnl_making_bytes + dnnl_own_scratch_bytes(plan->operation))) {
    status = dnnl_out_of_memory;
  }
  if (status == dnnl_success) status = dnnl_primitive_create(&plan->primitive, plan->operation);
  finish_making(plan);
  return status;
}

static const DnnlPlanKind plan_kind = {.user = DNNL_PRODUCTS,
                                       .operation = operation_name,
                                       .plan_bytes = sizeof(Plan),
                                       .key_offset = offsetof(Plan, key),
                                       .key_bytes = sizeof(PlanKey),
                                       .compile = compile,
                                       .clear = clear};

bool product_dnnl_takes_f32(void) { return dnnl_has_instructions(DTYPE_F32); }

static ProductResult run(const Product *product) {
  if (!dnnl_has_memory(operation_name, dnnl_running_bytes)) return PRODUCT_FAILED;
  PlanKey key = key_of(product);
  dnnl_stream_t stream;
  Plan *plan = dnnl_find_plan(&plan_kind, &key, &stream);
  if (!plan) return PRODUCT_FAILED;
  if (!plan->state.supported) return PRODUCT_UNSUPPORTED;

  dnnl_exec_arg_t arguments[ARGUMENTS] = {{DNNL_ARG_SRC, plan->memory[A]},
                                          {DNNL_ARG_WEIGHTS, plan->memory[B]},
                                          {DNNL_ARG_DST, plan->memory[OUT]},
                                          {DNNL_ARG_BIAS, plan->memory[BIAS]}};
  dnnl_status_t status = dnnl_memory_set_data_handle(plan->memory[A], (void *)product->a.data);
  if (status == dnnl_success) status = dnnl_memory_set_data_handle(plan->memory[B], (void *)product->b.data);
  if (status == dnnl_success) status = dnnl_memory_set_data_handle(plan->memory[OUT], product->out);
  if (status == dnnl_success && product->bias) {
    status = dnnl_memory_set_data_handle(plan->memory[BIAS], (void *)product->bias);
  }
  if (status == dnnl_success) {
    status = dnnl_primitive_execute(plan->primitive, stream, product->bias ? ARGUMENTS : ARGUMENTS - 1, arguments);
  }
  if (status == dnnl_success) status = dnnl_stream_wait(stream);
  if (status == dnnl_success) return PRODUCT_DONE;
  dnnl_fail(operation_name, "dnnl_primitive_execute", status);
  return PRODUCT_FAILED;
}

/* A product, and what has become of it: PRODUCT_FAILED at first, for an exception leaves that. */
typedef struct Run {
  const Product *product;
  ProductResult result;
} Run;

static void run_job(void *argument) {
  Run *job = argument;
  job->result = run(job->product);
}

static ProductResult run_guarded(const Product *product) {
  Run job = {product, PRODUCT_FAILED};
  if (!guard_call(run_job, &job)) dnnl_fail(operation_name, "product", dnnl_out_of_memory);
  return job.result;
}

static ProductResult run_alone(const Product *product) {
  int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  ProductResult result = run_guarded(product);
  omp_set_num_threads(threads);
  return result;
}

/* Threads that sleep take some 60 µs to wake, in which one alone does this many multiplications of 16 bits, and half as
 * many of 32. */
static const double small_product = 0x1p24;

static ProductResult try_product(const Product *product) {
  double operations = product_operations(product) * (product->a.dtype == DTYPE_F32 ? 2 : 1);
  if (operations < small_product || omp_in_parallel() || !threads_can_start(omp_get_max_threads())) {
    return run_alone(product);
  }
  return context_now->deterministic ? product_in_shares(product, run_alone) : run_guarded(product);
}

ProductResult product_dnnl(const Product *product) {
  if (!dnnl_has_instructions(product->a.dtype)) return PRODUCT_UNSUPPORTED;
  process_has_threads();
  /* oneDNN has no product of two single matrices for a whole batch. */
  if (product->a.batch > 1 && product->a.batch_stride == 0 && product->b.batch_stride == 0) return PRODUCT_UNSUPPORTED;
  if (product->a.dtype == DTYPE_BF16 && product_may_be_subnormal(product)) return PRODUCT_UNSUPPORTED;
  ProductResult result = try_product(product);
  if (result == PRODUCT_FAILED) {
    host_trim();
    result = try_product(product);
  }
  return result;
}
