/* Helpers of the binding. The function behind fp8.core.NAME is lfp8_NAME.
 *
 * A function reads and checks its arguments, pushes the userdata of its result with new_tensor (or none), calls one
 * operation, and ends in `return finish(L, ok, results)`, which raises the operation's error. Errors are prefixed
 * with the function's name and raised at the innermost line outside lua/fp8. */
#ifndef FP8_LUA_BINDING_H
#define FP8_LUA_BINDING_H

#include <lauxlib.h>
#include <lua.h>

#include "core/context.h"
#include "ops/ops.h"

/* --- the state (module.c) --- */

struct Scope;

/* A call into the binding that has not ended. Any allocation may run finalizers, which may call in turn. */
typedef struct Call {
  uint64_t number;
  lua_State *L;      /* whose function runs */
  const char *frame; /* an address in its C stack frame: the calls that it led to have lower ones */
  Context *outer;    /* the context to return to */
} Call;

enum { CALLS_MOST = 192 }; /* Lua itself allows about 200 */

/* All that the binding keeps for one Lua state: a userdata in its registry. */
typedef struct State {
  Context *context; /* NULL once the Lua state is being closed */
  DType default_dtype;
  Device default_device;
  struct Scope *innermost;
  Call calls[CALLS_MOST]; /* context->calls of them, from the outermost to the one that runs. After an error that did
                               not come from fp8, ended calls may be among them, until a call from further out */
  uint64_t last_call;
  const void *quantizers; /* their metatable */
  lua_Alloc lua_allocate; /* the Lua state's own allocator, and what it is called with */
  void *lua_arena;
  lua_State *lenders;       /* a thread of its own, to drop references to the owners of lent memory (exchange.c) */
  char source_prefix[1024]; /* Lua code whose source begins with this is part of fp8: errors are raised above it */
} State;

/* The state of the function that runs. */
static inline State *state_now(void) { return context_now->owner; }

/* --- functions and errors (module.c) --- */

/* Gives the metatable on top of the stack a finalizer, with the tensors' metatable as its second upvalue, as all
 * functions have it; no context has been entered where it is called. getmetatable gives `name` then: scripts can't call
 * the finalizer of what is in use. */
void set_finalizer(lua_State *L, const char *name, lua_CFunction function);

/* Calls a function as lua_pcall does, and is back in the running call afterwards: what has to be undone whatever happens
 * is undone after this, in C, where neither an error of memory nor one that a debug hook raises can come between. */
int call_protected(lua_State *L, int arguments, int results);
/* Ends the running call with the error on top of the stack, that of call_protected, as it is. */
int raise_again(lua_State *L);
/* Raises the message on top of the stack. */
int raise_at_caller(lua_State *L);
/* Raises an error about argument `index`: "NAME: argument 2 (MESSAGE)". */
int argument_error(lua_State *L, int index, const char *format, ...);
/* Pushes error_message(), which may be another one as soon as Lua allocates: finalizers have errors of their own. */
void push_error(lua_State *L);
/* `results`, or raises error_message() if not `ok`; where the call was stopped, or has failed as it was to stop, the
 * interruption. */
int finish(lua_State *L, bool ok, int results);

/* Pushes the error of a call that Ctrl-C has stopped, which is raised now (interrupt.c). */
void push_interruption(lua_State *L);

/* --- changes of several tables and tensors (change.c) --- */

/* Argument `index` is a list of what changes, a table, its key and its value, which may be nil, as often as argument
 * `count` says, which is returned. */
int check_field_list(lua_State *L, int index, int count);
/* The same, of a copy that takes the argument's place: whatever runs until the changes are made can't reach it. */
int own_field_list(lua_State *L, int index, int count);
/* Makes these changes, of fields that have values: nothing can fail. */
void set_fields(lua_State *L, int index, int count);

/* --- tensors as userdata (userdata.c, scope.c) --- */

/* Pushes a userdata that is "no tensor" yet, for an operation to fill. */
Tensor *new_tensor(lua_State *L);
/* Ends a function that made a tensor by options, which is on top of the stack. */
struct Options;
int finish_new(lua_State *L, bool ok, Tensor *tensor, const struct Options *options);
/* Argument `index`, which must be a tensor that has not been freed. */
Tensor *check_tensor(lua_State *L, int index);
/* NULL if there is no argument, or nil. */
Tensor *optional_tensor(lua_State *L, int index);
/* NULL if the value is no tensor. */
Tensor *to_tensor(lua_State *L, int index);
/* The running call uses the tensor, a userdata's: no other call frees it meanwhile. */
void use_tensor(Tensor *tensor);
bool get_requires_grad(const Tensor *tensor);
/* Sets the metatable up; pushes it. */
void open_userdata(lua_State *L);
/* Drops all open scopes, without freeing what is in them. */
void drop_scopes(State *state);

/* --- other userdata (object.c) --- */

/* Pushes a userdata of zeros with the metatable `name`, whose finalizer is `collect`. */
void *new_object(lua_State *L, size_t bytes, const char *name, lua_CFunction collect);
/* Argument `index`, or NULL if it is no userdata of this metatable. */
void *to_object(lua_State *L, int index, const char *name);

/* --- numbers (number.c): what becomes an element, a seed or a bound of integers may also be an int64_t or uint64_t --- */

/* Sets up what push_integer needs. */
void open_numbers(lua_State *L);
/* Whether there is a number at `index`, which goes to *number; `argument` is the argument that an error speaks of. */
bool to_number(lua_State *L, int index, int argument, Number *number);
Number check_number(lua_State *L, int index);
int64_t check_integer(lua_State *L, int index);
/* A number and nothing else. */
double check_double(lua_State *L, int index);
int64_t check_whole(lua_State *L, int index);
/* Pushes a number up to 2^53 and down to -2^53, int64_t beyond, where doubles have gaps. */
void push_integer(lua_State *L, int64_t integer);

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
  bool converts; /* of a tensor that there is, which has `saturate` as an option, where a new one has requires_grad */
  bool in_list;  /* some came with the list of sizes or numbers, as in zeros{2, 3, dtype = "f16"} */
} Options;

/* The string at `index`; NULL if there is none, or one with a zero byte, which would end it early: no name has one. */
const char *plain_text(lua_State *L, int index);

bool optional_boolean(lua_State *L, int index, bool fallback);
/* Of logits and targets, arguments 1 and 2, and the rule at `index`, which may be missing: {weight = (classes) f32,
 * smoothing =, ignored = a label, which goes to *ignored}. Its weight stays on top of the stack (cross_entropy.c). */
CrossEntropy check_cross_entropy(lua_State *L, int index, int64_t *ignored);
/* What becomes of a history: true, "same", or false if there is none (delayed_scale.c). */
HistoryRecord optional_record(lua_State *L, int index);
void check_table(lua_State *L, int index);
DType check_dtype(lua_State *L, int index);
/* Whether this is the name of a dtype here or in PyTorch ("torch.float32", "half"), NumPy or safetensors ("F32"). */
bool dtype_called(const char *name, DType *dtype);
/* The name at `index`; `argument` is the argument that an error speaks of. */
DType read_dtype(lua_State *L, int index, int argument);
Device check_device(lua_State *L, int index);
/* A dimension of a tensor of rank `rank`, counted from 1 or, negative, from the end; returned counted from 0. */
int check_dimension(lua_State *L, int index, int rank);
/* nil (all), a dimension, or a table of dimensions. */
DimensionSet check_dimensions(lua_State *L, int index, int rank);
/* A table of sizes at `index`, or the numbers from `index` on; *next becomes the index after them. Unless `options` is
 * NULL the table may have options too. */
Sizes check_sizes(lua_State *L, int index, int *next, Options *options);
/* The options table at `index`, which may be missing, over the given defaults; unknown fields are errors. */
Options check_options(lua_State *L, int index, Options defaults);
Options default_options(void);
/* The number of elements of the list (a table) at `index`: an error about `argument` unless its keys are 1 … n. Whatever
 * reads a list asks here, for the # of a table with holes may be any of several numbers. */
int64_t list_length(lua_State *L, int index, int argument);
/* The same of argument `index`, which may also have fields that are options of a new tensor: dtype, device and
 * requires_grad. They go to *options. */
int64_t list_length_and_options(lua_State *L, int index, Options *options);
/* A tensor or a number. */
Operand check_operand(lua_State *L, int index);

/* --- fields of a table that is argument `table` (fields.c) --- */

/* Argument `table` is a table all of whose fields are among `names`, which end in NULL. */
void check_fields(lua_State *L, int table, const char *const *names);
/* Goes to the next field, as lua_next does, which leaves its value on top; false after the last. */
bool next_field(lua_State *L, int table, const char **name);
/* Raises the error about a field that is none of those that there are. */
int unknown_field(lua_State *L, int table, const char *name, const char *known);
/* Pushes a field; returns its type. */
int push_field(lua_State *L, int table, const char *name);
/* Fails unless the field on top of the stack has a type. */
void check_field_type(lua_State *L, int table, const char *name, int expected);
/* The field on top of the stack. Errors name it. */
Tensor *tensor_of_field(lua_State *L, int table, const char *name);
bool boolean_of_field(lua_State *L, int table, const char *name);
/* A tensor, which stays on the stack, so that no finalizer takes it away; NULL if there is none. */
Tensor *tensor_field(lua_State *L, int table, const char *name);
Tensor *optional_tensor_field(lua_State *L, int table, const char *name);
double number_field(lua_State *L, int table, const char *name, double fallback);
/* True for true; false for false and for none. */
bool boolean_field(lua_State *L, int table, const char *name);
/* Whether there is a dtype, which goes to *dtype. */
bool dtype_field(lua_State *L, int table, const char *name, DType *dtype);
/* A field that is one of `choices`, as its position there; 0, the first, if there is none. `expected` begins the error. */
int choice_field(lua_State *L, int table, const char *name, const char *const *choices, const char *expected);

/* Makes a new tensor the field of the table on top of the stack; NULL, and nothing, if it is not `wanted`. */
Tensor *new_tensor_field(lua_State *L, const char *name, bool wanted);

/* The first `count` elements of the list at `table`: tensors; or NULL for false, where that is `optional`. Pushes a copy
 * of the list, so that no finalizer takes them away, and a buffer, which is what it returns. */
Tensor **check_tensor_list(lua_State *L, int table, int count, bool optional);

/* --- quantizers (../quantize.c) --- */

/* What the quantizer at argument `index` says; the map, if it has one, is alive. */
QuantizeOptions check_quantizer(lua_State *L, int index);

/* --- the functions, a subject a file --- */

extern const luaL_Reg module_functions[], userdata_functions[], scope_functions[], argument_functions[],
    change_functions[], count_functions[], exchange_functions[], interrupt_functions[], search_functions[],
    select_functions[];
extern const luaL_Reg attention_functions[], compare_functions[], copy_functions[], create_functions[],
    cross_entropy_functions[], delayed_scale_functions[], device_functions[], distributed_functions[],
    dropout_functions[], elementwise_functions[], embedding_functions[], event_functions[], graph_functions[],
    index_functions[], join_functions[], map_functions[], matmul_functions[], normalize_functions[], optim_functions[],
    patches_functions[], quantize_functions[], random_functions[], recurrent_functions[], reduce_functions[],
    rotate_functions[], scaled_matmul_functions[], scan_functions[], softmax_functions[], sort_functions[],
    tensor_functions[], view_functions[], fitted_scale_functions[];

#endif
