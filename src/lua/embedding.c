/* Look-up of rows. */
#include "lua/binding/binding.h"

/* embedding(weight (count, features), integers from 0) -> the rows that they name */
static int lfp8_embedding(lua_State *L) {
  const Tensor *weight = check_tensor(L, 1), *index = check_tensor(L, 2);
  return finish(L, op_embedding(new_tensor(L), weight, index), 1);
}

const luaL_Reg embedding_functions[] = {
    {"embedding", lfp8_embedding},
    {NULL, NULL},
};
