/* The launchers of indexing, with their descriptor (kernels.h). */
#ifndef FP8_KERNELS_INDEX_H
#define FP8_KERNELS_INDEX_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The shapes of backend.h: `length` is the indexed dimension's size, `picks` how many positions are picked in it. */
typedef struct IndexPlan {
  const void *index;
  DType index_dtype;
  int64_t outer, length, picks, inner;
  FaultWord *fault;
} IndexPlan;

/* `out`, of f32, f16 or bf16, is written as a whole, and read before if `adds`; its length is below 2^31. */
typedef struct IndexAddPlan {
  IndexPlan index;
  void *out;
  const void *x;
  DType out_dtype, dtype;
  bool adds;
  int32_t *narrow_index; /* room for `picks` entries */
  const int32_t *sorted_index;
  const int64_t *positions; /* in the index, of the entries of the sorted one */
  int32_t *starts;          /* room for length + 1 */
} IndexAddPlan;

/* backend.h's scatter. */
typedef struct ScatterPlan {
  IndexPlan index; /* for SET, `inner` counts words of `word` bytes */
  void *x;
  const void *source;
  DType dtype;
  int word;
  bool slices;    /* the index has one entry a pick, else one an element */
  bool one_value; /* the source is one element */
  bool in_order;  /* of the picks */
  ScatterRule rule;
} ScatterPlan;

/* `inner` counts words of `word_bytes` (1, 2, 4, 8 or 16) here. */
cudaError_t launch_index_select(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan);
/* The index in 32 bits, -1 for an entry out of range, which is reported. */
cudaError_t launch_narrow_index(Launch launch, const IndexAddPlan *plan);
cudaError_t launch_index_add(Launch launch, const IndexAddPlan *plan);
/* With the sorted index, where both tensors lie on vectors. */
bool index_add_fits_vectors(const IndexAddPlan *plan);
cudaError_t launch_index_add_sorted(Launch launch, const IndexAddPlan *plan);
cudaError_t launch_gather(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan);
cudaError_t launch_scatter(Launch launch, const ScatterPlan *plan);
/* Sums in rows of at most SCATTER_ROW_MOST elements of f32, f16 or bf16, of which the source is too; `inner` is 1. */
enum { SCATTER_ROW_MOST = 12288 };
cudaError_t launch_scatter_rows(Launch launch, const ScatterPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
