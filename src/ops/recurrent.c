/* The gates of recurrent layers: what fits together, and outputs. */
#include "ops/support/support.h"

/* Fails unless x is contiguous (rows, parts · hidden) like the state (rows, hidden). */
static bool check_part(const Tensor *x, const Tensor *state, int64_t parts, const char *what) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(x, state)) return false;
  if (x->dtype == state->dtype && x->rank == 2 && x->size[0] == state->size[0] &&
      x->size[1] == parts * state->size[1] && tensor_is_contiguous(x)) {
    return true;
  }
  return error_set("%s must be %s of shape (%lld, %lld), contiguous, got %s of shape %s", what,
                   dtype_name(state->dtype), (long long)state->size[0], (long long)(parts * state->size[1]),
                   dtype_name(x->dtype), tensor_shape_text(x, text));
}

static bool check_state(const Tensor *state) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!check_compute_float(state->dtype, "dtype")) return false;
  return (state->rank == 2 && tensor_is_contiguous(state)) ||
         error_set("a contiguous state (rows, hidden) is needed, got shape %s", tensor_shape_text(state, text));
}

/* A new tensor (rows, parts · hidden) for a state (rows, hidden). */
static bool create_parts(Tensor *out, const Tensor *state, int64_t parts) {
  int64_t size[2] = {state->size[0], parts * state->size[1]};
  return tensor_create(out, state->dtype, tensor_device(state), 2, size);
}

bool op_recurrent_step(Tensor *hidden, Tensor *state, Tensor *saved, const RecurrentStep *step) {
  const Tensor *before = step->state;
  if (!check_state(before)) return false;
  bool lstm = step->from_input->rank == 2 && step->from_input->size[1] == 4 * before->size[1];
  int64_t parts = lstm ? 4 : 3;
  if (!check_part(step->from_input, before, parts, "what comes from the input") ||
      !check_part(step->from_hidden, before, parts, "what comes from the hidden state")) {
    return false;
  }
  Tensor made[3] = {{0}, {0}, {0}};
  bool done = create_parts(&made[1], before, 1) && create_parts(&made[2], before, 4) &&
              (!lstm || create_parts(&made[0], before, 1));
  done = done && backend_for(before)->recurrent_step(lstm ? &made[0] : NULL, &made[1], &made[2], step);
  if (lstm) hand_over(hidden, &made[0], done);
  hand_over(state, &made[1], done);
  return hand_over(saved, &made[2], done);
}

bool op_recurrent_step_backward(Tensor *from_input, Tensor *from_hidden, Tensor *state,
                                const RecurrentBackward *backward) {
  const Tensor *before = backward->state;
  bool lstm = backward->state_after != NULL;
  if (!check_state(before) || !check_part(backward->saved, before, 4, "what was saved") ||
      !check_part(backward->grad_hidden, before, 1, "the gradient of the hidden state")) {
    return false;
  }
  if (lstm && (!check_part(backward->state_after, before, 1, "the state after it") ||
               !check_part(backward->grad_state_after, before, 1, "the gradient of the state"))) {
    return false;
  }
  Tensor made[3] = {{0}, {0}, {0}};
  bool done = create_parts(&made[0], before, lstm ? 4 : 3) && create_parts(&made[2], before, 1) &&
              (lstm || create_parts(&made[1], before, 3));
  done = done && backend_for(before)->recurrent_step_backward(&made[0], lstm ? NULL : &made[1], &made[2], backward);
  hand_over(from_input, &made[0], done);
  if (!lstm) hand_over(from_hidden, &made[1], done);
  return hand_over(state, &made[2], done);
}
