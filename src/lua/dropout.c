/* Dropout. */
#include "lua/binding/binding.h"

/* dropout(x, probability[, seed, offset]) -> y, seed, offset: the mask is new, or that of an earlier call */
static int lfp8_dropout(lua_State *L) {
  lua_settop(L, 4);
  const Tensor *x = check_tensor(L, 1);
  double probability = check_double(L, 2);
  bool again = !lua_isnil(L, 3);
  RandomSource source = {0};
  if (again) source = (RandomSource){(uint64_t)check_integer(L, 3), (uint64_t)check_integer(L, 4)};
  bool ok = op_dropout(new_tensor(L), x, probability, &source, again);
  push_integer(L, (int64_t)source.seed);
  push_integer(L, (int64_t)source.offset);
  return finish(L, ok, 3);
}

const luaL_Reg dropout_functions[] = {
    {"dropout", lfp8_dropout},
    {NULL, NULL},
};
