/* The formulas of optimizer steps for one element: UpdateRule in backend.h says how they make a step. */
#ifndef FP8_CORE_OPTIM_H
#define FP8_CORE_OPTIM_H

#include <math.h>

#include "core/portable.h"

/* A moment of an element after a step: of its gradients, or of their squares. */
PORTABLE float moment_after(float moment, float beta, float fraction, float value) {
  return beta * moment + fraction * value;
}

/* SGD: the gradient with the decay of the parameter in it. */
PORTABLE float sgd_gradient(float grad, float parameter, float weight_decay) { return grad + weight_decay * parameter; }

/* SGD with momentum: where the parameter goes, from that gradient and the first moment after the step. */
PORTABLE float sgd_direction(float gradient, float first, float beta1, bool nesterov) {
  return nesterov ? gradient + beta1 * first : first;
}

/* ADAMW: the parameter, from both moments after the step; `kept` is 1 - lr · weight_decay. */
PORTABLE float adamw_parameter(float parameter, float first, float second, float kept, float rate, float root_scale,
                               float epsilon) {
  return parameter * kept - rate * (first / (sqrtf(second) * root_scale + epsilon));
}

/* STABLE_ADAMW: g² / max(v, epsilon²), v the second moment after the step. A NaN stays. */
PORTABLE float adamw_deviation(float grad, float second, float epsilon) {
  float least = epsilon * epsilon;
  return grad * grad / (second < least ? least : second);
}

#endif
