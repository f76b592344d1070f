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

void drop_scopes(State *state) {
  while (state->innermost) {
    Scope *scope = state->innermost;
    while (scope->boxes.next != &scope->boxes) leave_scope(box_of_links(scope->boxes.next));
    state->innermost = scope->outer;
    free(scope);
  }
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
  State *state = state_now();
  Scope *scope = malloc(sizeof *scope);
  if (!scope) return finish(L, error_memory(sizeof *scope), 0);
  *scope = (Scope){.boxes = {&scope->boxes, &scope->boxes}, .outer = state->innermost};
  state->innermost = scope;
  return 0;
}

/* scope_end(list): frees the tensors of the innermost scope except those in the list, which move to the scope around
 * it */
static int lfp8_scope_end(lua_State *L) {
  State *state = state_now();
  luaL_checktype(L, 1, LUA_TTABLE);
  if (!state->innermost) return finish(L, error_set("no scope has begun"), 0);
  Scope *scope = state->innermost;
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
    if (!is_in_use(state, box)) tensor_release(&box->tensor);
  }
  state->innermost = scope->outer;
  free(scope);
  return 0;
}

const luaL_Reg scope_functions[] = {
    {"keep", lfp8_keep},
    {"scope_begin", lfp8_scope_begin},
    {"scope_end", lfp8_scope_end},
    {NULL, NULL},
};
