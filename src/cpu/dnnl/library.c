#include "cpu/dnnl/library.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/trap.h"

dnnl_data_type_t dnnl_type_of(DType dtype) {
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

bool dnnl_has_instructions(DType dtype) {
  int needed = dtype == DTYPE_F32 ? dnnl_cpu_isa_avx512_core : dnnl_cpu_isa_avx512_core_bf16;
  return ((int)dnnl_get_effective_cpu_isa() & needed) == needed;
}

const char *dnnl_implementation(const_dnnl_primitive_desc_t description) {
  const char *name = "";
  dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name);
  return name;
}

size_t dnnl_own_scratch_bytes(const_dnnl_primitive_desc_t description) {
  int64_t bytes = 0;
  dnnl_primitive_desc_query(description, dnnl_query_memory_consumption_s64, 0, &bytes);
  return bytes > 0 ? (size_t)bytes : 0;
}

bool dnnl_fail(const char *operation, const char *call, dnnl_status_t status) {
  bool lacks_memory = status == dnnl_out_of_memory;
#pragma omp critical(fp8_dnnl_error)
  error_set("%s oneDNN's %s failed with status %d", lacks_memory ? "out of memory on cpu:" : operation, call,
            (int)status);
  return false;
}

bool dnnl_has_memory(const char *operation, size_t bytes) {
  void *data = malloc(bytes);
  free(data);
  return data || dnnl_fail(operation, "memory", dnnl_out_of_memory);
}

/* --- plans --- */

enum { PLANS = 128 };

/* What one thread has of oneDNN. */
typedef struct Workbench {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  uint64_t clock;
  const DnnlPlanKind *kind[DNNL_USERS];
  char *plans[DNNL_USERS]; /* PLANS of a kind, or NULL */
} Workbench;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t workbench_key;
static bool has_key;

static void release_workbench(void *data) {
  Workbench *bench = data;
  for (int user = 0; user < DNNL_USERS; user++) {
    if (!bench->plans[user]) continue;
    const DnnlPlanKind *kind = bench->kind[user];
    for (int i = 0; i < PLANS; i++) kind->clear(bench->plans[user] + (size_t)i * kind->plan_bytes);
    free(bench->plans[user]);
  }
  if (bench->stream) dnnl_stream_destroy(bench->stream);
  if (bench->engine) dnnl_engine_destroy(bench->engine);
  free(bench);
}

static void prepare(void) {
  has_key = pthread_key_create(&workbench_key, release_workbench) == 0;
  /* An exception would leave in oneDNN's cache what later calls wait for, for ever; the plans are all that is needed. */
  dnnl_set_primitive_cache_capacity(0);
}

/* With room for plans of that kind; NULL after an error. */
static Workbench *thread_workbench(const DnnlPlanKind *kind) {
  pthread_once(&once, prepare);
  Workbench *bench = has_key ? pthread_getspecific(workbench_key) : NULL;
  dnnl_status_t status = dnnl_success;
  if (!bench) {
    bench = has_key ? calloc(1, sizeof *bench) : NULL;
    if (!bench || pthread_setspecific(workbench_key, bench) != 0) {
      free(bench);
      status = dnnl_out_of_memory;
    }
  }
  if (status == dnnl_success && !bench->plans[kind->user]) {
    bench->kind[kind->user] = kind;
    bench->plans[kind->user] = calloc(PLANS, kind->plan_bytes);
    if (!bench->plans[kind->user]) status = dnnl_out_of_memory;
  }
  if (status == dnnl_success && !bench->engine) status = dnnl_engine_create(&bench->engine, dnnl_cpu, 0);
  if (status == dnnl_success && !bench->stream) {
    status = dnnl_stream_create(&bench->stream, bench->engine, dnnl_stream_default_flags);
  }
  if (status == dnnl_success) return bench;
  dnnl_fail(kind->operation, "preparation of a thread", status);
  return NULL;
}

static void *make_plan(const DnnlPlanKind *kind, const void *key, void *room, Workbench *bench) {
  kind->clear(room);
  if (!dnnl_has_memory(kind->operation, dnnl_making_bytes)) return NULL;
  DnnlPlan *plan = room;
  memcpy((char *)room + kind->key_offset, key, kind->key_bytes);
  dnnl_status_t status = kind->compile(room, bench->engine);
  plan->supported = status == dnnl_success;
  if (status != dnnl_success) {
    kind->clear(room);
    if (status != dnnl_unimplemented && status != dnnl_invalid_arguments) {
      dnnl_fail(kind->operation, "creation of a primitive", status);
      return NULL;
    }
    memcpy((char *)room + kind->key_offset, key, kind->key_bytes);
  }
  plan->last_use = ++bench->clock;
  return room;
}

void *dnnl_find_plan(const DnnlPlanKind *kind, const void *key, dnnl_stream_t *stream) {
  Workbench *bench = thread_workbench(kind);
  if (!bench) return NULL;
  *stream = bench->stream;
  char *plans = bench->plans[kind->user], *oldest = plans;
  for (int i = 0; i < PLANS; i++) {
    char *room = plans + (size_t)i * kind->plan_bytes;
    DnnlPlan *plan = (DnnlPlan *)room;
    if (plan->last_use > 0 && memcmp(room + kind->key_offset, key, kind->key_bytes) == 0) {
      plan->last_use = ++bench->clock;
      return room;
    }
    if (plan->last_use < ((DnnlPlan *)oldest)->last_use) oldest = room;
  }
  return make_plan(kind, key, oldest, bench);
}
