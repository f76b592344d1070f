/* The table of kernels that a device implements.
 *
 * The operations in src/ops check arguments, work out shapes and dtypes and allocate outputs; a backend only computes.
 * Unless an entry says otherwise: tensors of a call are on one device; tensors may have any strides, 0 included, but
 * outputs never overlap themselves or an input (except that an output may be exactly an input: same address, shape and
 * strides); "contiguous" means row-major without gaps; sizes may be 0. A function returns false after error_set, with
 * nothing half-written that an earlier check could have prevented. GPU work is asynchronous, in the order of the calls
 * of one context (core/context.h), which is also where a backend keeps its state: the table itself has none, and serves
 * several threads at once.
 *
 * Arithmetic on floating-point tensors is float32: inputs are widened, the result is rounded once to the output's
 * dtype. Arithmetic between integer tensors with an integer output is 64-bit. Casts to float types round to nearest
 * even, float8 ones saturate (except in `copy` where asked not to); casts to integer types go towards zero and
 * saturate, NaN gives 0.
 *
 * Where the context is deterministic, results are the same bits in every run and whatever the number of threads. */
#ifndef FP8_BACKEND_H
#define FP8_BACKEND_H

#include "core/convolution.h"
#include "core/formats/both_ways.h"
#include "core/formats/fit.h"
#include "core/formats/hadamard.h"
#include "core/memory.h"
#include "core/operations.h"
#include "core/optim.h"
#include "core/order/scan.h"

/* Counts up with every change of the table, or of what its entries take: a backend in a library of its own that was
 * built with another one is refused. */
enum { BACKEND_VERSION = 17 };

typedef struct Backend {
  uint32_t version; /* BACKEND_VERSION */
  uint32_t size;    /* of this struct */
  DeviceKind *kind; /* is set to the kind that its devices have, before anything of the backend is called */
  const Allocator *allocator;
  /* Number of devices of this kind; 0 if there are none. */
  int (*device_count)(void);
  /* Waits for all work on a device and reports what failed in it, an index out of range included. */
  bool (*synchronize)(int index);

  /* --- time: an event marks the point that the device's work has reached when it is recorded --- */
  /* Makes an event in *event if that is NULL, and records it. */
  bool (*event_record)(int index, void **event);
  /* Milliseconds from one recorded event to another; waits for both. */
  bool (*event_elapsed)(int index, void *start, void *end, double *milliseconds);
  void (*event_release)(int index, void *event);

  /* --- graphs: the work of a device between begin and end is recorded instead of done; all NULL in a backend that has
   * none --- */
  /* Whether the work from now on is a rehearsal of what will be captured next: choices that are made once, such as the
   * fastest algorithm for a product, are made at once then. */
  bool (*capture_prepare)(int index, bool preparing);
  /* While capturing, whatever waits for the device is an error, and so is random number generation. */
  bool (*capture_begin)(int index);
  /* Ends the capture and makes *graph, NULL if that fails; only ends it if `graph` is NULL. */
  bool (*capture_end)(int index, void **graph);
  /* Does the recorded work again, on the same memory. */
  bool (*graph_launch)(int index, void *graph);
  void (*graph_release)(int index, void *graph);

  /* --- memory: `device_data` is an address on device `index`; these wait until the bytes are there --- */
  bool (*from_host)(int index, void *device_data, const void *host, size_t bytes);
  bool (*to_host)(int index, void *host, const void *device_data, size_t bytes);

  /* out = src converted, same shape. `saturate` matters for float8 outputs only. */
  bool (*copy)(Tensor *out, const Tensor *src, bool saturate);
  /* parts[i] = sources[i] for `count` of them, at least one, all of one dtype and on one device; no two parts overlap. NULL in a
   * backend where that is no faster than one after the other. */
  bool (*copy_parts)(Tensor *parts, const Tensor *sources, int count);
  bool (*fill)(Tensor *out, Number number);
  /* out[i] = start + i · step for a contiguous out, computed in double and converted (i64 exactly). */
  bool (*arange)(Tensor *out, Number start, Number step);
  /* out contiguous; f32, f16 or bf16 for UNIFORM and NORMAL, any integer dtype or those for INTEGER. */
  bool (*random)(Tensor *out, const RandomDraw *draw);

  /* --- elementwise: inputs have the output's shape --- */
  bool (*unary)(UnaryOp op, Tensor *out, const Tensor *x);
  bool (*binary)(BinaryOp op, Tensor *out, Operand a, Operand b);
  /* out = condition ≠ 0 ? a : b */
  bool (*where)(Tensor *out, const Tensor *condition, Operand a, Operand b);
  /* min(max(x, low), high); NaN stays NaN. */
  bool (*clamp)(Tensor *out, const Tensor *x, Number low, Number high);
  /* x = x · factor, one f32 element; nothing of x is read or written where that is 1. x contiguous, f32, f16 or bf16. */
  bool (*scale)(Tensor *x, const Tensor *factor);

  /* --- reductions --- */
  /* x has rank out->rank + k, its leading dimensions those of out (contiguous), its last k reduced; a reduction over
   * no elements gives 0 for SUM and NORM, 1 for PROD, NaN for MEAN, VAR and STD, and is refused before this for the others.
   * VAR and STD divide by the number of elements less `correction`, which is 0 for the others. */
  bool (*reduce)(ReduceOp op, double correction, Tensor *out, const Tensor *x);
  /* Contiguous tensors of rank at least 1, 2 if causal. */
  bool (*softmax)(Tensor *out, const Tensor *x, SoftmaxRule rule);
  /* The softmax, or its logarithm, over the second of three dimensions, of f32, f16 or bf16, contiguous; NULL in a backend
   * that has none. */
  bool (*softmax_columns)(Tensor *out, const Tensor *x, bool logarithm);
  /* dx from dy and the output y of softmax; all contiguous; dx may be dy. */
  bool (*softmax_backward)(Tensor *dx, const Tensor *dy, const Tensor *y, SoftmaxRule rule);
  /* Everything contiguous; loss and dloss (n), f32, dloss of any stride. loss as core/operations.h says, 0 for an
   * ignored row; statistics (n, 2) f32: the row's largest logit, and the sum of exp(logit - largest) over Σ q. A target out
   * of range: false at once on the CPU; on a GPU a NaN loss, and an error at the next synchronize or to_host. */
  bool (*cross_entropy)(Tensor *loss, Tensor *statistics, const CrossEntropy *rows);
  /* dlogits = (Σ q · softmax(logits) - q) · dloss, 0 in an ignored row, from cross_entropy's statistics. */
  bool (*cross_entropy_backward)(Tensor *dlogits, const CrossEntropy *rows, const Tensor *statistics,
                                 const Tensor *dloss);
  /* Both at once, which reads the logits once where the device can hold a row: dlogits, of the logits' dtype, may be the
   * logits. */
  bool (*cross_entropy_gradient)(Tensor *loss, Tensor *dlogits, const CrossEntropy *rows, const Tensor *dloss);

  /* --- normalization: contiguous tensors; rows are the last dimension (columns, at least 1) --- */
  /* out = (x - mean) · inverse · weight + bias, with the row's mean and inverse = 1 / √(mean of (x - mean)² +
   * epsilon), both f32: a pair a row (core/normalize.h), and one a row. `mean` NULL: 0 takes its place (root mean square
   * normalization). x and out of one dtype of f32, f16 and bf16, weight and bias of that or f32. Squares neither
   * overflow nor vanish. */
  bool (*normalize)(Tensor *out, Tensor *mean, Tensor *inverse, const Normalization *normalization);
  /* With n = (x - mean) · inverse and g = dy · weight: dx = inverse · (g - mean of g - n · mean of (g · n)), without
   * the mean of g where `mean` is NULL, plus the addend; dweight = Σ dy · n, dbias = Σ dy. */
  bool (*normalize_backward)(const NormalizeGradients *gradients, const NormalizeBackward *backward);
  /* The same of channels: x and out (images, channels, elements), contiguous; mean (channels, 2), inverse and variance, which
   * is the biased one, (channels), f32, over a channel's elements in all images. There is no addend, and always a mean. */
  bool (*normalize_channels)(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *variance,
                             const Normalization *normalization);
  bool (*normalize_channels_backward)(const NormalizeGradients *gradients, const NormalizeBackward *backward);

  /* out[i] = x[i] · (u[i] >= probability ? 1 / (1 - probability) : 0), u[i] the uniform number of 24 bits from word i
   * of the draw; contiguous, f32, f16 or bf16, out of x's dtype; probability in [0, 1). */
  bool (*dropout)(Tensor *out, const Tensor *x, float probability, RandomSource source);

  /* --- attention: q (batch, heads, queries, features), k and v (batch, key heads, keys, features) of one dtype of f32,
   * f16, bf16, any strides; heads a multiple of key heads --- */
  /* Whether there is a kernel for these; NULL in a backend that has none. */
  bool (*attends)(const Tensor *q, const Tensor *k, const Tensor *v);
  /* Probabilities may be rounded to the dtype for their product with v, everything else is float32. log_sums (batch,
   * heads, queries), f32: the logarithms to base 2 of Σ e^(scale · q·k). */
  bool (*attention)(Tensor *y, Tensor *log_sums, const Attention *attention);
  /* The gradients of k and v have a part for each head of q: (batch, heads, keys, features). */
  bool (*attention_backward)(const AttentionGradients *gradients, const AttentionBackward *backward);
  /* out and x (outer, positions, inner, features), of one dtype of f32, f16, bf16, contiguous; core/operations.h. */
  bool (*rotate)(Tensor *out, const Tensor *x, const Rotation *rotation);

  /* --- recurrent layers: core/operations.h; all contiguous, of one dtype of f32, f16 and bf16 --- */
  /* Of an LSTM where `hidden` is not NULL; `state` is what becomes of the step's. */
  bool (*recurrent_step)(Tensor *hidden, Tensor *state, Tensor *saved, const RecurrentStep *step);
  /* The gradients of both parts of the gates, which are one of an LSTM (from_hidden NULL), and of the state before, of a
   * GRU without what comes by way of the gates. */
  bool (*recurrent_step_backward)(Tensor *from_input, Tensor *from_hidden, Tensor *state,
                                  const RecurrentBackward *backward);

  /* --- indexing: index is i64, i32 or u8, counts from 0; out of range is handled as for cross_entropy (GPU: reads
   * give 0, writes are dropped) --- */
  /* out[o][j][i] = x[o][index[j]][i]: x (outer, n, inner), out (outer, m, inner) of
   * x's dtype, index (m), all contiguous. */
  bool (*index_select)(Tensor *out, const Tensor *x, const Tensor *index);
  /* out[o][k][i] = the sum of x[o][j][i] over all j with index[j] = k, in float32 and in the order of j, after what out
   * has if `adds`; out f32, f16 or bf16, all contiguous. */
  bool (*index_add)(Tensor *out, const Tensor *x, const Tensor *index, bool adds);
  /* out[o][j][i] = x[o][index[o][j][i]][i]: x (outer, n, inner), out (of x's dtype) and
   * index (outer, m, inner), all contiguous. */
  bool (*gather)(Tensor *out, const Tensor *x, const Tensor *index);
  /* x[o][k][i] = RULE(x[o][k][i], source[o][j][i]) with k = index[o][j][i], for all j, in place: x (outer, n, inner);
   * index (outer, m, inner), or (m), which counts for all o and i; source (outer, m, inner), or of no dimensions, which
   * counts for all; all contiguous. Of x's dtype, any for SET, f32, i32 or i64 for the others. Where an index comes
   * several times, SET keeps the last where the context is deterministic, and on the CPU; the others take the values in
   * their order there. */
  bool (*scatter)(Tensor *x, const Tensor *index, const Tensor *source, ScatterRule rule);
  /* Whether scatter takes f16 and bf16, too, for SUM with a source of x's dtype: sums in float32, rounded once. x (outer, n,
   * inner) and index (outer, m, inner); NULL in a backend where it never does. */
  bool (*sums_rows)(const Tensor *x, const Tensor *index);

  /* --- order --- */
  /* out[o][j][i] = the sum or product of x[o][0 … j][i], or of x[o][j … n - 1][i] in reverse: core/order/scan.h. Contiguous
   * (outer, n, inner); out of x's dtype, or i64 for integers; may be x. */
  bool (*scan)(Tensor *out, const Tensor *x, ScanRule rule);
  /* The first k in order of each row of x (rows, n), n below 2^31, k at most n: values (rows, k) of x's dtype and their
   * positions (rows, k), i64; values may be NULL. All contiguous. Ascending or descending, NaN as the largest; equal ones
   * in the order of their positions. */
  bool (*sort)(Tensor *values, Tensor *positions, const Tensor *x, bool descending);
  /* --- windows over x (images, channels, height, width), contiguous (core/window.h) --- */
  /* out (images, channels, kernel_y, kernel_x, output_y, output_x) of x's dtype: the element of x that each element of
   * the kernel meets in each window; 0 in the padding. Either the patches of an image lie side by side, which are the
   * last two dimensions, or the elements of a patch, the three before these. */
  bool (*unfold)(Tensor *out, const Tensor *x, const Window *window);
  /* out like x: the sum of the patches' elements that unfold makes of each of x's, in float32 and in the order of the
   * kernel's elements. The patches of an image lie side by side; both f32, f16 or bf16. */
  bool (*fold)(Tensor *out, const Tensor *patches, const Window *window);
  /* out (images, channels, output_y, output_x), contiguous: x and out f32, f16 or bf16. Of the largest elements index,
   * i64 like out, gets the positions in height · width, the first of equal ones, the last NaN; it may be NULL. Means are
   * summed in double; that of no positions is NaN, and the largest of none minus infinity at 0. */
  bool (*pool)(Tensor *out, Tensor *index, const Tensor *x, const PoolRule *rule);
  /* dx from dy of the result and, of the largest elements, pool's index; sums in float32, in the order of the windows. */
  bool (*pool_backward)(Tensor *dx, const Tensor *dy, const Tensor *index, const PoolRule *rule);
  /* The result of a convolution from the other two tensors, without patches, where *done is true then; else it has to be
   * computed with them, as in a backend where this is NULL. Contiguous, none of the sizes 0; x and y have one dtype, f32,
   * f16 or bf16, and so has the weight, or f32 where it is the result. Sums in float32, in one order, of 16 bits exact
   * where they can be; float32 products use no TF32, but may be transformed (Winograd, FFT). */
  bool (*convolve)(const ConvolutionTensors *tensors, bool *done);
  /* count (one i64) = how many of the flags (u8, contiguous) are not 0. */
  bool (*count_flags)(Tensor *count, const Tensor *flags);
  /* out (count, rank of flags), i64 = the coordinates, from 0, of the flags that are not 0, in row-major order. Both
   * contiguous. */
  bool (*nonzero)(Tensor *out, const Tensor *flags);
  /* out[r][i] = how many elements of sorted[r] come before values[r][i]: core/order/search.h. sorted (rows, n) f32, or i64
   * where values are integers; values (rows, m) of any dtype, out (rows, m) i64; all
   * contiguous. */
  bool (*searchsorted)(Tensor *out, const Tensor *sorted, const Tensor *values, bool right);
  /* counts (bins), i64 = how many elements of x, of any dtype, are in each bin between edges (bins + 1, f32, ascending):
   * core/order/search.h; or, where `edges` is NULL, how many elements of an integer x have the bin's number. All
   * contiguous. */
  bool (*histogram)(Tensor *counts, const Tensor *x, const Tensor *edges);

  /* --- products --- */
  /* out (batch, m, n) = a (batch, m, k) · b (batch, k, n) + bias (n, contiguous, dtype of out) unless bias is NULL.
   * out is contiguous; each of a and b has, in its last two dimensions, stride 1 in one and at least the other's
   * extent in the other (both orders occur); batch strides of a and b may be 0. a and b have one dtype of f32, f16,
   * bf16; out has it too, or f32. k = 0 gives the bias or 0. Accumulates in float32; float32 products use no TF32. */
  bool (*matmul)(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias);
  /* out = out + a · b, for an f32 out; the rest as for matmul. */
  bool (*matmul_add)(Tensor *out, const Tensor *a, const Tensor *b);
  /* After matmul, without a bias, where a is a triangle: 0 in columns beyond i + k - m of row i if `lower`, else before
   * them. Such a 0 times what is not finite in b must not count: columns of out are computed again, from the triangle
   * alone, where those of b are not finite. Tensors are those of matmul, all of three dimensions. */
  bool (*mend_triangle)(Tensor *out, const Tensor *a, const Tensor *b, bool lower);
  /* out (m, n), of codes that are contiguous, each e4m3 or e5m2; scales f32, those that are no matrices contiguous. The
   * sums of products of codes are accumulated in float32, then scaled, biased and rounded once; where there is a scale for
   * every 128 terms, the sums of these are scaled before they are added. A 16-bit out may come from FP8 tensor cores where
   * the device has them, which accumulate with about 14 bits: over all of k if `fast` and no scales stand in the way, else
   * over 128 terms, whose sums are added in float32. out f32, f16 or bf16, bias of its dtype or NULL. */
  bool (*scaled_matmul)(Tensor *out, const ScaledProduct *product);
  /* out = out + what scaled_matmul gives, for a contiguous f32 out that is to become a 16-bit one, without a bias: FP8
   * tensor cores will do. NULL in a backend that adds in a step of its own. */
  bool (*scaled_matmul_add)(Tensor *out, const ScaledProduct *product);
  /* Whether the device `index` has an algorithm of its own where there is a scale for every 128 terms; NULL in a backend
   * that has none. */
  bool (*scales_runs)(int index);

  /* --- quantization; everything contiguous, x and values f32, f16 or bf16 --- */
  /* Whatever `outputs` asks for of x, which is read from memory once if its blocks are at most 4096 long, their scales
   * are known, or they are rows; a whole-tensor absmax adds one more read. */
  bool (*quantize)(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer);
  /* Whether quantize_activated takes these; NULL in a backend that has none. */
  bool (*quantizes_activated)(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer);
  /* What quantize makes of an activation function or its gradient, rounded to x's dtype, which is not written. With a
   * history the scale is that of delayed_scale, and so is what becomes of the history; codes mean nothing where it is NaN. */
  bool (*quantize_activated)(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer,
                             Tensor *history, HistoryRecord record);
  /* Whether quantize_cross_entropy takes these; NULL in a backend that has none. */
  bool (*quantizes_cross_entropy)(const QuantizeOutputs *outputs, const CrossEntropy *rows, const Quantizer *quantizer);
  /* The loss, and what quantize makes of the gradient that cross_entropy_gradient gives, which is not written; a history
   * is as for quantize_activated. */
  bool (*quantize_cross_entropy)(Tensor *loss, const QuantizeOutputs *outputs, const CrossEntropy *rows,
                                 const Tensor *dloss, const Quantizer *quantizer, Tensor *history,
                                 HistoryRecord record);
  bool (*dequantize)(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer);
  /* Whether quantize_both_ways takes these; NULL in a backend that has none. */
  bool (*quantizes_both_ways)(const Tensor *x, const BothWaysRule *rule);
  /* Codes of x, along rows and along columns, as `quantize` makes both. */
  bool (*quantize_both_ways)(const BothWays *outputs, const Tensor *x, const BothWaysRule *rule);
  /* Whether quantize_ways takes these, 1 or 2; NULL in a backend that has none. */
  bool (*quantizes_ways)(const Tensor *x, const QuantizeWay *ways, int count);
  /* All of them, and the sums of x's columns, or NULL, as `quantize` makes them. */
  bool (*quantize_ways)(Tensor *column_sum, const Tensor *x, const QuantizeWay *ways, int count);
  /* core/formats/hadamard.h; out of x's dtype, both contiguous. */
  bool (*hadamard)(Tensor *out, const Tensor *x, const HadamardRule *rule);
  /* Delayed scaling: scale (one f32) for the whole of x, contiguous, by the rule of `quantizer`,
   * from the largest element of `history` (f32, contiguous), or from x's own absmax where that is 0. NaN if x has a NaN
   * or an infinity. Then `record` says what becomes of history. */
  bool (*delayed_scale)(Tensor *scale, const Tensor *x, Tensor *history, const Quantizer *quantizer,
                        HistoryRecord record);
  /* scale (f32, one a block) of x, contiguous, as `fit` says (core/formats/fit.h), with the blocks, the format and the rule
   * of `quantizer`. */
  bool (*fitted_scale)(Tensor *scale, const Tensor *x, const Quantizer *quantizer, const FitRule *fit);

  /* row (i64, COMPARISON_WORDS) = what became of x. `values` of x's shape: what it became, f32, f16 or bf16, or its
   * float8 codes; NULL counts as x itself. `scale`, one a block: for codes, and to tell what saturated, which is
   * nothing if it is NULL. Everything contiguous. */
  bool (*compare)(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, const CompareRule *rule);
  /* Whether compare_quantized takes these; NULL in a backend that has none. */
  bool (*compares_quantized)(const Tensor *x, const Quantizer *quantizer, DType dtype);
  /* What `compare` says of the values of `dtype` that `quantize` makes of x, and its scales, without writing these:
   * relative_error to within two units in the last place of float32, sums to within one part in a million of Σ |x|, Σ x²
   * and Σ (x - value)². Reads x once, and once more for a whole-tensor absmax. */
  bool (*compare_quantized)(Tensor *row, const Tensor *x, const Quantizer *quantizer, DType dtype,
                            const CompareRule *rule);

  /* --- optimizer steps --- */
  /* Arithmetic in float32, a parameter rounded once. No two tensors of an update share memory. */
  bool (*update)(const Update *update);
  /* norm (one f32 element) = the root of the sum of squares over the first `measured` of a list of contiguous f32, f16 and
   * bf16 tensors; those from number `scaled` on are then scaled by min(1, largest / (norm + 1e-6)), NaN if the norm is.
   * Squares add up in float32 or better, never in one long chain. */
  bool (*clip_norm)(Tensor *norm, Tensor *const *list, int measured, int scaled, int count, float largest);
  /* Writes up to FIELDS_MOST words of 32 bits to a contiguous f32 tensor of as many elements, without waiting. */
  bool (*store_words)(Tensor *out, const uint32_t *words);
} Backend;

/* What a backend's library exports: its table, or NULL with an error if there is no usable driver or device. */
#define BACKEND_OPEN "fp8_backend_open"
typedef const Backend *(*BackendOpen)(void);

/* The CPU's, which is part of this library. */
const Backend *cpu_backend_open(void);

#endif
