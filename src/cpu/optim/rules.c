#include "cpu/optim/rules.h"

#include "core/trap.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

VECTORIZE static void sgd_plain(const UpdateStep *step, float *restrict p, const float *restrict grad, int n) {
  float rate = step->rate, decay = step->weight_decay;
  for (int i = 0; i < n; i++) p[i] -= rate * decayed_gradient(grad[i], p[i], decay);
}

VECTORIZE static void sgd_momentum(const UpdateStep *step, float *restrict p, const float *restrict grad,
                                   float *restrict m, int n) {
  float rate = step->rate, decay = step->weight_decay;
  float momentum = step->beta1, fraction = step->fraction1;
  bool nesterov = step->nesterov != 0;
  for (int i = 0; i < n; i++) {
    float g = decayed_gradient(grad[i], p[i], decay);
    m[i] = moment_after(m[i], momentum, fraction, g);
    p[i] -= rate * sgd_direction(g, m[i], momentum, nesterov);
  }
}

VECTORIZE static void adamw_floats(const UpdateStep *step, float *restrict p, const float *restrict grad,
                                   float *restrict m, float *restrict v, int n) {
  float beta1 = step->beta1, fraction1 = step->fraction1, beta2 = step->beta2, fraction2 = step->fraction2;
  float rate = step->rate, root_scale = step->root_scale, epsilon = step->epsilon;
  float kept = 1.0f - step->lr * step->weight_decay;
  for (int i = 0; i < n; i++) {
    m[i] = moment_after(m[i], beta1, fraction1, grad[i]);
    v[i] = moment_after(v[i], beta2, fraction2, grad[i] * grad[i]);
    p[i] = adamw_parameter(p[i], m[i], v[i], kept, rate, root_scale, epsilon);
  }
}

VECTORIZE static void decay_gradients(float *restrict out, const float *restrict grad, const float *restrict p,
                                      float decay, int n) {
  for (int i = 0; i < n; i++) out[i] = decayed_gradient(grad[i], p[i], decay);
}

VECTORIZE static void lion_floats(const UpdateStep *step, float *restrict p, const float *restrict grad,
                                  float *restrict m, int n) {
  float beta1 = step->beta1, fraction1 = step->fraction1, beta2 = step->beta2, fraction2 = step->fraction2;
  float rate = step->rate, kept = 1.0f - step->lr * step->weight_decay;
  for (int i = 0; i < n; i++) {
    p[i] = p[i] * kept - rate * lion_direction(m[i], beta1, fraction1, grad[i]);
    m[i] = moment_after(m[i], beta2, fraction2, grad[i]);
  }
}

/* Whether a gradient may be one of those whose squares overflow. */
static bool has_large(const float *grad, int n) { return largest_magnitude(grad, n) > float_to_bits(0x1p63f); }

static void adamw_large_floats(const UpdateStep *step, float *p, const float *grad, float *m, float *v, int n) {
  float kept = 1.0f - step->lr * step->weight_decay;
  for (int i = 0; i < n; i++) {
    adamw_moments(&m[i], &v[i], step, grad[i]);
    p[i] = adamw_parameter(p[i], m[i], v[i], kept, step->rate, step->root_scale, step->epsilon);
  }
}

static void adamw(const UpdateStep *step, float *p, const float *grad, float *m, float *v, int n) {
  if (has_large(grad, n)) {
    adamw_large_floats(step, p, grad, m, v, n);
  } else {
    adamw_floats(step, p, grad, m, v, n);
  }
}

void apply_rule(UpdateRule rule, const UpdateStep *step, float *p, const float *grad, float *m, float *v, int n) {
  float decayed[CHUNK];
  switch (rule) {
  case UPDATE_SGD:
    if (m) {
      sgd_momentum(step, p, grad, m, n);
    } else {
      sgd_plain(step, p, grad, n);
    }
    return;
  case UPDATE_ADAMW:
  case UPDATE_STABLE_ADAMW:
    adamw(step, p, grad, m, v, n);
    return;
  case UPDATE_ADAM:
    decay_gradients(decayed, grad, p, step->weight_decay, n);
    adamw(step, p, decayed, m, v, n);
    return;
  case UPDATE_LION:
    lion_floats(step, p, grad, m, n);
    return;
  }
  trap_missing_case();
}

VECTORIZE static void small_deviations(const UpdateStep *step, float *restrict out, const float *restrict grad,
                                       const float *restrict v, int n) {
  float beta2 = step->beta2, fraction2 = step->fraction2, epsilon = step->epsilon;
  for (int i = 0; i < n; i++) out[i] = adamw_deviation(v[i], beta2, fraction2, grad[i], epsilon);
}

static void correct_large_deviations(const UpdateStep *step, float *out, const float *grad, const float *v, int n) {
  for (int i = 0; i < n; i++) {
    if (!square_overflows(grad[i])) continue;
    out[i] = adamw_scaled_deviation(v[i], step->beta2, step->fraction2, grad[i], step->epsilon);
  }
}

void adamw_deviations(const UpdateStep *step, float *out, const float *grad, const float *v, int n) {
  small_deviations(step, out, grad, v, n);
  if (has_large(grad, n)) correct_large_deviations(step, out, grad, v, n);
}
