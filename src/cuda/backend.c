/* The CUDA backend: its table, and how fp8/cuda.so is entered. */
#include "cuda/cuda.h"

static const Backend cuda_backend = {
    .version = BACKEND_VERSION,
    .size = sizeof(Backend),
    .kind = &cuda_kind,
    .allocator = &cuda_allocator,
    .device_count = cuda_device_count,
    .synchronize = cuda_synchronize,
    .event_record = cuda_event_record,
    .event_elapsed = cuda_event_elapsed,
    .event_release = cuda_event_release,
    .capture_prepare = cuda_capture_prepare,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .graph_launch = cuda_graph_launch,
    .graph_release = cuda_graph_release,
    .from_host = cuda_from_host,
    .to_host = cuda_to_host,
    .copy = cuda_copy,
    .copy_parts = cuda_copy_parts,
    .fill = cuda_fill,
    .arange = cuda_arange,
    .random = cuda_random,
    .unary = cuda_unary,
    .binary = cuda_binary,
    .where = cuda_where,
    .clamp = cuda_clamp,
    .scale = cuda_scale,
    .reduce = cuda_reduce,
    .softmax = cuda_softmax,
    .softmax_columns = NULL,
    .softmax_backward = cuda_softmax_backward,
    .cross_entropy = cuda_cross_entropy,
    .cross_entropy_backward = cuda_cross_entropy_backward,
    .cross_entropy_gradient = cuda_cross_entropy_gradient,
    .normalize = cuda_normalize,
    .normalize_backward = cuda_normalize_backward,
    .normalize_channels = cuda_normalize_channels,
    .normalize_channels_backward = cuda_normalize_channels_backward,
    .dropout = cuda_dropout,
    .attends = cuda_attends,
    .attention = cuda_attention,
    .attention_backward = cuda_attention_backward,
    .rotate = cuda_rotate,
    .recurrent_step = cuda_recurrent_step,
    .recurrent_step_backward = cuda_recurrent_step_backward,
    .index_select = cuda_index_select,
    .index_add = cuda_index_add,
    .gather = cuda_gather,
    .scatter = cuda_scatter,
    .sums_rows = cuda_sums_rows,
    .scan = cuda_scan,
    .sort = cuda_sort,
    .unfold = cuda_unfold,
    .fold = cuda_fold,
    .pool = cuda_pool,
    .pool_backward = cuda_pool_backward,
    .convolve = cuda_convolve,
    .count_flags = cuda_count_flags,
    .nonzero = cuda_nonzero,
    .searchsorted = cuda_searchsorted,
    .histogram = cuda_histogram,
    .matmul = cuda_matmul,
    .matmul_add = cuda_matmul_add,
    .mend_triangle = cuda_mend_triangle,
    .scaled_matmul = cuda_scaled_matmul,
    .scaled_matmul_add = cuda_scaled_matmul_add,
    .scales_runs = cuda_scales_runs,
    .quantize = cuda_quantize,
    .quantizes_activated = cuda_quantizes_activated,
    .quantize_activated = cuda_quantize_activated,
    .quantizes_cross_entropy = cuda_quantizes_cross_entropy,
    .quantize_cross_entropy = cuda_quantize_cross_entropy,
    .dequantize = cuda_dequantize,
    .quantizes_both_ways = cuda_quantizes_both_ways,
    .quantize_both_ways = cuda_quantize_both_ways,
    .quantizes_ways = cuda_quantizes_ways,
    .quantize_ways = cuda_quantize_ways,
    .hadamard = cuda_hadamard,
    .delayed_scale = cuda_delayed_scale,
    .fitted_scale = cuda_fitted_scale,
    .compare = cuda_compare,
    .compares_quantized = cuda_compares_quantized,
    .compare_quantized = cuda_compare_quantized,
    .update = cuda_update,
    .clip_norm = cuda_clip_norm,
    .store_words = cuda_store_words,
};

/* Asks the driver, without making a context: that happens when a device is first used. */
FP8_API const Backend *fp8_backend_open(void) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess && error != cudaErrorNoDevice) {
    cudaGetLastError();
    error_set("no usable CUDA driver: %s", cudaGetErrorString(error));
    return NULL;
  }
  if (error == cudaErrorNoDevice || count == 0) {
    cudaGetLastError();
    error_set("no CUDA device");
    return NULL;
  }
  return &cuda_backend;
}
