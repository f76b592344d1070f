/* What every kernel file shares: typed loads and stores that convert, 16-byte vectors, reductions over a warp or a
 * thread block, and grid sizes. */
#ifndef FP8_COMMON_CUH
#define FP8_COMMON_CUH

#include <math.h>
#include <stdint.h>

#include "core/formats/float_formats.h"
#include "kernels.h"

enum { WARP = 32 };
constexpr unsigned all_lanes = 0xFFFFFFFFu;

/* --- switches over enums --- */

/* trap_missing_case for the device as well. As far as the compiler knows it returns: a loop that could end here would be
 * unrolled less. */
template <typename T> __host__ __device__ inline T missing_case() {
#ifdef __CUDA_ARCH__
  asm volatile("trap;");
  return T();
#else
  trap_missing_case();
#endif
}

/* nvcc does not notice where a switch in device code leaves out a case, but the host's compiler does where it compiles
 * the function too. So a function with such a switch is one for the host and the device, and a template that nothing on
 * the host calls is named in static_assert(compiled_for_host<&function<...>>). */
template <auto> constexpr bool compiled_for_host = true;

/* --- element types --- */

/* The bits of an f16, bf16, e4m3 or e5m2 element, as types of their own so that conversions can be chosen by them. */
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};
struct E4M3 {
  uint8_t bits;
};
struct E5M2 {
  uint8_t bits;
};

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(Half value) { return f16_to_float(value.bits); }
__device__ inline float to_float(BFloat16 value) { return bf16_to_float(value.bits); }
__device__ inline float to_float(E4M3 value) { return e4m3_to_float(value.bits); }
__device__ inline float to_float(E5M2 value) { return e5m2_to_float(value.bits); }
__device__ inline float to_float(uint8_t value) { return (float)value; }
__device__ inline float to_float(int32_t value) { return (float)value; }
__device__ inline float to_float(int64_t value) { return (float)value; }

__device__ inline void from_float(float value, bool, float &out) { out = value; }
/* The hardware's conversions give the bits of f16_from_float and bf16_from_float, but for NaN, which stays NaN. */
__device__ inline void from_float(float value, bool, Half &out) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
#else
  out.bits = f16_from_float(value);
#endif
}
__device__ inline void from_float(float value, bool, BFloat16 &out) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
#else
  out.bits = bf16_from_float(value);
#endif
}
__device__ inline void from_float(float value, bool saturate, E4M3 &out) {
  out.bits = e4m3_from_float(value, saturate);
}
__device__ inline void from_float(float value, bool saturate, E5M2 &out) {
  out.bits = e5m2_from_float(value, saturate);
}
__device__ inline void from_float(float value, bool, uint8_t &out) {
  out = (uint8_t)(uint32_t)fminf(fmaxf(value, 0.0f), 255.0f); /* of NaN and 0, 0 is the larger */
}
__device__ inline void from_float(float value, bool, int32_t &out) {
  out = (int32_t)integer_from_float(value, INT32_MIN, INT32_MAX);
}
__device__ inline void from_float(float value, bool, int64_t &out) {
  out = integer_from_float(value, INT64_MIN, INT64_MAX);
}

template <typename T> constexpr bool is_integer = false;
template <> constexpr bool is_integer<uint8_t> = true;
template <> constexpr bool is_integer<int32_t> = true;
template <> constexpr bool is_integer<int64_t> = true;

/* f of a value of the type that a dtype's elements have. f is a function of the host or of the device, which nvcc would
 * warn of. The dtype is the same for a whole grid, so that the switch is a uniform branch there. */
#pragma nv_exec_check_disable
template <typename F> __host__ __device__ inline auto with_element(DType dtype, F f) {
  switch (dtype) {
  case DTYPE_F32:
    return f(float());
  case DTYPE_F16:
    return f(Half());
  case DTYPE_BF16:
    return f(BFloat16());
  case DTYPE_E4M3:
    return f(E4M3());
  case DTYPE_E5M2:
    return f(E5M2());
  case DTYPE_U8:
    return f(uint8_t());
  case DTYPE_I32:
    return f(int32_t());
  case DTYPE_I64:
    return f(int64_t());
  }
  return missing_case<decltype(f(float()))>();
}

/* The same of f32, f16 and bf16 alone. */
#pragma nv_exec_check_disable
template <typename F> __host__ __device__ inline auto with_scalar(DType dtype, F f) {
  switch (dtype) {
  case DTYPE_F32:
    return f(float());
  case DTYPE_F16:
    return f(Half());
  case DTYPE_BF16:
    return f(BFloat16());
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  return missing_case<decltype(f(float()))>();
}

/* The same of e4m3 and e5m2. */
template <typename F> inline auto with_float8(DType dtype, F f) {
  switch (dtype) {
  case DTYPE_E4M3:
    return f(E4M3());
  case DTYPE_E5M2:
    return f(E5M2());
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  trap_missing_case();
}

/* The same of the integer types. */
#pragma nv_exec_check_disable
template <typename F> __host__ __device__ inline auto with_integer(DType dtype, F f) {
  switch (dtype) {
  case DTYPE_U8:
    return f(uint8_t());
  case DTYPE_I32:
    return f(int32_t());
  case DTYPE_I64:
    return f(int64_t());
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
  case DTYPE_E4M3:
  case DTYPE_E5M2:
    break;
  }
  return missing_case<decltype(f(uint8_t()))>();
}

struct AnyElement {
  template <typename T> __host__ __device__ void operator()(T) const {}
};
static_assert(compiled_for_host<&with_element<AnyElement>> && compiled_for_host<&with_scalar<AnyElement>> &&
              compiled_for_host<&with_integer<AnyElement>>);

/* f of a word of so many bytes: 1, 2, 4, 8 or 16. */
template <typename F> inline auto with_word(int bytes, F f) {
  switch (bytes) {
  case 1:
    return f(uint8_t());
  case 2:
    return f(uint16_t());
  case 4:
    return f(uint32_t());
  case 8:
    return f(uint64_t());
  case 16:
    return f(uint4());
  }
  trap_missing_case();
}

/* --- vectors --- */

/* N elements that move in as few instructions as they can, 16 bytes each at most. */
template <typename T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Packed { T element[N]; };

template <typename T, int N> __device__ inline void load_as(const void *data, int64_t i, float (&value)[N]) {
  Packed<T, N> packed = *reinterpret_cast<const Packed<T, N> *>(static_cast<const T *>(data) + i);
#pragma unroll
  for (int k = 0; k < N; k++) value[k] = to_float(packed.element[k]);
}

template <typename T, int N>
__device__ inline void store_as(void *data, int64_t i, const float (&value)[N], bool saturate = true) {
  Packed<T, N> packed;
#pragma unroll
  for (int k = 0; k < N; k++) from_float(value[k], saturate, packed.element[k]);
  *reinterpret_cast<Packed<T, N> *>(static_cast<T *>(data) + i) = packed;
}

/* Elements i … i + N - 1 as float32. */
template <int N> __device__ inline void load_vector(const void *data, DType dtype, int64_t i, float (&value)[N]) {
  with_element(dtype, [&](auto element) { load_as<decltype(element)>(data, i, value); });
}

template <int N>
__device__ inline void store_vector(void *data, DType dtype, int64_t i, const float (&value)[N], bool saturate = true) {
  with_element(dtype, [&](auto element) { store_as<decltype(element)>(data, i, value, saturate); });
}

__device__ inline float load_float(const void *data, DType dtype, int64_t i) {
  float value[1];
  load_vector(data, dtype, i, value);
  return value[0];
}

__device__ inline void store_float(void *data, DType dtype, int64_t i, float value) {
  float values[1] = {value};
  store_vector(data, dtype, i, values);
}

/* Rounds once. */
__device__ inline void store_double(void *data, DType dtype, int64_t i, double value) {
  store_float(data, dtype, i, float_to_narrow(dtype, value));
}

/* An element of an integer tensor. */
__device__ inline int64_t load_integer(const void *data, DType dtype, int64_t i) {
  return with_integer(dtype, [&](auto element) { return (int64_t) static_cast<const decltype(element) *>(data)[i]; });
}

__device__ inline void from_integer(int64_t value, uint8_t &out) {
  out = (uint8_t)(value < 0 ? 0 : value > UINT8_MAX ? UINT8_MAX : value);
}
__device__ inline void from_integer(int64_t value, int32_t &out) {
  out = (int32_t)(value < INT32_MIN ? INT32_MIN : value > INT32_MAX ? INT32_MAX : value);
}
__device__ inline void from_integer(int64_t value, int64_t &out) { out = value; }
template <typename T> __device__ inline void from_integer(int64_t value, T &out) {
  from_float((float)value, true, out);
}

/* Saturates in the narrower integer types, rounds in float ones. */
__device__ inline void store_integer(void *data, DType dtype, int64_t i, int64_t value) {
  with_element(dtype, [&](auto element) { from_integer(value, static_cast<decltype(element) *>(data)[i]); });
}

/* Keeps the low bits, as the results of arithmetic do; for integer types. */
__device__ inline void store_wrapped_integer(void *data, DType dtype, int64_t i, int64_t value) {
  with_integer(dtype, [&](auto element) { static_cast<decltype(element) *>(data)[i] = (decltype(element))value; });
}

/* --- combining values across threads --- */

__device__ inline float shuffle_xor(float value, int mask) { return __shfl_xor_sync(all_lanes, value, mask); }
__device__ inline double shuffle_xor(double value, int mask) { return __shfl_xor_sync(all_lanes, value, mask); }
__device__ inline uint32_t shuffle_xor(uint32_t value, int mask) { return __shfl_xor_sync(all_lanes, value, mask); }
__device__ inline int64_t shuffle_xor(int64_t value, int mask) {
  return (int64_t)__shfl_xor_sync(all_lanes, (long long)value, mask);
}
__device__ inline WideSum shuffle_xor(WideSum sum, int mask) {
  return {shuffle_xor(sum.high, mask), shuffle_xor(sum.low, mask)};
}

/* Combines the values of THREADS neighbouring threads, a warp or the whole (one-dimensional) thread block, and gives
 * the result to all of them. `combine` must be commutative and associative up to rounding; the order is the same in
 * every run. All threads of the thread block call this together unless THREADS is WARP. */
template <int THREADS, typename T, typename Combine> __device__ inline T combine_across(T value, Combine combine) {
#pragma unroll
  for (int mask = WARP / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  if (THREADS == WARP) return value;
  constexpr int warps = THREADS / WARP;
  __shared__ T partial[warps];
  if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = value;
  __syncthreads();
  T result = partial[0];
  for (int i = 1; i < warps; i++) result = combine(result, partial[i]);
  __syncthreads(); /* before the next call writes `partial` */
  return result;
}

/* a / b of numbers that are not negative; in 32 bits, several times faster, where both fit. */
__device__ inline int64_t divide(int64_t a, int64_t b) {
  return (uint64_t)(a | b) <= UINT32_MAX ? (int64_t)((uint32_t)a / (uint32_t)b) : a / b;
}

/* --- faults --- */

/* Leaves (kind, index) for the host; of several faults any one survives, since 8-byte stores are not torn. */
__device__ inline void report_fault(FaultWord *fault, FaultKind kind, int64_t index) {
  *fault = (long long)((uint64_t)index << 8 | (uint64_t)kind);
}

/* --- grids --- */

/* Thread blocks for a grid-stride loop over `items`, at most `waves` for every multiprocessor. */
inline int grid_size(Launch launch, int64_t items, int64_t items_a_block, int waves) {
  int64_t blocks = divide_up(items, items_a_block);
  int64_t limit = (int64_t)launch.multiprocessors * waves;
  return (int)(blocks < limit ? blocks : limit);
}

/* As many thread blocks as the device holds at once, at most `blocks`: each does a long run of work and sets up
 * once. */
inline int resident_grid(const void *kernel, Launch launch, int threads, int64_t blocks) {
  int each = 0;
  if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, 0) != cudaSuccess || each < 1) each = 1;
  const int64_t limit = (int64_t)launch.multiprocessors * each;
  return (int)(blocks < limit ? blocks : limit);
}

__device__ inline int64_t global_thread() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline int64_t global_threads() { return (int64_t)gridDim.x * blockDim.x; }

#endif
