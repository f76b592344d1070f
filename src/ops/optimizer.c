/* One optimizer update of one parameter. */
#include "ops/internal.h"

/* A tensor that an update writes: contiguous, and shaped like the parameter. */
static bool check_state(const Tensor *parameter, const Tensor *state, const char *name) {
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(parameter, state)) return false;
  if (!tensor_same_shape(parameter, state)) {
    return error_set("the parameter has shape %s, %s has %s", tensor_shape_text(parameter, first), name,
                     tensor_shape_text(state, second));
  }
  return true;
}

static bool check_parameter(const Tensor *parameter, const Tensor *grad) {
  if (!dtype_is_compute_float(parameter->dtype)) {
    return error_set("the parameter must be f32, f16 or bf16, got %s", dtype_name(parameter->dtype));
  }
  if (!dtype_is_compute_float(grad->dtype)) {
    return error_set("the gradient must be f32, f16 or bf16, got %s", dtype_name(grad->dtype));
  }
  if (!tensor_is_contiguous(parameter)) return error_set("the parameter must be contiguous");
  return check_state(parameter, grad, "its gradient");
}

static bool check_moment(const Tensor *parameter, const Tensor *moment, const char *name) {
  if (!check_state(parameter, moment, name)) return false;
  if (moment->dtype == DTYPE_F32 && tensor_is_contiguous(moment) && moment->storage != parameter->storage) return true;
  return error_set("%s must be a contiguous f32 tensor of its own", name);
}

static bool check_live(const Tensor *parameter, const Tensor *live, int64_t fields) {
  if (!live) return true;
  if (!same_device(parameter, live)) return false;
  if (live->dtype == DTYPE_F32 && tensor_is_contiguous(live) && tensor_count(live) == fields) return true;
  return error_set("a live step must be a contiguous f32 tensor of %lld numbers", (long long)fields);
}

bool op_store_fields(Tensor *live, const float *fields, int count) {
  if (!check_live(live, live, count) || !backend_for(live)->store_fields(live, fields)) return false;
  live->storage->version++;
  return true;
}

bool op_sgd_step(Tensor *parameter, const Tensor *grad, Tensor *buffer, const SgdStep *step) {
  if (!check_parameter(parameter, grad) || !check_live(parameter, step->live, SGD_FIELDS)) return false;
  if (step->momentum != 0 && !buffer) return error_set("momentum needs a momentum buffer");
  if (buffer && !check_moment(parameter, buffer, "the momentum buffer")) return false;
  Tensor contiguous = {0};
  bool done = op_contiguous(&contiguous, grad) &&
              backend_for(parameter)->sgd(parameter, &contiguous, step->momentum != 0 ? buffer : NULL, step);
  tensor_release(&contiguous);
  if (done) parameter->storage->version++;
  if (done && buffer) buffer->storage->version++;
  return done;
}

bool op_adamw_step(Tensor *parameter, const Tensor *grad, Tensor *m, Tensor *v, const AdamwStep *step) {
  if (!check_parameter(parameter, grad) || !check_moment(parameter, m, "the first moment") ||
      !check_moment(parameter, v, "the second moment") || !check_live(parameter, step->live, ADAMW_FIELDS)) {
    return false;
  }
  if (m->storage == v->storage) return error_set("the two moments must not share memory");
  Tensor contiguous = {0};
  bool done = op_contiguous(&contiguous, grad) && backend_for(parameter)->adamw(parameter, &contiguous, m, v, step);
  tensor_release(&contiguous);
  if (!done) return false;
  parameter->storage->version++;
  m->storage->version++;
  v->storage->version++;
  return true;
}
