/* The places of elements that are not 0. */
#include "ops/support/support.h"

/* A u8 tensor, contiguous, that is not 0 where x is not. */
static bool flags_of(Tensor *flags, const Tensor *x) {
  if (x->dtype == DTYPE_U8) return op_contiguous(flags, x);
  return op_binary(BINARY_NE, flags, (Operand){.tensor = x}, (Operand){.number = number_of(0)});
}

static bool count_flags(int64_t *count, const Tensor *flags) {
  Tensor created = {0};
  bool done = tensor_create(&created, DTYPE_I64, tensor_device(flags), 0, NULL) &&
              backend_for(flags)->count_flags(&created, flags) && op_to_host(&created, count);
  tensor_release(&created);
  return done;
}

/* (count, rank of flags): the coordinates of those that are not 0. */
static bool coordinates(Tensor *out, const Tensor *flags) {
  Tensor created = {0};
  int64_t size[] = {0, flags->rank};
  bool done = count_flags(&size[0], flags) && tensor_create(&created, DTYPE_I64, tensor_device(flags), 2, size) &&
              backend_for(flags)->nonzero(&created, flags);
  return hand_over(out, &created, done);
}

bool op_nonzero(Tensor *out, const Tensor *x) {
  Tensor flags = {0};
  bool done = flags_of(&flags, x) && coordinates(out, &flags);
  tensor_release(&flags);
  return done;
}

/* A contiguous tensor in one dimension. */
static Tensor flattened(const Tensor *x) {
  Tensor list = *x;
  list.rank = 1;
  list.size[0] = tensor_count(x);
  list.stride[0] = 1;
  return list;
}

bool op_masked_select(Tensor *out, const Tensor *x, const Tensor *mask) {
  int rank = 0;
  int64_t size[TENSOR_MAX_RANK];
  if (!same_device(x, mask) || !broadcast_shape(&rank, size, x) || !broadcast_shape(&rank, size, mask)) return false;
  Tensor wide = expanded(x, rank, size), wide_mask = expanded(mask, rank, size);
  Tensor flags = {0}, places = {0}, input = {0};
  bool done = flags_of(&flags, &wide_mask);
  if (done) {
    Tensor list = flattened(&flags);
    done = coordinates(&places, &list) && op_contiguous(&input, &wide);
  }
  if (done) {
    Tensor elements = flattened(&input), positions = flattened(&places);
    done = op_index_select(out, &elements, 0, &positions);
  }
  tensor_release(&flags);
  tensor_release(&places);
  tensor_release(&input);
  return done;
}
