/* Views. */
#include "lua/binding/scope.h"

/* `out`, on top of the stack, is a view of `tensor`: autograd knows as much of it. */
static int finish_view(lua_State *L, bool ok, Tensor *out, const Tensor *tensor) {
  ((TensorBox *)out)->history = ((const TensorBox *)tensor)->history;
  return finish(L, ok, 1);
}

/* share(tensor): another tensor over the same memory, of which autograd need not know anything */
static int lfp8_share(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  Tensor *out = new_tensor(L);
  tensor_share(out, tensor);
  ((TensorBox *)out)->history = tensor->storage->history;
  return 1;
}

/* view(tensor, sizes…): the same elements in another shape; one size may be -1 */
static int lfp8_view(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int next;
  Sizes sizes = check_sizes(L, 2, &next, NULL);
  Tensor *out = new_tensor(L);
  return finish_view(L, op_view(out, tensor, sizes.rank, sizes.size), out, tensor);
}

/* transpose(tensor, dimension, dimension) */
static int lfp8_transpose(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, tensor->rank), other = check_dimension(L, 3, tensor->rank);
  Tensor *out = new_tensor(L);
  return finish_view(L, op_transpose(out, tensor, dimension, other), out, tensor);
}

/* t(matrix): its two dimensions exchanged; fewer dimensions stay as they are */
static int lfp8_t(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (tensor->rank > 2)
    argument_error(L, 1, "at most 2 dimensions expected, got shape %s", tensor_shape_text(tensor, text));
  Tensor *out = new_tensor(L);
  bool ok = tensor->rank == 2 && op_transpose(out, tensor, 0, 1);
  if (tensor->rank < 2) tensor_share(out, tensor);
  return finish_view(L, ok || tensor->rank < 2, out, tensor);
}

/* permute(tensor, dimensions…): dimension i of the result is the i-th one given */
static int lfp8_permute(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int dimensions[TENSOR_MAX_RANK], next;
  Sizes given = check_sizes(L, 2, &next, NULL);
  if (given.rank != tensor->rank) argument_error(L, 2, "%d dimensions expected, got %d", tensor->rank, given.rank);
  for (int i = 0; i < given.rank; i++) {
    lua_pushnumber(L, (double)given.size[i]);
    lua_replace(L, 2);
    dimensions[i] = check_dimension(L, 2, tensor->rank);
  }
  Tensor *out = new_tensor(L);
  return finish_view(L, op_permute(out, tensor, dimensions), out, tensor);
}

/* A position in a dimension of `size`, counted from 1 or, negative, from the end, up to `last`; returned counted
 * from 0. */
static int64_t check_position(lua_State *L, int index, int dimension, int64_t size, int64_t last) {
  int64_t position = check_whole(L, index);
  if (position == 0 || position > last || position < -size) {
    argument_error(L, index, "position %lld is out of range: dimension %d has size %lld", (long long)position,
                   dimension + 1, (long long)size);
  }
  return position < 0 ? position + size : position - 1;
}

/* narrow(tensor, dimension, start, length[, step]): `length` positions from `start` on, 1 or `step` apart */
static int lfp8_narrow(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, tensor->rank);
  int64_t size = tensor->size[dimension];
  int64_t start = check_position(L, 3, dimension, size, size + 1);
  int64_t length = check_whole(L, 4), step = lua_isnoneornil(L, 5) ? 1 : check_whole(L, 5);
  Tensor *out = new_tensor(L);
  return finish_view(L, op_narrow(out, tensor, dimension, start, length, step), out, tensor);
}

/* windows(tensor, dimension, size, step): a view with a last dimension of the `size` elements of each window that begins
 * every `step` ones of the dimension */
static int lfp8_windows(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, tensor->rank);
  int64_t size = check_whole(L, 3), step = check_whole(L, 4);
  return finish(L, op_windows(new_tensor(L), tensor, dimension, size, step), 1);
}

/* select(tensor, dimension, position): one slice, without the dimension */
static int lfp8_select(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, tensor->rank);
  int64_t size = tensor->size[dimension];
  int64_t position = check_position(L, 3, dimension, size, size);
  Tensor *out = new_tensor(L);
  return finish_view(L, op_select(out, tensor, dimension, position), out, tensor);
}

/* expand(tensor, sizes…): repeats dimensions of size 1 without copying; -1 keeps a size */
static int lfp8_expand(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int next;
  Sizes sizes = check_sizes(L, 2, &next, NULL);
  Tensor *out = new_tensor(L);
  return finish_view(L, op_expand(out, tensor, sizes.rank, sizes.size), out, tensor);
}

/* squeeze(tensor[, dimension]): without the dimensions of size 1, or without that one if its size is 1 */
static int lfp8_squeeze(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  DimensionSet dimensions = check_dimensions(L, 2, tensor->rank);
  Tensor *out = new_tensor(L);
  return finish_view(L, op_squeeze(out, tensor, dimensions), out, tensor);
}

/* unsqueeze(tensor, dimension): with a dimension of size 1 that becomes dimension `dimension` */
static int lfp8_unsqueeze(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, tensor->rank + 1);
  Tensor *out = new_tensor(L);
  return finish_view(L, op_unsqueeze(out, tensor, dimension), out, tensor);
}

const luaL_Reg view_functions[] = {
    {"share", lfp8_share},     {"view", lfp8_view},       {"transpose", lfp8_transpose}, {"t", lfp8_t},
    {"permute", lfp8_permute}, {"narrow", lfp8_narrow},   {"windows", lfp8_windows},     {"select", lfp8_select},
    {"expand", lfp8_expand},   {"squeeze", lfp8_squeeze}, {"unsqueeze", lfp8_unsqueeze}, {NULL, NULL},
};
