/* What the operations share: device lookup, checks, broadcasting and contiguous temporaries. */
#ifndef FP8_OPS_SUPPORT_H
#define FP8_OPS_SUPPORT_H

#include "backend.h"
#include "ops/ops.h"

/* The backend of a device that op_check_device has accepted, as every tensor's has been. */
const Backend *backend_of(Device device);
const Backend *backend_for(const Tensor *tensor);

/* --- checks (checks.c): false with an error --- */

/* Fails unless `dtype` is f32, f16 or bf16; `what` is what has it in the error: "dtype", "the weight". */
bool check_compute_float(DType dtype, const char *what);

/* Fails unless `x` has a float dtype, float8 included. */
bool check_float(const Tensor *x);

/* Fails unless `index` is of integers, on x's device. */
bool check_index(const Tensor *x, const Tensor *index);

/* Fails unless both are on one device. */
bool same_device(const Tensor *a, const Tensor *b);

/* Fails if writing to `x` would write an element twice, as in an expanded tensor or in windows that overlap. */
bool check_writable(const Tensor *x);

/* True if `a` and `b` may share memory other than by being the same view. */
bool overlaps_partly(const Tensor *a, const Tensor *b);

/* --- shapes (shapes.c) --- */

/* Merges `x`'s shape into the broadcast shape (rank, size), which starts as rank 0. Fails where sizes differ and
 * neither is 1. */
bool broadcast_shape(int *rank, int64_t *size, const Tensor *x);

/* A borrowed view of `x` expanded to a shape that its own broadcasts to. */
Tensor expanded(const Tensor *x, int rank, const int64_t *size);

/* A borrowed view with the given dimensions exchanged. */
Tensor transposed(const Tensor *x, int dimension, int other);

/* A borrowed view with a dimension of size 1 inserted before `dimension`; the rank must be below TENSOR_MAX_RANK. */
Tensor with_dimension(const Tensor *x, int dimension);

/* A borrowed view as (outer, size of dimension, inner) of a contiguous tensor. */
Tensor as_three_dimensions(const Tensor *x, int dimension);

/* Ends an operation: gives the tensor that it created to *out if it is `done`, else releases it. Returns `done`. */
bool hand_over(Tensor *out, Tensor *created, bool done);

/* `x` with `dimension` exchanged with the last one, contiguous; the caller releases it. */
bool last_and_contiguous(Tensor *out, const Tensor *x, int dimension);

/* hand_over for a tensor whose `dimension` was moved last: it gets its own order of dimensions again, in memory too, as
 * the results of all operations do. */
bool hand_back(Tensor *out, Tensor *created, int dimension, bool done);

/* A copy of `x` in fresh contiguous memory, with its dtype and device. */
bool copy_contiguous(Tensor *out, const Tensor *x);

#endif
