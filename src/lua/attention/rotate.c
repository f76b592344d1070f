/* Rotary position embedding. */
#include "lua/binding/binding.h"

/* rotate(x, dimension, base, offset, interleaved, backwards) -> y: core/operations.h, Rotation; `dimension` has the
 * positions */
static int lfp8_rotate(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  Rotation rotation = {.base = check_double(L, 3),
                       .offset = check_whole(L, 4),
                       .interleaved = optional_boolean(L, 5, false),
                       .backwards = optional_boolean(L, 6, false)};
  return finish(L, op_rotate(new_tensor(L), x, dimension, &rotation), 1);
}

const luaL_Reg rotate_functions[] = {
    {"rotate", lfp8_rotate},
    {NULL, NULL},
};
