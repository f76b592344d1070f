/* The steps of optimizers, and their formulas for one element. */
#ifndef FP8_CORE_OPTIM_H
#define FP8_CORE_OPTIM_H

#include <math.h>

#include "core/formats/quantizer.h"
#include "core/number.h"
#include "core/portable.h"
#include "core/random.h"
#include "core/tensor.h"

/* How an optimizer changes a parameter p with its gradient g and its moments m and v:
 *
 *   SGD           g += weight_decay · p;  m = beta1 · m + fraction1 · g;  p -= rate · (nesterov ? g + beta1 · m : m);
 *                 without m: p -= rate · g
 *   ADAMW         m = beta1 · m + fraction1 · g;  v = beta2 · v + fraction2 · g²
 *                 p = p · (1 - lr · weight_decay) - rate · m / (sqrt(v) · root_scale + epsilon)
 *   ADAM          the same of g + weight_decay · p, with an lr of 0: no decay but that
 *   STABLE_ADAMW  as ADAMW, with lr and rate divided by max(1, RMS), RMS = sqrt(mean(g² / max(v, epsilon²))) over
 *                 all elements of the parameter, v the new one; a NaN in it makes the whole parameter NaN
 *   LION          p = p · (1 - lr · weight_decay) - rate · sign(beta1 · m + fraction1 · g), then
 *                 m = beta2 · m + fraction2 · g
 *
 * PyTorch's SGD, Adam and AdamW, StableAdamW of Wortsman et al. (2023, algorithm 2) and Lion of Chen et al. (2023,
 * algorithm 2) follow with numbers that src/ops/optim/step.c derives from their settings. */
typedef enum UpdateRule { UPDATE_SGD, UPDATE_ADAMW, UPDATE_ADAM, UPDATE_STABLE_ADAMW, UPDATE_LION } UpdateRule;

/* The numbers of a step. All are words of 32 bits, so that a step can also be a tensor of UPDATE_FIELDS f32 elements. */
typedef struct UpdateStep {
  float lr, weight_decay;
  float rate; /* the learning rate, of ADAMW over its first correction */
  float beta1, fraction1, beta2, fraction2;
  float root_scale; /* 1 over the root of the second correction */
  float epsilon;
  float nesterov;              /* 1 or 0 */
  float stochastic;            /* 1: 16-bit parameters are rounded stochastically; 0: to nearest even */
  uint32_t seed[2], offset[2]; /* then, of the RandomSource, the lower half first */
} UpdateStep;

enum { UPDATE_FIELDS = sizeof(UpdateStep) / sizeof(float), FIELDS_MOST = 16 };

/* A parameter of f32, f16 or bf16, its gradient of the same dtype, and what an optimizer keeps for it in f32; all
 * contiguous and of one shape. NULL: no first moment of SGD without momentum, no second moment of any SGD and of LION,
 * no master.
 *
 * The master of a 16-bit parameter is what is updated, and then rounded into the parameter. An element of it that does
 * not round to the parameter's is out of date, because something else has changed the parameter: it is taken from
 * there first. No master where the parameter is rounded stochastically: its elements take the bits (core/random.h) of
 * the step's draw from word first_word on.
 *
 * Where there are scales, f32 and one a block of row-major elements, moments are codes in 8 bits. A step decodes them,
 * goes on in float32, and encodes what it gets for the next one, to nearest; a second moment above 0 gets a code above 0
 * (second_scaled). */
typedef struct UpdateEntry {
  Tensor *parameter;
  const Tensor *grad;
  Tensor *first, *second, *master;
  Tensor *first_scale, *second_scale; /* of each moment that there is, or NULL */
  int64_t first_word;                 /* a multiple of 4 */
} UpdateEntry;

/* The blocks of 8-bit moments are powers of two from BLOCK_LEAST to BLOCK_MOST elements. */
enum { BLOCK_LEAST = 64, BLOCK_MOST = 2048 };

/* One step of parameters that share its numbers.
 *
 * A captured update would repeat the same step, with the same learning rate and number. So the numbers may also be on
 * the device: `live`, if not NULL, holds UPDATE_FIELDS f32 numbers, which are read instead when the update runs. */
typedef struct Update {
  UpdateRule rule;
  const UpdateEntry *list;
  int count;
  UpdateStep step;
  const Tensor *live;
  Quantizer first_format, second_format; /* of 8-bit moments: map or format, and the blocksize, the same for both */
} Update;

/* Whether a rule keeps a second moment. */
static inline bool rule_has_second(UpdateRule rule) { return rule != UPDATE_SGD && rule != UPDATE_LION; }

/* The random words that a step takes for a parameter where it is stochastic. */
static inline int64_t parameter_words(const Tensor *parameter) {
  return parameter->dtype == DTYPE_F32 ? 0 : rounding_words(tensor_count(parameter));
}

/* The smallest number above 0 of an 8-bit format; 0 if its map has none. */
static inline float smallest_number(const Quantizer *format) {
  if (!format->map) return format->format == DTYPE_E4M3 ? 0x1p-9f : 0x1p-16f;
  for (int i = 0; i < MAP_SIZE; i++) {
    if (format->map->table.value[i] > 0) return format->map->table.value[i];
  }
  return 0;
}

/* --- for one element --- */

/* What a step's stochastic rounding draws from for a parameter. */
PORTABLE RandomSource step_random(const UpdateStep *step, int64_t first_word) {
  RandomSource source;
  source.seed = (uint64_t)step->seed[1] << 32 | step->seed[0];
  source.offset = ((uint64_t)step->offset[1] << 32 | step->offset[0]) + (uint64_t)first_word / 4;
  return source;
}

/* A moment of an element after a step: of its gradients, or of their squares. */
PORTABLE float moment_after(float moment, float beta, float fraction, float value) {
  return beta * moment + fraction * value;
}

/* SGD and ADAM: the gradient with the decay of the parameter in it. */
PORTABLE float decayed_gradient(float grad, float parameter, float weight_decay) {
  return grad + weight_decay * parameter;
}

/* SGD with momentum: where the parameter goes, from that gradient and the first moment after the step. */
PORTABLE float sgd_direction(float gradient, float first, float beta1, bool nesterov) {
  return nesterov ? gradient + beta1 * first : first;
}

/* Whether the square of the gradient, a finite one, may be more than float32 holds. */
PORTABLE bool square_overflows(float grad) { return fabsf(grad) > 0x1p63f && fabsf(grad) < INFINITY; }

/* ADAMW: the second moment after a step with such a gradient, over 2^160. */
PORTABLE float scaled_second(float second, float beta2, float fraction2, float grad) {
  float scaled = grad * 0x1p-80f;
  return moment_after(second * 0x1p-80f * 0x1p-80f, beta2, fraction2, scaled * scaled);
}

/* ADAMW: both moments after a step. Where the second one would be infinite, both are scaled down so that it is the
 * largest float: the update takes nothing from them but the first over the root of the second, which stays. */
PORTABLE void adamw_moments(float *first, float *second, const UpdateStep *step, float grad) {
  *first = moment_after(*first, step->beta1, step->fraction1, grad);
  if (!square_overflows(grad)) {
    *second = moment_after(*second, step->beta2, step->fraction2, grad * grad);
    return;
  }
  float most = 0x1.fffffep-33f, scaled = scaled_second(*second, step->beta2, step->fraction2, grad);
  if (scaled > most) {
    *first *= sqrtf(most / scaled);
    scaled = most;
  }
  *second = scaled * 0x1p80f * 0x1p80f;
}

/* ADAMW: the parameter, from both moments after the step; `kept` is 1 - lr · weight_decay. Nothing over nothing, which
 * an epsilon of 0 may bring about, is no step. */
PORTABLE float adamw_parameter(float parameter, float first, float second, float kept, float rate, float root_scale,
                               float epsilon) {
  float root = sqrtf(second) * root_scale + epsilon;
  return parameter * kept - rate * (root == 0.0f ? 0.0f : first / root);
}

/* LION: -1, 0 or 1; a NaN stays. */
PORTABLE float lion_direction(float first, float beta1, float fraction1, float grad) {
  float mean = moment_after(first, beta1, fraction1, grad);
  return mean > 0.0f ? 1.0f : mean < 0.0f ? -1.0f : mean;
}

/* STABLE_ADAMW: g² / max(v, epsilon²), v the second moment after the step, which begins with `second`. A NaN stays,
 * nothing over nothing is 0. */
PORTABLE float adamw_deviation(float second, float beta2, float fraction2, float grad, float epsilon) {
  float after = moment_after(second, beta2, fraction2, grad * grad), least = epsilon * epsilon;
  after = after < least ? least : after;
  return after == 0.0f ? 0.0f : grad * grad / after;
}

/* The same where the gradient's square overflows. */
PORTABLE float adamw_scaled_deviation(float second, float beta2, float fraction2, float grad, float epsilon) {
  float after = scaled_second(second, beta2, fraction2, grad), scaled = grad * 0x1p-80f, least = epsilon * 0x1p-80f;
  least *= least;
  return scaled * scaled / (after < least ? least : after);
}

/* What is encoded of a second moment whose quotient by its block's scale is `scaled`: at least the smallest number above
 * 0 that the format has. The next step would divide by the root of 0 where the first moment is not 0. */
PORTABLE float second_scaled(float second, float scaled, float smallest) {
  return second > 0.0f && scaled < smallest ? smallest : scaled;
}

/* --- norms --- */

/* What clipping to a largest norm multiplies an element with, one after the other: as one float, their product may
 * have vanished. */
typedef struct ClipFactors {
  float first, second;
} ClipFactors;

PORTABLE ClipFactors clip_factors(double norm, float largest) {
  ClipFactors factors = {1.0f, largest / ((float)norm + 1e-6f)};
  if (factors.second < 0x1p-100f) {
    factors.first = 0x1p-64f;
    factors.second = (float)((double)largest * 0x1p64 / norm);
  }
  return factors;
}

#endif
