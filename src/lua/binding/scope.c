/* Scopes: what was made inside is freed at their end. */
#include "lua/binding/scope.h"

#include <stddef.h>
#include <stdlib.h>

static TensorBox *box_of_links(Links *links) { return (TensorBox *)((char *)links - offsetof(TensorBox, links)); }

void leave_scope(TensorBox *box) {
  if (!box->scope) return;
  box->links.previous->next = box->links.next;
  box->links.next->previous = box->links.previous;
  box->scope = NULL;
}

void enter_scope(TensorBox *box, Scope *scope) {
  if (!scope) return;
  box->scope = scope;
  box->links = (Links){.previous = &scope->boxes, .next = scope->boxes.next};
  box->links.next->previous = &box->links;
  box->links.previous->next = &box->links;
}

/* Ends the innermost scope: frees what is in it, or leaves that to the collector. */
static void end_scope(State *state, bool frees) {
  Scope *scope = state->innermost;
  for (Links *links = scope->boxes.next; links != &scope->boxes; links = links->next) {
    TensorBox *box = box_of_links(links);
    box->scope = NULL;
    if (frees) tensor_release(&box->tensor);
  }
  state->innermost = scope->outer;
  free(scope);
}

void drop_scopes(State *state) {
  while (state->innermost) end_scope(state, false);
}

/* scope(rescue, value, f, …) -> what f returns: calls f(value, …) in a new scope, to which the tensors belong that are
 * made meanwhile. At its end those are freed that have not been taken out by keep or promote. After an error
 * rescue(value) is to take out what has to stay all the same; where that fails, too, all is left to the collector. */
static int lfp8_scope(lua_State *L) {
  for (int i = 1; i <= 3; i += 2) {
    if (!lua_isfunction(L, i)) argument_error(L, i, "function expected, got %s", luaL_typename(L, i));
  }
  State *state = state_now();
  Scope *scope = host_allocate(sizeof *scope);
  if (!scope) return finish(L, false, 0);
  lua_pushvalue(L, 2);
  lua_insert(L, 4); /* rescue, value, f, value, … */
  *scope = (Scope){.boxes = {&scope->boxes, &scope->boxes}, .outer = state->innermost};
  state->innermost = scope;
  bool failed = call_protected(L, lua_gettop(L) - 3, LUA_MULTRET) != 0, rescued = true;
  if (failed) {
    lua_insert(L, 1); /* the error, rescue, value */
    rescued = call_protected(L, 1, 0) == 0;
    lua_settop(L, 1);
  }
  end_scope(state, rescued);
  return failed ? raise_again(L) : lua_gettop(L) - 2;
}

/* keep(tensor): no scope frees it */
static int lfp8_keep(lua_State *L) {
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  leave_scope(box);
  return 0;
}

/* promote(tensor): if it belongs to the innermost scope, it moves to the one around that */
static int lfp8_promote(lua_State *L) {
  const Scope *scope = state_now()->innermost;
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  if (!scope || box->scope != scope) return 0;
  leave_scope(box);
  enter_scope(box, scope->outer);
  return 0;
}

const luaL_Reg scope_functions[] = {
    {"scope", lfp8_scope},
    {"keep", lfp8_keep},
    {"promote", lfp8_promote},
    {NULL, NULL},
};
