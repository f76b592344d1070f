/* Tensors as userdata, what autograd attaches to them, and scopes. */
#include <stdlib.h>
#include <string.h>

#include "lua/binding.h"

/* The tensors that belong to a scope form a ring through the scope's own links. */
typedef struct Links {
  struct Links *previous, *next;
} Links;

typedef struct Scope {
  Links boxes;
  struct Scope *outer;
} Scope;

typedef struct TensorBox {
  Tensor tensor; /* first: a Tensor pointer from the stack is its box */
  Scope *scope;  /* the scope that frees it, or NULL */
  Links links;   /* in the scope's ring */
  uint64_t call; /* the number of the last call that it was an argument of */
  bool requires_grad;
  bool has_autograd; /* the userdata's environment is the table of set_autograd */
} TensorBox;

static Scope *innermost;

static TensorBox *box_of_links(Links *links) { return (TensorBox *)((char *)links - offsetof(TensorBox, links)); }

static void leave_scope(TensorBox *box) {
  if (!box->scope) return;
  box->links.previous->next = box->links.next;
  box->links.next->previous = box->links.previous;
  box->scope = NULL;
}

static void enter_scope(TensorBox *box, Scope *scope) {
  if (!scope) return;
  box->scope = scope;
  box->links = (Links){.previous = &scope->boxes, .next = scope->boxes.next};
  box->links.next->previous = &box->links;
  box->links.previous->next = &box->links;
}

Tensor *new_tensor(lua_State *L) {
  TensorBox *box = lua_newuserdata(L, sizeof *box);
  memset(box, 0, sizeof *box);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, -2);
  enter_scope(box, innermost);
  return &box->tensor;
}

/* Whether a call that this one interrupts has the tensor as an argument. */
static bool is_in_use(const TensorBox *box) {
  return call_numbers.interrupted != 0 && box->call == call_numbers.interrupted;
}

Tensor *to_tensor(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
  bool is_tensor = lua_rawequal(L, -1, lua_upvalueindex(2));
  lua_pop(L, 1);
  if (!is_tensor) return NULL;
  TensorBox *box = lua_touserdata(L, index);
  if (!is_in_use(box)) box->call = call_numbers.running;
  return &box->tensor;
}

static const char *type_name(lua_State *L, int index) {
  return lua_isnone(L, index) ? "nothing" : luaL_typename(L, index);
}

Tensor *check_tensor(lua_State *L, int index) {
  Tensor *tensor = to_tensor(L, index);
  if (!tensor) argument_error(L, index, "tensor expected, got %s", type_name(L, index));
  if (!tensor->storage) argument_error(L, index, "this tensor was freed: it was made in a scope that has ended");
  return tensor;
}

Tensor *optional_tensor(lua_State *L, int index) { return lua_isnoneornil(L, index) ? NULL : check_tensor(L, index); }

bool get_requires_grad(const Tensor *tensor) { return ((const TensorBox *)tensor)->requires_grad; }

void set_requires_grad(Tensor *tensor, bool requires_grad) { ((TensorBox *)tensor)->requires_grad = requires_grad; }

static int collect(lua_State *L) {
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) return 0;
  leave_scope(box);
  tensor_release(&box->tensor);
  return 0;
}

void open_box(lua_State *L) {
  luaL_newmetatable(L, "fp8.Tensor");
  lua_pushnil(L);
  lua_pushvalue(L, -2);
  lua_pushcclosure(L, collect, 2);
  lua_setfield(L, -2, "__gc");
}

/* is_tensor(value) -> boolean */
static int lfp8_is_tensor(lua_State *L) {
  lua_pushboolean(L, to_tensor(L, 1) != NULL);
  return 1;
}

/* requires_grad(tensor) -> boolean, of a freed tensor too */
static int lfp8_requires_grad(lua_State *L) {
  const Tensor *tensor = to_tensor(L, 1);
  if (!tensor) check_tensor(L, 1);
  lua_pushboolean(L, get_requires_grad(tensor));
  return 1;
}

/* set_requires_grad(tensor, boolean): f32, f16 and bf16 tensors only */
static int lfp8_set_requires_grad(lua_State *L) {
  Tensor *tensor = check_tensor(L, 1);
  bool requires_grad = lua_toboolean(L, 2);
  if (requires_grad && !dtype_is_compute_float(tensor->dtype)) {
    argument_error(L, 1, "a tensor of dtype %s can't require a gradient", dtype_name(tensor->dtype));
  }
  set_requires_grad(tensor, requires_grad);
  return 0;
}

/* autograd(tensor) -> the table attached with set_autograd, or nil */
static int lfp8_autograd(lua_State *L) {
  const TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  if (!box->has_autograd) return 0;
  lua_getfenv(L, 1);
  return 1;
}

/* set_autograd(tensor, table or nil): attaches a table that lives as long as the tensor: its environment, so that the
 * collector sees cycles through it */
static int lfp8_set_autograd(lua_State *L) {
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  lua_settop(L, 2);
  if (!lua_isnil(L, 2) && !lua_istable(L, 2))
    argument_error(L, 2, "table or nil expected, got %s", luaL_typename(L, 2));
  box->has_autograd = lua_istable(L, 2);
  if (!box->has_autograd) lua_pushvalue(L, LUA_GLOBALSINDEX);
  lua_setfenv(L, 1);
  return 0;
}

/* free(tensor): gives its memory up at once; for tensors that no script has seen. One that is in use in a call that this
 * interrupts is left to the collector. */
static int lfp8_free(lua_State *L) {
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  if (is_in_use(box)) return 0;
  leave_scope(box);
  tensor_release(&box->tensor);
  return 0;
}

/* keep(tensor): no scope frees it */
static int lfp8_keep(lua_State *L) {
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  leave_scope(box);
  return 0;
}

/* scope_begin(): tensors made from now on belong to a new innermost scope */
static int lfp8_scope_begin(lua_State *L) {
  Scope *scope = malloc(sizeof *scope);
  if (!scope) return finish(L, error_set("out of memory on cpu: %zu bytes asked for", sizeof *scope), 0);
  *scope = (Scope){.boxes = {&scope->boxes, &scope->boxes}, .outer = innermost};
  innermost = scope;
  return 0;
}

/* scope_end(list): frees the tensors of the innermost scope except those in the list, which move to the scope around
 * it */
static int lfp8_scope_end(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  if (!innermost) return finish(L, error_set("no scope has begun"), 0);
  Scope *scope = innermost;
  int count = (int)lua_objlen(L, 1);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, 1, i);
    TensorBox *box = (TensorBox *)to_tensor(L, -1);
    lua_pop(L, 1);
    if (!box || box->scope != scope) continue;
    leave_scope(box);
    enter_scope(box, scope->outer);
  }
  while (scope->boxes.next != &scope->boxes) {
    TensorBox *box = box_of_links(scope->boxes.next);
    leave_scope(box);
    tensor_release(&box->tensor);
  }
  innermost = scope->outer;
  free(scope);
  return 0;
}

const luaL_Reg box_functions[] = {
    {"is_tensor", lfp8_is_tensor},
    {"requires_grad", lfp8_requires_grad},
    {"set_requires_grad", lfp8_set_requires_grad},
    {"autograd", lfp8_autograd},
    {"set_autograd", lfp8_set_autograd},
    {"free", lfp8_free},
    {"keep", lfp8_keep},
    {"scope_begin", lfp8_scope_begin},
    {"scope_end", lfp8_scope_end},
    {NULL, NULL},
};
