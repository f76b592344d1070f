/* The CPU as a backend. */
#include "backend.h"

#include <string.h>

#include "cpu/cpu.h"
#include "cpu/memory/memory.h"

static int cpu_device_count(void) { return 1; }

static bool cpu_synchronize(int index) {
  (void)index;
  return true;
}

static bool cpu_from_host(int index, void *device_data, const void *host, size_t bytes) {
  (void)index;
  if (bytes > 0) memcpy(device_data, host, bytes);
  return true;
}

static bool cpu_to_host(int index, void *host, const void *device_data, size_t bytes) {
  (void)index;
  if (bytes > 0) memcpy(host, device_data, bytes);
  return true;
}

static DeviceKind kind; /* DEVICE_CPU */

static const Backend backend = {
    .version = BACKEND_VERSION,
    .size = sizeof(Backend),
    .kind = &kind,
    .allocator = &cpu_allocator,
    .device_count = cpu_device_count,
    .synchronize = cpu_synchronize,
    .event_record = cpu_event_record,
    .event_elapsed = cpu_event_elapsed,
    .event_release = cpu_event_release,
    .from_host = cpu_from_host,
    .to_host = cpu_to_host,
    .copy = cpu_copy,
    .fill = cpu_fill,
    .arange = cpu_arange,
    .random = cpu_random,
    .unary = cpu_unary,
    .binary = cpu_binary,
    .where = cpu_where,
    .clamp = cpu_clamp,
    .scale = cpu_scale,
    .reduce = cpu_reduce,
    .softmax = cpu_softmax,
    .softmax_columns = cpu_softmax_columns,
    .softmax_backward = cpu_softmax_backward,
    .cross_entropy = cpu_cross_entropy,
    .cross_entropy_backward = cpu_cross_entropy_backward,
    .cross_entropy_gradient = cpu_cross_entropy_gradient,
    .normalize = cpu_normalize,
    .normalize_backward = cpu_normalize_backward,
    .normalize_channels = cpu_normalize_channels,
    .normalize_channels_backward = cpu_normalize_channels_backward,
    .dropout = cpu_dropout,
    .attends = cpu_attends,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,
    .rotate = cpu_rotate,
    .recurrent_step = cpu_recurrent_step,
    .recurrent_step_backward = cpu_recurrent_step_backward,
    .index_select = cpu_index_select,
    .index_add = cpu_index_add,
    .gather = cpu_gather,
    .scatter = cpu_scatter,
    .scan = cpu_scan,
    .sort = cpu_sort,
    .unfold = cpu_unfold,
    .fold = cpu_fold,
    .pool = cpu_pool,
    .pool_backward = cpu_pool_backward,
    .convolve = cpu_convolve,
    .count_flags = cpu_count_flags,
    .nonzero = cpu_nonzero,
    .searchsorted = cpu_searchsorted,
    .histogram = cpu_histogram,
    .matmul = cpu_matmul,
    .matmul_add = cpu_matmul_add,
    .mend_triangle = cpu_mend_triangle,
    .scaled_matmul = cpu_scaled_matmul,
    .scales_runs = NULL,
    .quantize = cpu_quantize,
    .dequantize = cpu_dequantize,
    .quantizes_both_ways = NULL,
    .quantize_both_ways = NULL,
    .quantizes_ways = NULL,
    .quantize_ways = NULL,
    .hadamard = cpu_hadamard,
    .delayed_scale = cpu_delayed_scale,
    .fitted_scale = cpu_fitted_scale,
    .compare = cpu_compare,
    .update = cpu_update,
    .clip_norm = cpu_clip_norm,
    .store_words = cpu_store_words,
};

const Backend *cpu_backend_open(void) { return &backend; }
