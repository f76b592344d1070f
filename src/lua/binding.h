/* Helpers of the binding. The function behind fp8.core.NAME is lfp8_NAME.
 *
 * A function reads and checks its arguments, pushes the userdata of its result with new_tensor (or none), calls one
 * operation, and ends in `return finish(L, ok, results)`, which raises the operation's error. Errors are prefixed
 * with the function's name and raised at the innermost line outside lua/fp8. */
#ifndef FP8_LUA_BINDING_H
#define FP8_LUA_BINDING_H

#include <lauxlib.h>
#include <lua.h>

#include "ops/ops.h"

/* --- functions and errors (module.c) --- */

/* Adds functions to the table on top of the stack. */
void register_functions(lua_State *L, const luaL_Reg *functions);

/* Raises the message on top of the stack. */
int raise_at_caller(lua_State *L);
/* Raises an error about argument `index`: "NAME: argument 2 (MESSAGE)". */
int argument_error(lua_State *L, int index, const char *format, ...);
/* `results`, or raises error_message() if not `ok`. */
int finish(lua_State *L, bool ok, int results);

/* Numbers of calls into the binding: of the one that runs, and of the one that it interrupts, as a finalizer does, or 0.
 * After an error the latter may be a call that has ended: its arguments count as in use until they are used again. */
typedef struct CallNumbers {
  uint64_t running, interrupted;
} CallNumbers;
extern CallNumbers call_numbers;

/* --- tensors as userdata (box.c) --- */

/* Pushes a userdata that is "no tensor" yet, for an operation to fill. */
Tensor *new_tensor(lua_State *L);
/* Argument `index`, which must be a tensor that has not been freed. */
Tensor *check_tensor(lua_State *L, int index);
/* NULL if there is no argument, or nil. */
Tensor *optional_tensor(lua_State *L, int index);
/* NULL if the value is no tensor. */
Tensor *to_tensor(lua_State *L, int index);
bool get_requires_grad(const Tensor *tensor);
void set_requires_grad(Tensor *tensor, bool requires_grad);
void open_box(lua_State *L); /* sets the metatable up; pushes it */

/* --- other arguments (arguments.c) --- */

typedef struct Sizes {
  int rank;
  int64_t size[TENSOR_MAX_RANK];
} Sizes;

typedef struct Options {
  DType dtype;
  Device device;
  bool requires_grad;
  bool saturate;
} Options;

int64_t check_whole(lua_State *L, int index);
double check_number(lua_State *L, int index);
bool optional_boolean(lua_State *L, int index, bool fallback);
DType check_dtype(lua_State *L, int index);
Device check_device(lua_State *L, int index);
/* A dimension of a tensor of rank `rank`, counted from 1 or, negative, from the end; returned counted from 0. */
int check_dimension(lua_State *L, int index, int rank);
/* nil (all), a dimension, or a table of dimensions. */
DimensionSet check_dimensions(lua_State *L, int index, int rank);
/* A table of sizes at `index`, or the numbers from `index` on; *next becomes the index after them. */
Sizes check_sizes(lua_State *L, int index, int *next);
/* The options table at `index`, which may be missing, over the given defaults; unknown fields are errors. */
Options check_options(lua_State *L, int index, Options defaults);
Options default_options(void);
/* A tensor or a number. */
Operand check_operand(lua_State *L, int index);
/* A map, or the name of a float8 type. */
Format check_format(lua_State *L, int index);

/* A field of the table at `table`, which must be a number if present. */
double number_field(lua_State *L, int table, const char *name, double fallback);

/* --- the functions, a family a file --- */

extern const luaL_Reg create_functions[], fact_functions[], view_functions[], compute_functions[], quantize_functions[],
    device_functions[], box_functions[], argument_functions[], optimizer_functions[], graph_functions[],
    layer_functions[], attention_functions[];

#endif
