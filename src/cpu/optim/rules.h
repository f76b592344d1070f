/* The update rules (core/optim.h) for runs of floats. */
#ifndef FP8_CPU_OPTIM_RULES_H
#define FP8_CPU_OPTIM_RULES_H

#include "core/optim.h"

/* One step of n parameters, at most CHUNK, with their moments; m is NULL in SGD without momentum, v in any SGD and LION. */
void apply_rule(UpdateRule rule, const UpdateStep *step, float *p, const float *grad, float *m, float *v, int n);

/* out = g² / max(v, epsilon²), v being what the step makes of the second moments. */
void adamw_deviations(const UpdateStep *step, float *out, const float *grad, const float *v, int n);

#endif
