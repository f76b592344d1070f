/* Random tensors, and the generator. */
#include "lua/binding/binding.h"

/* The sizes are at argument `index`, the options behind them. */
static int random_new(lua_State *L, int index, RandomDraw draw) {
  int next;
  Options options = default_options();
  if (draw.kind == RANDOM_INTEGER) options.dtype = DTYPE_I64;
  Sizes sizes = check_sizes(L, index, &next, &options);
  options = check_options(L, next, options);
  Tensor *out = new_tensor(L);
  bool ok = op_random(out, options.dtype, options.device, sizes.rank, sizes.size, draw);
  return finish_new(L, ok, out, &options);
}

/* rand(sizes…, options): uniform in [0, 1) */
static int lfp8_rand(lua_State *L) { return random_new(L, 1, (RandomDraw){.kind = RANDOM_UNIFORM}); }

/* randn(sizes…, options): standard normal */
static int lfp8_randn(lua_State *L) { return random_new(L, 1, (RandomDraw){.kind = RANDOM_NORMAL}); }

/* randint(low, high, table of sizes, options): integers in [low, high), i64 unless the options say otherwise */
static int lfp8_randint(lua_State *L) {
  RandomDraw draw = {.kind = RANDOM_INTEGER, .low = check_integer(L, 1), .high = check_integer(L, 2)};
  if (!lua_istable(L, 3)) argument_error(L, 3, "table of sizes expected, got %s", luaL_typename(L, 3));
  return random_new(L, 3, draw);
}

/* manual_seed(whole number, position): restarts the generator that all devices share, at its beginning or where
 * random_state said that it was */
static int lfp8_manual_seed(lua_State *L) {
  int64_t seed = check_integer(L, 1), position = lua_isnoneornil(L, 2) ? 0 : check_integer(L, 2);
  if (position < 0) argument_error(L, 2, "position must be at least 0, got %.14g", (double)position);
  op_manual_seed((RandomSource){.seed = (uint64_t)seed, .offset = (uint64_t)position});
  return 0;
}

/* random_state() -> seed, position: what manual_seed takes to have the same random numbers follow again */
static int lfp8_random_state(lua_State *L) {
  RandomSource source = op_random_state();
  push_integer(L, (int64_t)source.seed);
  push_integer(L, (int64_t)source.offset);
  return 2;
}

const luaL_Reg random_functions[] = {
    {"rand", lfp8_rand},
    {"randn", lfp8_randn},
    {"randint", lfp8_randint},
    {"manual_seed", lfp8_manual_seed},
    {"random_state", lfp8_random_state},
    {NULL, NULL},
};
