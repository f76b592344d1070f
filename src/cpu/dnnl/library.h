/* oneDNN, versions 2 and 3, as products and convolutions call it: the two versions' names for the same things, what a thread
 * keeps of it, and its errors. */
#ifndef FP8_CPU_DNNL_LIBRARY_H
#define FP8_CPU_DNNL_LIBRARY_H

#include <dnnl.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/dtype.h"

/* --- descriptions of memory --- */

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t DnnlDescription;
typedef const_dnnl_memory_desc_t DnnlDescribed; /* borrowed */

static inline DnnlDescribed dnnl_described(const DnnlDescription *description) { return *description; }

static inline dnnl_status_t dnnl_describe(DnnlDescription *description, int rank, const dnnl_dims_t size,
                                          dnnl_data_type_t type, const dnnl_dims_t stride) {
  return dnnl_memory_desc_create_with_strides(description, rank, size, type, stride);
}

/* Of a layout that the primitive chooses. */
static inline dnnl_status_t dnnl_describe_any(DnnlDescription *description, int rank, const dnnl_dims_t size,
                                              dnnl_data_type_t type) {
  return dnnl_memory_desc_create_with_tag(description, rank, size, type, dnnl_format_tag_any);
}

static inline void dnnl_forget(DnnlDescription *description) {
  if (*description) dnnl_memory_desc_destroy(*description);
  *description = NULL;
}

#else

typedef dnnl_memory_desc_t DnnlDescription;
typedef const dnnl_memory_desc_t *DnnlDescribed;

static inline DnnlDescribed dnnl_described(const DnnlDescription *description) { return description; }

static inline dnnl_status_t dnnl_describe(DnnlDescription *description, int rank, const dnnl_dims_t size,
                                          dnnl_data_type_t type, const dnnl_dims_t stride) {
  return dnnl_memory_desc_init_by_strides(description, rank, size, type, stride);
}

static inline dnnl_status_t dnnl_describe_any(DnnlDescription *description, int rank, const dnnl_dims_t size,
                                              dnnl_data_type_t type) {
  return dnnl_memory_desc_init_by_tag(description, rank, size, type, dnnl_format_tag_any);
}

static inline void dnnl_forget(DnnlDescription *description) { (void)description; }

#endif

/* Of a float dtype of at least 16 bits. */
dnnl_data_type_t dnnl_type_of(DType dtype);

/* --- what it can do --- */

/* Whether the processor has instructions for the dtype's products: without, oneDNN would emulate 16-bit types, and in
 * float32 OpenBLAS is faster. */
bool dnnl_has_instructions(DType dtype);

/* The name of the implementation that was chosen. */
const char *dnnl_implementation(const_dnnl_primitive_desc_t description);
/* Scratch space that the primitive allocates itself. */
size_t dnnl_own_scratch_bytes(const_dnnl_primitive_desc_t description);

/* --- errors --- */

/* Returns false, with the error of a call by `operation`. Any thread may call it. */
bool dnnl_fail(const char *operation, const char *call, dnnl_status_t status);

/* Parts of oneDNN write to what they could not allocate: this much has to be there before it is called, to make a
 * primitive, beside the scratch space that it says it needs, and to run one. */
static const size_t dnnl_making_bytes = (size_t)16 << 20, dnnl_running_bytes = (size_t)32 << 10;

/* Fails, in the name of the operation, where there are not so many bytes. */
bool dnnl_has_memory(const char *operation, size_t bytes);

/* --- plans: what oneDNN compiled for a shape --- */

/* oneDNN has a cache of its own, but finding something in it takes it 20 to 40 µs. */
typedef struct DnnlPlan {
  uint64_t last_use; /* 0: empty */
  bool supported;
} DnnlPlan;

typedef enum DnnlUser { DNNL_PRODUCTS, DNNL_CONVOLUTIONS, DNNL_USERS } DnnlUser;

/* A plan begins with a DnnlPlan; its key is compared as bytes, so all of it has to be set. */
typedef struct DnnlPlanKind {
  DnnlUser user;
  const char *operation; /* in errors */
  size_t plan_bytes, key_offset, key_bytes;
  /* Fills in a plan of which there is the key. dnnl_unimplemented also where there is only something slow. */
  dnnl_status_t (*compile)(void *plan, dnnl_engine_t engine);
  /* Releases what the plan has, however far its making got, and leaves zeros. */
  void (*clear)(void *plan);
} DnnlPlanKind;

/* This thread's plan of that key, which is made at first, and the stream to run it on; NULL after an error. By default
 * oneDNN wants a primitive to be used by the thread that made it. To be called inside guard_call. */
void *dnnl_find_plan(const DnnlPlanKind *kind, const void *key, dnnl_stream_t *stream);

#endif
