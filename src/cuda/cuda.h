/* What the files of the CUDA backend share, and the entries of its Backend table; backend.h says what each does. */
#ifndef FP8_CUDA_CUDA_H
#define FP8_CUDA_CUDA_H

#include <math.h>

#include "backend.h"
#include "kernels.h"

/* Freed allocations of one size (memory.c). */
typedef struct FreeList {
  int count, room;
  void **data;
} FreeList;

enum { FREE_LISTS = 89 };

struct Blas;
struct Convolutions;
struct RetiredMap;

/* A GPU that a context has used. Everything that the context has it do runs in order on one stream. */
typedef struct CudaDevice {
  int index;
  int capability; /* compute capability: 90 is 9.0 */
  Launch launch;  /* the stream, and the number of multiprocessors */
  cudaMemPool_t pool;
  cudaStream_t
      side; /* for what must be done at once while `launch.stream` is captured; NULL before the first capture */
  cudaStream_t beside;    /* for what goes on beside the work (beside.c); NULL before it is first needed */
  cudaEvent_t fork, join; /* where it begins and ends */
  bool preparing;         /* the work is a rehearsal for a capture */
  bool capturing;
  int graphs;              /* captured and not released */
  FaultWord *fault;        /* in host memory */
  FaultWord *mapped_fault; /* its address for kernels */
  size_t free_bytes;       /* in the lists */
  FreeList free_list[FREE_LISTS];
  size_t used_bytes;      /* of the pool, those in the lists included */
  size_t most_used_bytes; /* the most that this has been, and a little more (memory.c) */
  size_t unmarked_bytes;  /* allocated since the last mark (memory.c) */
  cudaEvent_t marks[2];   /* NULL before they are first needed; next_mark is the older one */
  int next_mark;
  struct Blas *blas;                 /* matmul/product.c; NULL before the first product */
  struct Convolutions *convolutions; /* patches/convolution.c; NULL before the first one */
  struct RetiredMap *retired;        /* map.c */
  uint32_t *bands;                   /* quantize/bands.c; NULL before they are first needed */
} CudaDevice;

/* The kind that these devices have. */
extern DeviceKind cuda_kind;

/* The current context's device of a tensor or an index, set up on first use and made current; NULL with an error. */
CudaDevice *cuda_device(int index);
CudaDevice *cuda_tensor_device(const Tensor *tensor);

/* The same, but NULL without an error where the device has not been used yet; does not make it current. */
const CudaDevice *cuda_used_device(int index);

/* Before and after calls that wait for a whole device, as those do that open and close one (graph.c). */
void cuda_enter_device_call(void);
void cuda_leave_device_call(void);

/* Whether an environment variable is not 0; `unset` where there is none. */
bool cuda_setting(const char *name, bool unset);

/* True if `error` is cudaSuccess, else an error that names the call. */
bool cuda_check(cudaError_t error, const char *call);

/* The same of a kernel launch: `name` is that of the kernel. With the environment variable FP8_DEBUG=1 it also waits for
 * the kernel, so that an error in one is reported as its own. Every launch goes through this. */
bool cuda_launched(const CudaDevice *device, cudaError_t error, const char *name);

/* Before a call that waits for the stream: true at once, unless the prompt runs, and otherwise when there is nothing left
 * to wait for; false where the call is to end before that, while the device works on. */
bool cuda_wait(cudaStream_t stream);

/* Fails while the device is captured: `what` can't be part of a graph. */
bool cuda_check_not_capturing(const CudaDevice *device, const char *what);

/* Where work goes that is no part of the graph, if one is captured: nothing else runs on the device then. */
static inline cudaStream_t cuda_direct_stream(const CudaDevice *device) {
  return device->capturing ? device->side : device->launch.stream;
}

/* Uninitialised memory of `bytes` as a tensor, counted like any other; tensor_release it when the work that uses it is
 * enqueued. */
bool cuda_scratch(Tensor *scratch, const CudaDevice *device, int64_t bytes);

/* Memory that the backend keeps for itself and no statistics show; NULL with an error. */
void *cuda_allocate_uncounted(const CudaDevice *device, size_t bytes);

/* The device's copy of a map's table, uploaded once; NULL with an error. */
const MapTable *cuda_map_table(const CudaDevice *device, Map *map);
/* Frees copies of maps that are gone, which a graph might have read. */
void cuda_release_retired_maps(CudaDevice *device);

extern const Allocator cuda_allocator;
void cuda_release_beside(CudaDevice *device);
/* Gives cached memory back, at the end of a context. */
void cuda_release_memory(CudaDevice *device);
/* The same of what products need. */
void cuda_release_products(CudaDevice *device);
/* The same of what convolutions need. */
void cuda_release_convolutions(CudaDevice *device);
/* The same of what quantizations band by band need. */
void cuda_release_bands(CudaDevice *device);

static inline bool is_aligned(const void *pointer, int64_t bytes) { return (uintptr_t)pointer % (uintptr_t)bytes == 0; }

/* The largest power of two, at most `most`, which is one, that divides the address. */
static inline uint32_t alignment_of(const void *pointer, uint32_t most) {
  uint32_t low = (uint32_t)(uintptr_t)pointer & (most - 1);
  return low ? low & -low : most;
}

/* Of a key of so many words; the upper half of each step is well mixed. */
static inline uint32_t hash_words(const uint64_t *words, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; i++) {
    value = (value ^ words[i]) * 0x9E3779B97F4A7C15u;
    value ^= value >> 29;
  }
  return (uint32_t)(value >> 32);
}

/* The last dimension of a contiguous tensor as columns, all others as rows. */
static inline MatrixRows matrix_rows(const Tensor *tensor) {
  MatrixRows rows = {
      .data = tensor_data(tensor), .dtype = tensor->dtype, .rows = 1, .columns = tensor->size[tensor->rank - 1]};
  for (int d = 0; d < tensor->rank - 1; d++) rows.rows *= tensor->size[d];
  return rows;
}

/* --- the entries of the table, in its order --- */

/* device.c */
int cuda_device_count(void);
bool cuda_synchronize(int index);

/* event.c */
bool cuda_event_record(int index, void **event);
bool cuda_event_elapsed(int index, void *start, void *end, double *milliseconds);
void cuda_event_release(int index, void *event);

/* graph.c */
bool cuda_capture_prepare(int index, bool preparing);
bool cuda_capture_begin(int index);
bool cuda_capture_end(int index, void **graph);
bool cuda_graph_launch(int index, void *graph);
void cuda_graph_release(int index, void *graph);

/* memory.c */
bool cuda_from_host(int index, void *device_data, const void *host, size_t bytes);
bool cuda_to_host(int index, void *host, const void *device_data, size_t bytes);

/* copy.c */
bool cuda_copy(Tensor *out, const Tensor *src, bool saturate);
bool cuda_copy_parts(Tensor *parts, const Tensor *sources, int count);

/* create.c */
bool cuda_fill(Tensor *out, Number number);
bool cuda_arange(Tensor *out, Number start, Number step);

/* random.c */
bool cuda_random(Tensor *out, const RandomDraw *draw);

/* elementwise.c */
bool cuda_unary(UnaryOp op, Tensor *out, const Tensor *x);
bool cuda_binary(BinaryOp op, Tensor *out, Operand a, Operand b);
bool cuda_where(Tensor *out, const Tensor *condition, Operand a, Operand b);
bool cuda_clamp(Tensor *out, const Tensor *x, Number low, Number high);
bool cuda_scale(Tensor *x, const Tensor *factor);

/* reduce.c */
bool cuda_reduce(ReduceOp op, double correction, Tensor *out, const Tensor *x);

/* softmax.c */
bool cuda_softmax(Tensor *out, const Tensor *x, SoftmaxRule rule);
bool cuda_softmax_backward(Tensor *dx, const Tensor *dy, const Tensor *y, SoftmaxRule rule);

/* cross_entropy.c */
bool cuda_cross_entropy(Tensor *loss, Tensor *statistics, const CrossEntropy *rows);
bool cuda_cross_entropy_backward(Tensor *dlogits, const CrossEntropy *rows, const Tensor *statistics,
                                 const Tensor *dloss);
bool cuda_cross_entropy_gradient(Tensor *loss, Tensor *dlogits, const CrossEntropy *rows, const Tensor *dloss);
bool cuda_quantizes_cross_entropy(const QuantizeOutputs *outputs, const CrossEntropy *rows, const Quantizer *quantizer);
bool cuda_quantize_cross_entropy(Tensor *loss, const QuantizeOutputs *outputs, const CrossEntropy *rows,
                                 const Tensor *dloss, const Quantizer *quantizer, Tensor *history,
                                 HistoryRecord record);

/* normalize/rows.c */
bool cuda_normalize(Tensor *out, Tensor *mean, Tensor *inverse, const Normalization *normalization);
bool cuda_normalize_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward);

/* normalize/channels.c */
bool cuda_normalize_channels(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *variance,
                             const Normalization *normalization);
bool cuda_normalize_channels_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward);

/* dropout.c */
bool cuda_dropout(Tensor *out, const Tensor *x, float probability, RandomSource source);

/* attention/attention.c */
bool cuda_attends(const Tensor *q, const Tensor *k, const Tensor *v);
bool cuda_attention(Tensor *y, Tensor *log_sums, const Attention *attention);
bool cuda_attention_backward(const AttentionGradients *gradients, const AttentionBackward *backward);

/* attention/rotate.c */
bool cuda_rotate(Tensor *out, const Tensor *x, const Rotation *rotation);

/* recurrent.c */
bool cuda_recurrent_step(Tensor *hidden, Tensor *state, Tensor *saved, const RecurrentStep *step);
bool cuda_recurrent_step_backward(Tensor *from_input, Tensor *from_hidden, Tensor *state,
                                  const RecurrentBackward *backward);

/* index.c */
bool cuda_index_select(Tensor *out, const Tensor *x, const Tensor *index);
bool cuda_index_add(Tensor *out, const Tensor *x, const Tensor *index, bool adds);
bool cuda_gather(Tensor *out, const Tensor *x, const Tensor *index);
bool cuda_scatter(Tensor *x, const Tensor *index, const Tensor *source, ScatterRule rule);
bool cuda_sums_rows(const Tensor *x, const Tensor *index);

/* order/scan.c, order/sort.c */
bool cuda_scan(Tensor *out, const Tensor *x, ScanRule rule);
bool cuda_sort(Tensor *values, Tensor *positions, const Tensor *x, bool descending);
/* patches/ */
bool cuda_unfold(Tensor *out, const Tensor *x, const Window *window);
bool cuda_fold(Tensor *out, const Tensor *patches, const Window *window);
bool cuda_pool(Tensor *out, Tensor *index, const Tensor *x, const PoolRule *rule);
bool cuda_pool_backward(Tensor *dx, const Tensor *dy, const Tensor *index, const PoolRule *rule);
bool cuda_convolve(const ConvolutionTensors *tensors, bool *done);
/* order/select.c, order/search.c, order/count.c */
bool cuda_count_flags(Tensor *count, const Tensor *flags);
bool cuda_nonzero(Tensor *out, const Tensor *flags);
bool cuda_searchsorted(Tensor *out, const Tensor *sorted, const Tensor *values, bool right);
bool cuda_histogram(Tensor *counts, const Tensor *x, const Tensor *edges);

/* matmul/matmul.c */
bool cuda_matmul(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias);
bool cuda_matmul_add(Tensor *out, const Tensor *a, const Tensor *b);
bool cuda_mend_triangle(Tensor *out, const Tensor *a, const Tensor *b, bool lower);

/* scaled_matmul/scaled_matmul.c */
bool cuda_scaled_matmul(Tensor *out, const ScaledProduct *product);
bool cuda_scaled_matmul_add(Tensor *out, const ScaledProduct *product);
bool cuda_scales_runs(int index);

/* quantize/quantize.c */
bool cuda_quantize(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer);
bool cuda_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer);
bool cuda_hadamard(Tensor *out, const Tensor *x, const HadamardRule *rule);

/* quantize/activated.c */
bool cuda_quantizes_activated(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer);
bool cuda_quantize_activated(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer,
                             Tensor *history, HistoryRecord record);

/* quantize/ways.c */
bool cuda_quantizes_ways(const Tensor *x, const QuantizeWay *ways, int count);
bool cuda_quantize_ways(Tensor *column_sum, const Tensor *x, const QuantizeWay *ways, int count);

/* quantize/both_ways.c */
bool cuda_quantizes_both_ways(const Tensor *x, const BothWaysRule *rule);
bool cuda_quantize_both_ways(const BothWays *outputs, const Tensor *x, const BothWaysRule *rule);

/* delayed_scale.c */
bool cuda_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, const Quantizer *quantizer,
                        HistoryRecord record);

/* fitted_scale.c */
bool cuda_fitted_scale(Tensor *scale, const Tensor *x, const Quantizer *quantizer, const FitRule *fit);

/* compare.c */
bool cuda_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, const CompareRule *rule);
bool cuda_compares_quantized(const Tensor *x, const Quantizer *quantizer, DType dtype);
bool cuda_compare_quantized(Tensor *row, const Tensor *x, const Quantizer *quantizer, DType dtype,
                            const CompareRule *rule);

/* optim.c */
bool cuda_update(const Update *update);
bool cuda_clip_norm(Tensor *norm, Tensor *const *list, int measured, int scaled, int count, float largest);
bool cuda_store_words(Tensor *out, const uint32_t *words);

#endif
