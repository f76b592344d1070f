/* Products through oneDNN, versions 2 and 3. */
#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/memory.h"
#include "core/process.h"
#include "cpu/matmul/guard.h"
#include "cpu/matmul/product.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

/* --- the two versions' names for the same things --- */

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t Description;

static dnnl_status_t describe(Description *description, int rank, dnnl_dims_t size, dnnl_data_type_t type,
                              dnnl_dims_t stride) {
  return dnnl_memory_desc_create_with_strides(description, rank, size, type, stride);
}

static void forget(Description *description) {
  if (*description) dnnl_memory_desc_destroy(*description);
  *description = NULL;
}

static dnnl_status_t create_description(dnnl_primitive_desc_t *result, dnnl_engine_t engine, Description *a,
                                        Description *b, Description *bias, Description *out) {
  return dnnl_matmul_primitive_desc_create(result, engine, *a, *b, bias ? *bias : NULL, *out, NULL);
}

static dnnl_status_t create_memory(dnnl_memory_t *memory, Description *description, dnnl_engine_t engine) {
  return dnnl_memory_create(memory, *description, engine, DNNL_MEMORY_NONE);
}

#else

typedef dnnl_memory_desc_t Description;

static dnnl_status_t describe(Description *description, int rank, dnnl_dims_t size, dnnl_data_type_t type,
                              dnnl_dims_t stride) {
  return dnnl_memory_desc_init_by_strides(description, rank, size, type, stride);
}

static void forget(Description *description) { (void)description; }

static dnnl_status_t create_description(dnnl_primitive_desc_t *result, dnnl_engine_t engine, Description *a,
                                        Description *b, Description *bias, Description *out) {
  dnnl_matmul_desc_t operation;
  dnnl_status_t status = dnnl_matmul_desc_init(&operation, a, b, bias, out);
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(result, &operation, NULL, engine, NULL);
}

static dnnl_status_t create_memory(dnnl_memory_t *memory, Description *description, dnnl_engine_t engine) {
  return dnnl_memory_create(memory, description, engine, DNNL_MEMORY_NONE);
}

#endif

/* --- plans: what oneDNN compiled for a shape --- */

enum { A, B, BIAS, OUT, ARGUMENTS };

/* Compared as bytes, so all of it is set, and 64-bit fields leave no gaps. */
typedef struct PlanKey {
  int64_t batch, rows, inner, columns;
  int64_t a_stride[3], b_stride[3], out_stride[3]; /* of batch, row and column */
  int64_t type, out_type, has_bias;
  int64_t threads;
} PlanKey;

/* oneDNN has a cache of its own, but finding something in it takes it 20 to 40 µs. */
typedef struct Plan {
  PlanKey key;
  uint64_t last_use;          /* 0: empty */
  dnnl_primitive_t primitive; /* NULL: unsupported */
  dnnl_memory_t memory[ARGUMENTS];
  /* While it is made; here, since an exception may end that. */
  Description description[ARGUMENTS];
  dnnl_primitive_desc_t operation;
} Plan;

enum { PLANS = 128 };

/* What one thread has of oneDNN: a plan's memories hold the addresses of one product, and by default oneDNN wants a
 * primitive to be used by the thread that made it. */
typedef struct Workbench {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  Plan plan[PLANS];
  uint64_t clock;
} Workbench;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t workbench_key;
static bool has_key;

static bool fail(const char *call, dnnl_status_t status) {
  const char *reason = status == dnnl_out_of_memory ? "out of memory on cpu: oneDNN's" : "matmul: oneDNN's";
#pragma omp critical(fp8_dnnl_error)
  error_set("%s %s failed with status %d", reason, call, (int)status);
  return false;
}

static void finish_making(Plan *plan) {
  if (plan->operation) dnnl_primitive_desc_destroy(plan->operation);
  plan->operation = NULL;
  for (int i = 0; i < ARGUMENTS; i++) forget(&plan->description[i]);
}

static void clear(Plan *plan) {
  finish_making(plan);
  if (plan->primitive) dnnl_primitive_destroy(plan->primitive);
  for (int i = 0; i < ARGUMENTS; i++) {
    if (plan->memory[i]) dnnl_memory_destroy(plan->memory[i]);
  }
  memset(plan, 0, sizeof *plan);
}

static void release_workbench(void *data) {
  Workbench *bench = data;
  for (int i = 0; i < PLANS; i++) clear(&bench->plan[i]);
  if (bench->stream) dnnl_stream_destroy(bench->stream);
  if (bench->engine) dnnl_engine_destroy(bench->engine);
  free(bench);
}

static void prepare(void) {
  has_key = pthread_key_create(&workbench_key, release_workbench) == 0;
  /* An exception would leave in oneDNN's cache what later products wait for, for ever; the plans are all that is needed. */
  dnnl_set_primitive_cache_capacity(0);
}

/* NULL after an error. */
static Workbench *thread_workbench(void) {
  pthread_once(&once, prepare);
  Workbench *bench = has_key ? pthread_getspecific(workbench_key) : NULL;
  if (!bench) {
    bench = has_key ? calloc(1, sizeof *bench) : NULL;
    if (!bench || pthread_setspecific(workbench_key, bench) != 0) {
      free(bench);
      fail("preparation of a thread", dnnl_out_of_memory);
      return NULL;
    }
  }
  dnnl_status_t status = bench->engine ? dnnl_success : dnnl_engine_create(&bench->engine, dnnl_cpu, 0);
  if (status == dnnl_success && !bench->stream) {
    status = dnnl_stream_create(&bench->stream, bench->engine, dnnl_stream_default_flags);
  }
  if (status == dnnl_success) return bench;
  fail("preparation of a thread", status);
  return NULL;
}

static dnnl_data_type_t type_of(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
    return dnnl_f32;
  case DTYPE_F16:
    return dnnl_f16;
  case DTYPE_BF16:
    return dnnl_bf16;
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  trap_missing_case();
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
  key.type = type_of(product->a.dtype);
  key.out_type = type_of(product->out_dtype);
  key.has_bias = product->bias != NULL;
  key.threads = omp_get_max_threads();
  return key;
}

/* One matrix that serves the whole batch is a batch of one to oneDNN, which then repeats it. */
static dnnl_status_t describe_matrices(Description *description, int64_t batch, int64_t rows, int64_t columns,
                                       const int64_t stride[3], int64_t type, bool batched) {
  dnnl_dims_t sizes = {batch, rows, columns}, strides = {stride[0], stride[1], stride[2]};
  if (stride[0] == 0) {
    sizes[0] = 1;
    strides[0] = rows * columns;
  }
  int skipped = batched ? 0 : 1;
  return describe(description, 3 - skipped, sizes + skipped, (dnnl_data_type_t)type, strides + skipped);
}

/* oneDNN's reference implementations handle everything and are far slower than converting to float32; and of its
 * float32 products only those that it compiles for a shape are faster than OpenBLAS's. */
static bool is_slow(const_dnnl_primitive_desc_t description, int64_t type) {
  const char *name = "";
  dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name);
  return type == dnnl_f32 ? strncmp(name, "brg", 3) != 0 : strncmp(name, "ref", 3) == 0;
}

/* Parts of oneDNN write to what they could not allocate: this much has to be there before it is called, to make a
 * product, beside the scratch space that it says it needs, and to run one. */
static const size_t making_bytes = (size_t)16 << 20, running_bytes = (size_t)32 << 10;

static bool has_memory(size_t bytes) {
  void *data = malloc(bytes);
  free(data);
  return data || fail("memory", dnnl_out_of_memory);
}

static size_t scratch_bytes(const_dnnl_primitive_desc_t description) {
  int64_t bytes = 0;
  dnnl_primitive_desc_query(description, dnnl_query_memory_consumption_s64, 0, &bytes);
  return bytes > 0 ? (size_t)bytes : 0;
}

/* Fills in the primitive and the memories. What is supported only slowly counts as unimplemented. */
static dnnl_status_t compile(Plan *plan, dnnl_engine_t engine) {
  const PlanKey *key = &plan->key;
  bool batched = key->batch > 1;
  Description *description = plan->description;
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
    Description *bias = key->has_bias ? &description[BIAS] : NULL;
    status = create_description(&plan->operation, engine, &description[A], &description[B], bias, &description[OUT]);
  }
  if (status == dnnl_success && is_slow(plan->operation, key->type)) status = dnnl_unimplemented;
  for (int i = 0; i < ARGUMENTS && status == dnnl_success; i++) {
    if (i == BIAS && !key->has_bias) continue;
    status = create_memory(&plan->memory[i], &description[i], engine);
  }
  if (status == dnnl_success && !has_memory(making_bytes + scratch_bytes(plan->operation))) {
    status = dnnl_out_of_memory;
  }
  if (status == dnnl_success) status = dnnl_primitive_create(&plan->primitive, plan->operation);
  finish_making(plan);
  return status;
}

/* NULL after an error. */
static Plan *plan_of(Workbench *bench, const Product *product) {
  PlanKey key = key_of(product);
  Plan *plans = bench->plan, *oldest = &plans[0];
  for (int i = 0; i < PLANS; i++) {
    if (plans[i].last_use > 0 && memcmp(&plans[i].key, &key, sizeof key) == 0) {
      plans[i].last_use = ++bench->clock;
      return &plans[i];
    }
    if (plans[i].last_use < oldest->last_use) oldest = &plans[i];
  }
  clear(oldest);
  if (!has_memory(making_bytes)) return NULL;
  oldest->key = key;
  dnnl_status_t status = compile(oldest, bench->engine);
  if (status != dnnl_success) {
    clear(oldest);
    if (status != dnnl_unimplemented && status != dnnl_invalid_arguments) {
      fail("creation of a product", status);
      return NULL;
    }
    oldest->key = key;
  }
  oldest->last_use = ++bench->clock;
  return oldest;
}

/* Processors without instructions for a 16-bit type would emulate them; OpenBLAS is then faster, as it is for float32
 * without AVX-512. */
static bool has_instructions(DType dtype) {
  int needed = dtype == DTYPE_F32 ? dnnl_cpu_isa_avx512_core : dnnl_cpu_isa_avx512_core_bf16;
  return ((int)dnnl_get_effective_cpu_isa() & needed) == needed;
}

bool product_dnnl_takes_f32(void) { return has_instructions(DTYPE_F32); }

static ProductResult run(const Product *product) {
  if (!has_memory(running_bytes)) return PRODUCT_FAILED;
  Workbench *bench = thread_workbench();
  Plan *plan = bench ? plan_of(bench, product) : NULL;
  if (!plan) return PRODUCT_FAILED;
  if (!plan->primitive) return PRODUCT_UNSUPPORTED;

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
    status =
        dnnl_primitive_execute(plan->primitive, bench->stream, product->bias ? ARGUMENTS : ARGUMENTS - 1, arguments);
  }
  if (status == dnnl_success) status = dnnl_stream_wait(bench->stream);
  if (status == dnnl_success) return PRODUCT_DONE;
  fail("dnnl_primitive_execute", status);
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
  if (!guard_call(run_job, &job)) fail("product", dnnl_out_of_memory);
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
  if (!has_instructions(product->a.dtype)) return PRODUCT_UNSUPPORTED;
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
