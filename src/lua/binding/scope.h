/* Tensors as userdata, and the scopes that free them. */
#ifndef FP8_LUA_SCOPE_H
#define FP8_LUA_SCOPE_H

#include "lua/binding/binding.h"

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
  uint64_t history;  /* the storage's, as of what autograd knows of this tensor */
} TensorBox;

/* Whether a call that the running one interrupts has the tensor as an argument: then it keeps its memory, which is left
 * to the collector. */
bool is_in_use(const State *state, const TensorBox *box);
/* Takes a tensor out of the scope that it is in, if it is in one. */
void leave_scope(TensorBox *box);
/* Puts a tensor into a scope, which may be NULL. */
void enter_scope(TensorBox *box, Scope *scope);

#endif
