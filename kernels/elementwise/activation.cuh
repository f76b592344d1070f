/* Parts of activation functions and of their derivatives (core/activation.h has more). */
#ifndef FP8_KERNELS_ACTIVATION_CUH
#define FP8_KERNELS_ACTIVATION_CUH

#include "core/activation.h"

constexpr float sqrt_half = 0.70710678118654752f;
constexpr float inverse_sqrt_two_pi = 0.39894228040143268f;

/* Φ(x), accurate in its lower tail as well. */
__host__ __device__ inline float normal_distribution(float x) { return 0.5f * erfcf(-x * sqrt_half); }

__host__ __device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__host__ __device__ inline float normal_density(float x) { return inverse_sqrt_two_pi * expf(-0.5f * x * x); }

#endif
