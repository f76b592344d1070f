/* Parts of activation functions and of their derivatives (core/activation.h has more). */
#ifndef FP8_KERNELS_ACTIVATION_CUH
#define FP8_KERNELS_ACTIVATION_CUH

#include "core/activation.h"
#include "core/operations.h"

#include "vectors.cuh"

constexpr float sqrt_half = 0.70710678118654752f;
constexpr float inverse_sqrt_two_pi = 0.39894228040143268f;

/* Φ(x), accurate in its lower tail as well. */
__host__ __device__ inline float normal_distribution(float x) { return 0.5f * erfcf(-x * sqrt_half); }

__host__ __device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__host__ __device__ inline float normal_density(float x) { return inverse_sqrt_two_pi * expf(-0.5f * x * x); }

/* --- for 16-bit results: in as few instructions as leave relative errors below 1e-5 --- */

__device__ inline float quick_reciprocal(float x) {
  float result;
  asm("rcp.approx.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ inline float quick_sigmoid(float x) { return quick_reciprocal(1.0f + __expf(-x)); }

/* e^(-x²/2), which gauss is below, and Φ(x). */
__device__ inline float quick_gauss(float x) { return __expf(-0.5f * x * x); }
__device__ inline float quick_normal_distribution(float x, float gauss) {
  const float tail = gauss * normal_tail_ratio(quick_reciprocal(1.0f + 0.3f * fabsf(x)));
  return x < 0.0f ? tail : 1.0f - tail;
}

/* An activation function of x, and the gradient of x from g, that of its result. */
template <UnaryOp OP> struct QuickActivation;

template <> struct QuickActivation<UNARY_RELU> {
  static __device__ float value(float x) { return x < 0.0f ? 0.0f : x; } /* keeps NaN */
  static __device__ float gradient(float g, float x) { return x > 0.0f ? g : 0.0f; }
};

template <> struct QuickActivation<UNARY_GELU> {
  static __device__ float value(float x) { return x * quick_normal_distribution(x, quick_gauss(x)); }
  static __device__ float gradient(float g, float x) {
    const float gauss = quick_gauss(x);
    return g * (quick_normal_distribution(x, gauss) + x * (inverse_sqrt_two_pi * gauss));
  }
};

template <> struct QuickActivation<UNARY_GELU_TANH> {
  static __device__ float value(float x) { return x * quick_sigmoid(gelu_tanh_argument(x)); }
  static __device__ float gradient(float g, float x) {
    const float bounded = gelu_tanh_bounded(x), s = quick_sigmoid(gelu_tanh_argument(bounded));
    return g * (s + bounded * s * (1.0f - s) * gelu_tanh_slope(bounded));
  }
};

template <> struct QuickActivation<UNARY_SILU> {
  static __device__ float value(float x) { return x * quick_sigmoid(x); }
  static __device__ float gradient(float g, float x) {
    const float s = quick_sigmoid(x);
    return g * s * (1.0f + x * (1.0f - s));
  }
};

/* Sixteen bytes of an activation function of x, or, if BACKWARD, of the gradient of x. */
template <typename Scalar, UnaryOp OP, bool BACKWARD> __device__ inline uint4 activate(uint4 raw_x, uint4 raw_grad) {
  constexpr int width = vector_width<Scalar>;
  float x[width], grad[width];
  unpack<Scalar>(raw_x, x);
  if (BACKWARD) unpack<Scalar>(raw_grad, grad);
#pragma unroll
  for (int k = 0; k < width; k++) {
    x[k] = BACKWARD ? QuickActivation<OP>::gradient(grad[k], x[k]) : QuickActivation<OP>::value(x[k]);
  }
  return pack<Scalar>(x);
}

#endif
