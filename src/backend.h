/* The table of kernels that a device implements.
 *
 * The operations in src/ops check arguments, work out shapes and dtypes and allocate outputs; a backend only computes.
 * Unless an entry says otherwise: tensors of a call are on one device; tensors may have any strides, 0 included, but
 * outputs never overlap themselves or an input (except that an output may be exactly an input: same address, shape and
 * strides); "contiguous" means row-major without gaps; sizes may be 0. A function returns false after error_set, with
 * nothing half-written that an earlier check could have prevented. GPU work is asynchronous, on one stream a device.
 *
 * Arithmetic on floating-point tensors is float32: inputs are widened, the result is rounded once to the output's
 * dtype. Arithmetic between integer tensors with an integer output is 64-bit. Casts to float types round to nearest
 * even, float8 ones saturate (except in `copy` where asked not to); casts to integer types go towards zero and
 * saturate, NaN gives 0. */
#ifndef FP8_BACKEND_H
#define FP8_BACKEND_H

#include "core/map.h"
#include "core/memory.h"
#include "core/random.h"
#include "core/scale.h"
#include "core/tensor.h"

/* y = f(x). GELU is x · Φ(x), with the error function; GELU_TANH its approximation x · σ(2u) = x/2 · (1 + tanh u) with
 * u = √(2/π) (x + 0.044715 x³); SILU is x · σ(x), with σ the sigmoid. */
typedef enum UnaryOp {
  UNARY_NEG,
  UNARY_ABS,
  UNARY_EXP,
  UNARY_LOG,
  UNARY_SQRT,
  UNARY_RSQRT,
  UNARY_TANH,
  UNARY_SIGMOID,
  UNARY_RELU,
  UNARY_GELU,
  UNARY_GELU_TANH,
  UNARY_SILU,
  UNARY_COUNT
} UnaryOp;

/* Comparisons write 1 or 0 into a u8 output. The derivative forms take (grad of the output, then the operation's
 * input x or output y) and give the grad of the input. MAXIMUM and MINIMUM give NaN if either operand is NaN.
 * Integer division does not occur: DIV and POW have float outputs. */
typedef enum BinaryOp {
  BINARY_ADD,
  BINARY_SUB,
  BINARY_MUL,
  BINARY_DIV,
  BINARY_POW,
  BINARY_MAXIMUM,
  BINARY_MINIMUM,
  BINARY_EQ,
  BINARY_NE,
  BINARY_LT,
  BINARY_LE,
  BINARY_GT,
  BINARY_GE,
  BINARY_TANH_BACKWARD,      /* g, y: g · (1 - y²) */
  BINARY_SIGMOID_BACKWARD,   /* g, y: g · y · (1 - y) */
  BINARY_RELU_BACKWARD,      /* g, x: g where x > 0, else 0 */
  BINARY_GELU_BACKWARD,      /* g, x: g · (Φ(x) + x · φ(x)) */
  BINARY_GELU_TANH_BACKWARD, /* g, x: g · (s + x · s · (1 - s) · 2u'), s = σ(2u) */
  BINARY_SILU_BACKWARD,      /* g, x: g · s · (1 + x · (1 - s)), s = σ(x) */
  BINARY_COUNT
} BinaryOp;

/* SUM accumulates f32 and narrower floats in float32 or better (never in one long float32 chain: relative error well
 * under 1e-5), integers in 64 bits. MEAN divides the sum. MAX and MIN propagate NaN. ARGMAX gives the position (from
 * 0, row-major over the reduced dimensions) of the first largest element, NaN counting as largest, in an i64 output. */
typedef enum ReduceOp { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_ARGMAX, REDUCE_COUNT } ReduceOp;

typedef enum RandomKind {
  RANDOM_UNIFORM, /* [0, 1), in steps of 2^-24 for f32, 2^-11 for f16, 2^-8 for bf16 */
  RANDOM_NORMAL,
  RANDOM_INTEGER /* [low, low + range), from words 2i (the high one) and 2i + 1 of the draw */
} RandomKind;

/* An input that is a tensor, already expanded to the output's shape, or, where `tensor` is NULL, a number. */
typedef struct Operand {
  const Tensor *tensor;
  double number;
} Operand;

/* softmax(scale · x) over the last dimension, or its logarithm (with scale 1 and not causal). Causal: the last two
 * dimensions are (queries, keys), no more queries than keys, and query i sees keys 0 … i + keys - queries; the others
 * are not read, and their results and gradients are exactly 0. */
typedef struct SoftmaxRule {
  float scale;
  bool causal;
  bool logarithm;
} SoftmaxRule;

/* The gradients that a normalization's backward writes; NULL for what is not wanted. */
typedef struct NormalizeGradients {
  Tensor *x;             /* of x's shape and dtype */
  Tensor *weight, *bias; /* (columns), sums over all rows; f32, f16 or bf16 */
  const Tensor *addend;  /* of x's shape and dtype, added to the gradient of x before that is rounded; or NULL */
} NormalizeGradients;

/* How a tensor becomes codes. The tensor's elements in row-major order are cut into blocks of `blocksize`, the last
 * maybe short; or, where tile_rows is not 0, the tensor is cut as a matrix (its last dimension, and all others as one)
 * into tiles, those at the right and lower edge maybe short, in row-major order. Each block or tile has its absmax and
 * from that its scale: scale_of_magnitude in core/scale.h. One with a NaN or an infinity has the scale NaN.
 *
 * With a map: s = x / scale if `divide`, or if 1 / scale overflows to infinity, else x · (1 / scale); s = 0 if scale is
 * 0 or NaN; the code is map_nearest of s, or map_stochastic. Decoding: value[code] · scale.
 *
 * With a hardware format (map NULL): s as above with divide false; the code is s cast to `format`, saturating, to
 * nearest even or float8 stochastic; NaN where the scale is NaN. Decoding: float(code) · scale.
 *
 * Stochastic rounding of element i takes word i % 4 of random_block(random, i / 4). */
typedef struct Quantizer {
  const Map *map;
  DType format;      /* DTYPE_E4M3 or DTYPE_E5M2 where map is NULL; DTYPE_U8 otherwise: the dtype of codes */
  int64_t blocksize; /* at least 1; means nothing for tiles */
  int64_t tile_rows, tile_columns; /* at least 1; 0 for blocks */
  ScaleRounding scale_rounding;
  bool divide;
  bool stochastic;
  RandomSource random;
  const Tensor *known_scale; /* the scales of an earlier quantization of x, f32, to be used again; else NULL */
} Quantizer;

/* What a quantization of x writes; NULL for what is not wanted. x counts as a matrix (rows, columns): its last
 * dimension and all others. */
typedef struct QuantizeOutputs {
  Tensor *codes;      /* of x's shape, dtype Quantizer.format */
  Tensor *transposed; /* the codes again as (columns, rows); hardware formats only */
  Tensor *values;     /* what the codes decode to, rounded to any of f32, f16 and bf16 */
  Tensor *scale;      /* f32, one a block or tile; of a single block, any number of elements, which all get its scale */
  Tensor *column_sum; /* (columns), the sums over rows of x itself, as `reduce` computes them; f32, f16 or bf16 */
} QuantizeOutputs;

/* What became of a tensor x where it was quantized: words of 8 bytes, as which a row of an i64 tensor holds it. An x
 * that is NaN or infinite counts in the first four fields only. Sums are accumulated in double. */
typedef struct Comparison {
  int64_t count, zeros, nonfinite;
  int64_t first_nonfinite; /* the first one's position, row-major from 0; -1 if there is none */
  int64_t underflow;       /* x ≠ 0 within the format's range that became 0 */
  int64_t saturated;       /* x beyond the format's range by more than half of the last step there */
  double sum, square_sum;  /* Σ x, Σ x² */
  double error_square_sum; /* Σ (x - value)²; NaN where a finite x has become NaN, as its whole block does then */
  double absmax;
  double relative_error; /* the largest |x - value| / |x| of any x that has not become 0; NaN as above */
} Comparison;
enum { COMPARISON_WORDS = 11 };

/* The blocks or tiles that scales are for, as in Quantizer, of a matrix of so many columns; and the range of x / scale
 * beyond which it is saturated: from half a step below the format's lowest value to half a step above its largest. */
typedef struct CompareRule {
  int64_t blocksize, tile_rows, tile_columns, columns;
  float low, high;
} CompareRule;

/* How an optimizer changes a parameter p with its gradient g and its moments m and v:
 *
 *   SGD           g += weight_decay · p;  m = beta1 · m + fraction1 · g;  p -= rate · (nesterov ? g + beta1 · m : m);
 *                 without m: p -= rate · g
 *   ADAMW         m = beta1 · m + fraction1 · g;  v = beta2 · v + fraction2 · g²
 *                 p = p · (1 - lr · weight_decay) - rate · m / (sqrt(v) · root_scale + epsilon)
 *   STABLE_ADAMW  the same, with lr and rate divided by max(1, RMS), RMS = sqrt(mean(g² / max(v, epsilon²))) over
 *                 all elements of the parameter, v the new one; a NaN in it makes the whole parameter NaN
 *
 * PyTorch's SGD and AdamW, and StableAdamW of Wortsman et al. (2023, algorithm 2) follow with numbers that
 * src/lua/optimizer.c derives from their settings. */
typedef enum UpdateRule { UPDATE_SGD, UPDATE_ADAMW, UPDATE_STABLE_ADAMW, UPDATE_RULE_COUNT } UpdateRule;

/* The numbers of a step. All are floats, so that a step can also be a tensor of UPDATE_FIELDS elements. */
typedef struct UpdateStep {
  float lr, weight_decay;
  float rate; /* the learning rate, of ADAMW over its first correction */
  float beta1, fraction1, beta2, fraction2;
  float root_scale; /* 1 over the root of the second correction */
  float epsilon;
  float nesterov; /* 1 or 0 */
} UpdateStep;

enum { UPDATE_FIELDS = sizeof(UpdateStep) / sizeof(float), FIELDS_MOST = 16 };

/* A parameter of f32, f16 or bf16, its gradient of the same dtype, and what an optimizer keeps for it in f32; all
 * contiguous and of one shape. NULL: no first moment of SGD without momentum, no second moment of any SGD, no master.
 *
 * The master of a 16-bit parameter is what is updated, and then rounded into the parameter. An element of it that does
 * not round to the parameter's is out of date, because something else has changed the parameter: it is taken from
 * there first. */
typedef struct UpdateEntry {
  Tensor *parameter;
  const Tensor *grad;
  Tensor *first, *second, *master;
} UpdateEntry;

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
} Update;

/* The gradients of attention: of y, which is read, and of q, k and v, which are written. */
typedef struct AttentionGrads {
  const Tensor *dy;
  Tensor *dq, *dk, *dv;
} AttentionGrads;

typedef struct Backend {
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

  /* --- graphs: the work of a device between begin and end is recorded instead of done; an error where there are no
   * graphs --- */
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
  bool (*fill)(Tensor *out, double number);
  /* out[i] = start + i · step for a contiguous out, computed in double and converted (i64 exactly). */
  bool (*arange)(Tensor *out, double start, double step);
  /* out contiguous; f32, f16 or bf16 for UNIFORM and NORMAL, any integer dtype or those for INTEGER. */
  bool (*random)(Tensor *out, RandomKind kind, RandomSource source, int64_t low, uint64_t range);

  /* --- elementwise: inputs have the output's shape --- */
  bool (*unary)(UnaryOp op, Tensor *out, const Tensor *x);
  bool (*binary)(BinaryOp op, Tensor *out, Operand a, Operand b);
  /* out = condition ≠ 0 ? a : b */
  bool (*where)(Tensor *out, const Tensor *condition, Operand a, Operand b);
  /* min(max(x, low), high); NaN stays NaN. */
  bool (*clamp)(Tensor *out, const Tensor *x, double low, double high);

  /* --- reductions --- */
  /* x has rank out->rank + k, its leading dimensions those of out (contiguous), its last k reduced; a reduction over
   * no elements gives 0 for SUM, NaN for MEAN, and is refused before this for the others. */
  bool (*reduce)(ReduceOp op, Tensor *out, const Tensor *x);
  /* Contiguous tensors of rank at least 1, 2 if causal. */
  bool (*softmax)(Tensor *out, const Tensor *x, SoftmaxRule rule);
  /* dx from dy and the output y of softmax; all contiguous; dx may be dy. */
  bool (*softmax_backward)(Tensor *dx, const Tensor *dy, const Tensor *y, SoftmaxRule rule);
  /* Everything contiguous. loss[i] (f32) = log(sum(exp(logits[i]))) - logits[i][target[i]]; logits (n, classes), target
   * (n) i64, i32 or u8; statistics (n, 2) f32: the row's largest logit and the sum of exp(logit - largest). A target
   * out of range: false at once on the CPU; on a GPU a NaN loss, and an error at the next synchronize or to_host. */
  bool (*cross_entropy)(Tensor *loss, Tensor *statistics, const Tensor *logits, const Tensor *target);
  /* dlogits[i] = (softmax(logits[i]) - onehot(target[i])) · dloss[i], from cross_entropy's statistics; dlogits
   * contiguous, dloss (n) f32 of any stride. */
  bool (*cross_entropy_backward)(Tensor *dlogits, const Tensor *logits, const Tensor *target, const Tensor *statistics,
                                 const Tensor *dloss);

  /* --- normalization: contiguous tensors; rows are the last dimension (columns, at least 1) --- */
  /* out = (x - mean) · inverse · weight + bias, with the row's mean and inverse = 1 / √(mean of (x - mean)² +
   * epsilon), which are f32, one a row. `mean` NULL: 0 takes its place (root mean square normalization). weight and
   * bias (columns) may be NULL. x and out of one dtype of f32, f16 and bf16, weight and bias of that or f32. */
  bool (*normalize)(Tensor *out, Tensor *mean, Tensor *inverse, const Tensor *x, const Tensor *weight,
                    const Tensor *bias, float epsilon);
  /* With n = (x - mean) · inverse and g = dy · weight: dx = inverse · (g - mean of g - n · mean of (g · n)), without
   * the mean of g where `mean` is NULL, plus the addend; dweight = Σ dy · n, dbias = Σ dy. */
  bool (*normalize_backward)(const NormalizeGradients *gradients, const Tensor *dy, const Tensor *x, const Tensor *mean,
                             const Tensor *inverse, const Tensor *weight);

  /* out[i] = x[i] · (u[i] >= probability ? 1 / (1 - probability) : 0), u[i] the uniform number of 24 bits from word i
   * of the draw; contiguous, f32, f16 or bf16, out of x's dtype; probability in [0, 1). */
  bool (*dropout)(Tensor *out, const Tensor *x, float probability, RandomSource source);

  /* --- attention: q (batch, heads, queries, features), k and v (batch, heads, keys, features) of one 16-bit dtype, any
   * strides --- */
  /* Whether there is a kernel for these; NULL in a backend that has none. */
  bool (*attends)(const Tensor *q, const Tensor *k, const Tensor *v);
  /* y = softmax(scale · q·kᵀ)·v over the keys; causal: query i sees keys up to i + keys - queries. Probabilities are
   * rounded for their product with v, everything else is float32. log_sums (batch, heads, queries), f32: the logarithms
   * to base 2 of Σ e^(scale · q·k). */
  bool (*attention)(Tensor *y, Tensor *log_sums, const Tensor *q, const Tensor *k, const Tensor *v, float scale,
                    bool causal);
  bool (*attention_backward)(const AttentionGrads *grads, const Tensor *y, const Tensor *log_sums, const Tensor *q,
                             const Tensor *k, const Tensor *v, float scale, bool causal);

  /* --- indexing: index is i64, i32 or u8, counts from 0; out of range is handled as for cross_entropy (GPU: reads
   * give 0, writes are dropped) --- */
  /* out[o][j][i] = x[o][index[j]][i]: x (outer, n, inner), out (outer, m, inner) of
   * x's dtype, index (m), all contiguous. */
  bool (*index_select)(Tensor *out, const Tensor *x, const Tensor *index);
  /* out[o][k][i] = the sum of x[o][j][i] over all j with index[j] = k, in float32 and in the order of j; out f32, f16
   * or bf16, all contiguous. */
  bool (*index_add)(Tensor *out, const Tensor *x, const Tensor *index);
  /* out[o][j][i] = x[o][index[o][j][i]][i]: x (outer, n, inner), out (of x's dtype) and
   * index (outer, m, inner), all contiguous. */
  bool (*gather)(Tensor *out, const Tensor *x, const Tensor *index);
  /* out[o][index[o][j][i]][i] += x[o][j][i]: out f32, all contiguous. */
  bool (*scatter_add)(Tensor *out, const Tensor *x, const Tensor *index);

  /* --- products --- */
  /* out (batch, m, n) = a (batch, m, k) · b (batch, k, n) + bias (n, contiguous, dtype of out) unless bias is NULL.
   * out is contiguous; each of a and b has, in its last two dimensions, stride 1 in one and at least the other's
   * extent in the other (both orders occur); batch strides of a and b may be 0. a and b have one dtype of f32, f16,
   * bf16; out has it too, or f32. k = 0 gives the bias or 0. Accumulates in float32; float32 products use no TF32. */
  bool (*matmul)(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias);
  /* out (m, n) = (a (m, k) · scale_a) · (b (n, k) · scale_b)ᵀ + bias: float8 codes, contiguous, each e4m3 or e5m2;
   * scales f32 contiguous with one element, or one a row (m of scale_a, n of scale_b). The sums of products of codes
   * are accumulated in float32, then scaled, biased and rounded once; a 16-bit out may come from FP8 tensor cores
   * where the device has them, which accumulate with about 14 bits: over all of k if `fast`, else over 128 terms, whose
   * sums are added in float32. out f32, f16 or bf16, bias of its dtype or NULL. */
  bool (*scaled_matmul)(Tensor *out, const Tensor *a, const Tensor *scale_a, const Tensor *b, const Tensor *scale_b,
                        const Tensor *bias, bool fast);

  /* --- quantization; everything contiguous, x and values f32, f16 or bf16 --- */
  /* Whatever `outputs` asks for of x, which is read from memory once if its blocks are at most 4096 long, their scales
   * are known, or they are rows; a whole-tensor absmax adds one more read. */
  bool (*quantize)(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer);
  bool (*dequantize)(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer);
  /* Delayed scaling: scale (one f32) for the whole of x, contiguous, of the format and scale_rounding of `quantizer`,
   * from the largest element of `history` (f32, contiguous), or from x's own absmax where that is 0. NaN if x has a NaN
   * or an infinity. With `record`, then, unless the scale is NaN: history moves by one element towards its end, and its
   * first becomes x's absmax. */
  bool (*delayed_scale)(Tensor *scale, const Tensor *x, Tensor *history, const Quantizer *quantizer, bool record);

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
  /* norm (one f32 element) = the root of the sum of squares over a list of contiguous f32, f16 and bf16 tensors, which
   * are then scaled by min(1, largest / (norm + 1e-6)), NaN if the norm is; squares add up in float32 or better, never
   * in one long chain. */
  bool (*clip_norm)(Tensor *norm, Tensor *const *list, int count, float largest);
  /* Writes up to FIELDS_MOST numbers to a contiguous f32 tensor of as many elements, without waiting. */
  bool (*store_fields)(Tensor *out, const float *fields);
} Backend;

/* Called once when the CPU backend is first needed; registers its allocator. */
const Backend *cpu_backend_open(void);

/* Exported by fp8/cuda.so: registers its allocator; NULL with an error if there is no usable driver or GPU. */
#define CUDA_BACKEND_OPEN "fp8_cuda_backend_open"
typedef const Backend *(*BackendOpen)(void);

#endif
