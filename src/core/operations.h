/* The operations that every backend has: their names, rules and properties. backend.h has the table of what computes
 * them. */
#ifndef FP8_CORE_OPERATIONS_H
#define FP8_CORE_OPERATIONS_H

#include "core/number.h"
#include "core/random.h"
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
  UNARY_SIN,
  UNARY_RELU,
  UNARY_GELU,
  UNARY_GELU_TANH,
  UNARY_SILU
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
  BINARY_SIN_BACKWARD,       /* g, x: g · cos(x) */
  BINARY_RELU_BACKWARD,      /* g, x: g where x > 0, else 0 */
  BINARY_GELU_BACKWARD,      /* g, x: g · (Φ(x) + x · φ(x)) */
  BINARY_GELU_TANH_BACKWARD, /* g, x: g · (s + x · s · (1 - s) · 2u'), s = σ(2u) */
  BINARY_SILU_BACKWARD       /* g, x: g · s · (1 + x · (1 - s)), s = σ(x) */
} BinaryOp;

/* SUM accumulates f32 and narrower floats in float32 or better (never in one long float32 chain: relative error well
 * under 1e-5), integers in 64 bits, where they wrap around. MEAN divides the sum, which for integers is exact. MAX and MIN propagate NaN. ARGMAX gives the position (from
 * 0, row-major over the reduced dimensions) of the first largest element, NaN counting as largest, in an i64 output. */
typedef enum ReduceOp { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_ARGMAX } ReduceOp;

typedef enum RandomKind {
  RANDOM_UNIFORM, /* [0, 1), in steps of 2^-24 for f32, 2^-11 for f16, 2^-8 for bf16 */
  RANDOM_NORMAL,
  RANDOM_INTEGER /* [low, high), from words 2i (the high one) and 2i + 1 of the draw */
} RandomKind;

typedef struct RandomDraw {
  RandomKind kind;
  RandomSource source;
  int64_t low, high;
} RandomDraw;

/* An input that is a tensor, already expanded to the output's shape, or, where `tensor` is NULL, a number. Beside a float
 * tensor a number has been rounded once to the tensor's dtype: 0.1 is equal to what 0.1 has become in a bf16 tensor.
 * Arithmetic of integers takes it as a 64-bit integer. */
typedef struct Operand {
  const Tensor *tensor;
  Number number;
} Operand;

/* softmax(scale · x) over the last dimension, or its logarithm (with scale 1 and not causal). Causal: the last two
 * dimensions are (queries, keys), no more queries than keys, and query i sees keys 0 … i + keys - queries; the others
 * are not read, and their results and gradients are exactly 0. */
typedef struct SoftmaxRule {
  float scale;
  bool causal;
  bool logarithm;
} SoftmaxRule;

/* --- cross-entropy of a row of logits x with a label, as PyTorch's cross_entropy has it ---
 *
 * With the weights w of the classes and q[c] = w[c] · ((1 - smoothing) · (c = label) + smoothing / classes) the loss is
 * -Σ q[c] · log softmax(x)[c], its gradient Σ q · softmax(x)[c] - q[c]. Where only the label counts that is
 * log Σ exp(x) - x[label], and softmax(x)[c] - (c = label). */
typedef struct CrossEntropy {
  const Tensor *logits;   /* (n, classes), any float dtype */
  const Tensor *target;   /* (n) i64, i32 or u8: labels from 0 */
  const Tensor *weight;   /* (classes) f32: the classes', or NULL for ones */
  float smoothing;        /* from 0 to 1 */
  const int64_t *ignored; /* the label of rows that don't count, or NULL for none */
} CrossEntropy;

/* q[c] = own · (c = label) + share · w[c] */
typedef struct SoftTarget {
  float own, share;
} SoftTarget;

PORTABLE SoftTarget soft_target(float weight_of_label, float smoothing, int64_t classes) {
  SoftTarget result;
  result.own = (1.0f - smoothing) * weight_of_label;
  result.share = smoothing / (float)classes;
  return result;
}

/* Σ q */
PORTABLE float soft_target_sum(SoftTarget target, float sum_of_weights) {
  return target.share == 0.0f ? target.own : target.own + target.share * sum_of_weights;
}

/* What the differences of logits are taken from, before they are added up: few of them are large then. */
PORTABLE float logit_pivot(float logit_of_label) { return isfinite(logit_of_label) ? logit_of_label : 0.0f; }

/* What the loss needs to know of a row. */
typedef struct LogitSums {
  float largest, exponentials; /* Σ exp(x - largest) */
  float differences;           /* Σ share · w[c] · (x[c] - pivot), 0 where the share is */
} LogitSums;

PORTABLE float cross_entropy_loss(LogitSums sums, SoftTarget target, float sum_of_target, float logit_of_label) {
  const float pivot = logit_pivot(logit_of_label);
  float loss = sum_of_target * (logf(sums.exponentials) + (sums.largest - pivot));
  if (logit_of_label != pivot) loss -= target.own * (logit_of_label - pivot);
  return loss - sums.differences;
}

/* Normalization of rows, the last dimension. weight and bias (columns) may be NULL. */
typedef struct Normalization {
  const Tensor *x, *weight, *bias;
  double epsilon;
} Normalization;

/* What its backward is computed from: the gradient of the result, and what the forward pass took and gave. `mean` is NULL
 * for root mean square normalization; weight may be NULL. */
typedef struct NormalizeBackward {
  const Tensor *dy, *x, *mean, *inverse, *weight;
  const Tensor *addend; /* of x's shape and dtype, added to the gradient of x before that is rounded; or NULL */
} NormalizeBackward;

/* The gradients that it writes; NULL for what is not wanted. */
typedef struct NormalizeGradients {
  Tensor *x;             /* of x's shape and dtype */
  Tensor *weight, *bias; /* (columns), sums over all rows; f32, f16 or bf16 */
} NormalizeGradients;

/* softmax(scale · q·kᵀ)·v over the keys; causal: query i sees keys up to i + keys - queries. */
typedef struct Attention {
  const Tensor *q, *k, *v;
  float scale;
  bool causal;
} Attention;

/* What its backward is computed from: the forward pass, what that gave, and the gradient of y. */
typedef struct AttentionBackward {
  Attention forward;
  const Tensor *y, *log_sums, *dy;
} AttentionBackward;

/* The gradients that it writes. */
typedef struct AttentionGradients {
  Tensor *q, *k, *v;
} AttentionGradients;

/* (a (m, k) · scale_a) · (b (n, k) · scale_b)ᵀ + bias of float8 codes; bias may be NULL. */
typedef struct ScaledProduct {
  const Tensor *a, *scale_a, *b, *scale_b, *bias;
  bool fast; /* FP8 tensor cores may accumulate over all of k, not over 128 terms at a time */
} ScaledProduct;

/* What delayed scaling does with its history (f32, the latest first) once it has read it; nothing if the scale is NaN. */
typedef enum HistoryRecord {
  HISTORY_KEEP,
  HISTORY_NEXT, /* moves by one element towards its end; its first becomes the tensor's absmax */
  HISTORY_SAME  /* the first becomes the larger of itself and the absmax: the latest step goes on */
} HistoryRecord;

/* --- what is true of operations --- */

/* Whether integers stay integers: the others give f32 for them. */
PORTABLE bool unary_keeps_integers(UnaryOp op) { return op == UNARY_NEG || op == UNARY_ABS || op == UNARY_RELU; }

typedef enum BinaryClass {
  BINARY_CLASS_ARITHMETIC, /* integers give integers */
  BINARY_CLASS_FRACTION,   /* integers give f32 */
  BINARY_CLASS_COMPARISON, /* the result is u8 */
  BINARY_CLASS_DERIVATIVE  /* floats only */
} BinaryClass;

PORTABLE BinaryClass binary_class(BinaryOp op) {
  switch (op) {
  case BINARY_ADD:
  case BINARY_SUB:
  case BINARY_MUL:
  case BINARY_MAXIMUM:
  case BINARY_MINIMUM:
    return BINARY_CLASS_ARITHMETIC;
  case BINARY_DIV:
  case BINARY_POW:
    return BINARY_CLASS_FRACTION;
  case BINARY_EQ:
  case BINARY_NE:
  case BINARY_LT:
  case BINARY_LE:
  case BINARY_GT:
  case BINARY_GE:
    return BINARY_CLASS_COMPARISON;
  case BINARY_TANH_BACKWARD:
  case BINARY_SIGMOID_BACKWARD:
  case BINARY_SIN_BACKWARD:
  case BINARY_RELU_BACKWARD:
  case BINARY_GELU_BACKWARD:
  case BINARY_GELU_TANH_BACKWARD:
  case BINARY_SILU_BACKWARD:
    return BINARY_CLASS_DERIVATIVE;
  }
  trap_missing_case();
}

/* Whether 64-bit integers are what the operation computes in, where all operands are integers. */
PORTABLE bool binary_keeps_integers(BinaryOp op) {
  return binary_class(op) == BINARY_CLASS_ARITHMETIC || binary_class(op) == BINARY_CLASS_COMPARISON;
}

/* Bits of a uniform number that the dtype holds exactly over all of [0, 1). */
PORTABLE int uniform_bits(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
    return 24;
  case DTYPE_F16:
    return 11;
  case DTYPE_BF16:
    return 8;
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  trap_missing_case();
}

/* Whether the operand is computed with as 64-bit integers beside others: an integer tensor, or a whole number, which
 * saturates there. */
static inline bool operand_is_integer(Operand operand) {
  return operand.tensor ? dtype_is_integer(operand.tensor->dtype) : operand.number.value == floor(operand.number.value);
}

#endif
