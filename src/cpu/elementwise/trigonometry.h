/* Sine, cosine and tangent of runs. */
#ifndef FP8_CPU_ELEMENTWISE_TRIGONOMETRY_H
#define FP8_CPU_ELEMENTWISE_TRIGONOMETRY_H

/* out[i] = sin x[i] and so on, for n elements that are no outputs. Relative errors are about half a unit in the last place
 * of the result. */
void sin_floats(float *out, const float *x, int n);
void cos_floats(float *out, const float *x, int n);
void tan_floats(float *out, const float *x, int n);

#endif
