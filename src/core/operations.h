/* The operations that every backend has: their names, rules and properties. backend.h has the table of what computes
 * them. */
#ifndef FP8_CORE_OPERATIONS_H
#define FP8_CORE_OPERATIONS_H

#include "core/number.h"
#include "core/random.h"
#include "core/tensor.h"
#include "core/window.h"

/* Elementwise operations, each in one line: OPERATION(EXP, exp) has the value UNARY_EXP, and Lua calls it core.exp. What
 * it computes is a line in src/cpu/elementwise and one in kernels/elementwise. The lists say what integers become. */

/* y = f(x): integers stay integers. ROUND takes halves to the even neighbour; SIGN gives -1, 0 or 1, 0 of NaN. */
#define UNARY_OF_INTEGERS(OPERATION)                                                                                   \
  OPERATION(NEG, neg)                                                                                                  \
  OPERATION(ABS, abs)                                                                                                  \
  OPERATION(RELU, relu)                                                                                                \
  OPERATION(SIGN, sign)                                                                                                \
  OPERATION(FLOOR, floor)                                                                                              \
  OPERATION(CEIL, ceil)                                                                                                \
  OPERATION(ROUND, round)                                                                                              \
  OPERATION(TRUNC, trunc)

/* Integers give f32. GELU is x · Φ(x), with the error function; GELU_TANH its approximation x · σ(2u) = x/2 ·
 * (1 + tanh u) with u = √(2/π) (x + 0.044715 x³); SILU is x · σ(x), with σ the sigmoid. */
#define UNARY_OF_FLOATS(OPERATION)                                                                                     \
  OPERATION(EXP, exp)                                                                                                  \
  OPERATION(EXPM1, expm1)                                                                                              \
  OPERATION(LOG, log)                                                                                                  \
  OPERATION(LOG2, log2)                                                                                                \
  OPERATION(LOG10, log10)                                                                                              \
  OPERATION(LOG1P, log1p)                                                                                              \
  OPERATION(SQRT, sqrt)                                                                                                \
  OPERATION(RSQRT, rsqrt)                                                                                              \
  OPERATION(SIN, sin)                                                                                                  \
  OPERATION(COS, cos)                                                                                                  \
  OPERATION(TAN, tan)                                                                                                  \
  OPERATION(TANH, tanh)                                                                                                \
  OPERATION(ERF, erf)                                                                                                  \
  OPERATION(SIGMOID, sigmoid)                                                                                          \
  OPERATION(GELU, gelu)                                                                                                \
  OPERATION(GELU_TANH, gelu_tanh)                                                                                      \
  OPERATION(SILU, silu)

/* Of all dtypes, 1 or 0 as u8. */
#define UNARY_CHECKS(OPERATION)                                                                                        \
  OPERATION(ISNAN, isnan)                                                                                              \
  OPERATION(ISINF, isinf)                                                                                              \
  OPERATION(ISFINITE, isfinite)                                                                                        \
  OPERATION(LOGICAL_NOT, logical_not)

#define UNARY_OPERATIONS(OPERATION) UNARY_OF_INTEGERS(OPERATION) UNARY_OF_FLOATS(OPERATION) UNARY_CHECKS(OPERATION)

/* z = f(a, b): integers give integers. MAXIMUM and MINIMUM give NaN if either operand is NaN. REMAINDER has the sign of
 * b, as Python's %; of integers by 0 it is 0. */
#define BINARY_OF_INTEGERS(OPERATION)                                                                                  \
  OPERATION(ADD, add)                                                                                                  \
  OPERATION(SUB, sub)                                                                                                  \
  OPERATION(MUL, mul)                                                                                                  \
  OPERATION(MAXIMUM, maximum)                                                                                          \
  OPERATION(MINIMUM, minimum)                                                                                          \
  OPERATION(REMAINDER, remainder)

/* Integers give f32. ATAN2 is the angle of the point (b, a), HYPOT its distance from 0. LEAKY_RELU is x where x > 0, else
 * b · x; ELU is x where x > 0, else b · (e^x - 1); SOFTPLUS is ln(1 + e^(b x)) / b. */
#define BINARY_OF_FLOATS(OPERATION)                                                                                    \
  OPERATION(DIV, div)                                                                                                  \
  OPERATION(POW, pow)                                                                                                  \
  OPERATION(ATAN2, atan2)                                                                                              \
  OPERATION(HYPOT, hypot)                                                                                              \
  OPERATION(LEAKY_RELU, leaky_relu)                                                                                    \
  OPERATION(ELU, elu)                                                                                                  \
  OPERATION(SOFTPLUS, softplus)

/* 1 or 0 as u8; between integers exact. */
#define BINARY_COMPARISONS(OPERATION)                                                                                  \
  OPERATION(EQ, eq)                                                                                                    \
  OPERATION(NE, ne)                                                                                                    \
  OPERATION(LT, lt)                                                                                                    \
  OPERATION(LE, le)                                                                                                    \
  OPERATION(GT, gt)                                                                                                    \
  OPERATION(GE, ge)

/* 1 or 0 as u8, of whether the operands are 0. */
#define BINARY_CHECKS(OPERATION)                                                                                       \
  OPERATION(LOGICAL_AND, logical_and)                                                                                  \
  OPERATION(LOGICAL_OR, logical_or)                                                                                    \
  OPERATION(LOGICAL_XOR, logical_xor)

/* Derivatives, of floats only: (grad of the output, then the operation's input x or output y) give the grad of the
 * input. */
#define BINARY_DERIVATIVES(OPERATION)                                                                                  \
  OPERATION(EXPM1_BACKWARD, expm1_backward)         /* g, y: g · (y + 1) */                                           \
  OPERATION(LOG2_BACKWARD, log2_backward)           /* g, x: g / (x ln 2) */                                           \
  OPERATION(LOG10_BACKWARD, log10_backward)         /* g, x: g / (x ln 10) */                                          \
  OPERATION(LOG1P_BACKWARD, log1p_backward)         /* g, x: g / (x + 1) */                                            \
  OPERATION(SIN_BACKWARD, sin_backward)             /* g, x: g · cos(x) */                                            \
  OPERATION(COS_BACKWARD, cos_backward)             /* g, x: -g · sin(x) */                                           \
  OPERATION(TAN_BACKWARD, tan_backward)             /* g, y: g · (1 + y²) */                                         \
  OPERATION(TANH_BACKWARD, tanh_backward)           /* g, y: g · (1 - y²) */                                         \
  OPERATION(ERF_BACKWARD, erf_backward)             /* g, x: g · 2/√π · e^(-x²) */                               \
  OPERATION(SIGMOID_BACKWARD, sigmoid_backward)     /* g, y: g · y · (1 - y) */                                      \
  OPERATION(RELU_BACKWARD, relu_backward)           /* g, x: g where x > 0, else 0 */                                  \
  OPERATION(GELU_BACKWARD, gelu_backward)           /* g, x: g · (Φ(x) + x · φ(x)) */                              \
  OPERATION(GELU_TANH_BACKWARD, gelu_tanh_backward) /* g, x: g · (s + x · s · (1 - s) · 2u'), s = σ(2u) */        \
  OPERATION(SILU_BACKWARD, silu_backward)           /* g, x: g · s · (1 + x · (1 - s)), s = σ(x) */

#define BINARY_OPERATIONS(OPERATION)                                                                                   \
  BINARY_OF_INTEGERS(OPERATION)                                                                                        \
  BINARY_OF_FLOATS(OPERATION) BINARY_COMPARISONS(OPERATION) BINARY_CHECKS(OPERATION) BINARY_DERIVATIVES(OPERATION)

#define UNARY_VALUE(NAME, name) UNARY_##NAME,
typedef enum UnaryOp { UNARY_OPERATIONS(UNARY_VALUE) } UnaryOp;

#define BINARY_VALUE(NAME, name) BINARY_##NAME,
typedef enum BinaryOp { BINARY_OPERATIONS(BINARY_VALUE) } BinaryOp;

/* For switches: the cases of a list. */
#define UNARY_CASE(NAME, name) case UNARY_##NAME:
#define BINARY_CASE(NAME, name) case BINARY_##NAME:

/* SUM accumulates f32 and narrower floats in float32 or better (never in one long float32 chain: relative error well
 * under 1e-5), integers in 64 bits, where they wrap around. MEAN divides the sum, which for integers is exact. PROD is of
 * doubles, or of 64-bit integers. NORM is the root of the sum of squares, of doubles, so that none overflows or
 * vanishes; integers count as floats, as they do for VAR and STD, of which variance_of says how they are accumulated. MAX and MIN propagate NaN. ARGMAX gives the position (from
 * 0, row-major over the reduced dimensions) of the first largest element, NaN counting as largest, in an i64 output. */
typedef enum ReduceOp {
  REDUCE_SUM,
  REDUCE_MEAN,
  REDUCE_PROD,
  REDUCE_NORM,
  REDUCE_VAR,
  REDUCE_STD,
  REDUCE_MAX,
  REDUCE_MIN,
  REDUCE_ARGMAX
} ReduceOp;

/* What becomes of an element and one that is put there by index. SUM and PROD of integers wrap around; MAX and MIN
 * propagate NaN. */
typedef enum ScatterRule { SCATTER_SET, SCATTER_SUM, SCATTER_PROD, SCATTER_MAX, SCATTER_MIN } ScatterRule;

PORTABLE float scatter_float(ScatterRule rule, float old, float value) {
  switch (rule) {
  case SCATTER_SET:
    return value;
  case SCATTER_SUM:
    return old + value;
  case SCATTER_PROD:
    return old * value;
  case SCATTER_MAX:
    return value > old || value != value ? value : old;
  case SCATTER_MIN:
    return value < old || value != value ? value : old;
  }
  trap_missing_case();
}

/* Of i32 too, whose sums and products are the low bits of these. */
PORTABLE int64_t scatter_integer(ScatterRule rule, int64_t old, int64_t value) {
  switch (rule) {
  case SCATTER_SET:
    return value;
  case SCATTER_SUM:
    return (int64_t)((uint64_t)old + (uint64_t)value);
  case SCATTER_PROD:
    return (int64_t)((uint64_t)old * (uint64_t)value);
  case SCATTER_MAX:
    return value > old ? value : old;
  case SCATTER_MIN:
    return value < old ? value : old;
  }
  trap_missing_case();
}

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
 * are not read, and their results and gradients are exactly 0. Masked: a row of minus infinities alone gives zeros, where
 * it else gives NaN. */
typedef struct SoftmaxRule {
  float scale;
  bool causal;
  bool masked;
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

/* Normalization of rows, the last dimension, or of channels. weight and bias (columns or channels) may be NULL. With an addend, of x's shape and dtype,
 * x + addend is what is normalized, rounded to that dtype as it is written to `sum`; else both are NULL. */
typedef struct Normalization {
  const Tensor *x, *addend, *weight, *bias;
  Tensor *sum;
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
  Tensor *weight, *bias; /* (columns or channels), sums over all others; f32, f16 or bf16 */
} NormalizeGradients;

/* Pooling by windows: of each the largest element, or the mean: the sum over `divisor`, or where that is 0 over the number
 * of positions, the padding's included if `padded`. */
typedef struct PoolRule {
  Window window;
  bool largest, padded;
  int64_t divisor;
} PoolRule;

/* Turns pairs of features by angles that grow with the position: Su et al., "RoFormer: enhanced transformer with rotary
 * position embedding" (2021). Of x (outer, positions, inner, features) the features 2i and 2i + 1 if `interleaved`, else i
 * and i + features / 2, at position p turn by (offset + p) · base^(-2i / features), the other way if `backwards`. Angles
 * are double, their cosines and sines are rounded to float32, and so is each step of a · cos - b · sin and
 * b · cos + a · sin. */
typedef struct Rotation {
  double base;
  int64_t offset;
  bool interleaved, backwards;
} Rotation;

/* A step of a recurrent layer, of all rows: what the gates get from the input and, with the bias, from the hidden state
 * before, in PyTorch's order. With σ the sigmoid function and * elementwise:
 * GRU (3 · hidden: r, z, n): r = σ(xr + hr), z = σ(xz + hz), n = tanh(xn + r * hn), state' = (1 - z) * n + z * state.
 * LSTM (4 · hidden: i, f, g, o), whose state is the cell: state' = σ(f) * state + σ(i) * tanh(g), and
 * hidden' = σ(o) * tanh(state'). */
typedef struct RecurrentStep {
  const Tensor *from_input, *from_hidden; /* (rows, 3 or 4 · hidden) */
  const Tensor *state;                    /* (rows, hidden) */
} RecurrentStep;

/* What its backward pass takes: `saved` (rows, 4 · hidden) of the step, r, z, n and hn or i, f, g and o after their
 * functions; the states before and, of an LSTM, after it; and the gradients of the hidden state and, of an LSTM, of the
 * state after it. */
typedef struct RecurrentBackward {
  const Tensor *saved, *state, *state_after;
  const Tensor *grad_hidden, *grad_state_after;
} RecurrentBackward;

/* softmax(scale · q·kᵀ + mask)·v over the keys; causal: query i sees keys up to i + keys - queries. k and v may have fewer
 * heads than q, which a group of neighbouring heads shares then. A query that sees no key gets zeros. */
typedef struct Attention {
  const Tensor *q, *k, *v;
  const Tensor
      *mask; /* u8, whose ones are seen, or f32, f16 or bf16; or NULL. For a backend (batch, heads, queries, keys) */
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

/* (a (m, k) · scale_a) · (b (n, k) · scale_b)ᵀ + bias of float8 codes; bias may be NULL. A scale is one number; one a row
 * of its codes; or a matrix of one for every 128 codes of a row, or of 128 rows: core/formats/scale_grid.h. */
typedef struct ScaledProduct {
  const Tensor *a, *scale_a, *b, *scale_b, *bias;
  /* FP8 tensor cores may accumulate over all of k, not over 128 terms at a time; not where these have scales. */
  bool fast;
} ScaledProduct;

/* An activation function of x, or, where `grad` is not NULL, the gradient of x from that of its result: RELU, GELU,
 * GELU_TANH or SILU. */
typedef struct Activated {
  UnaryOp op;
  const Tensor *x, *grad;
} Activated;

/* The operation (g, x) that gives the gradient; BINARY_ADD for what is no activation function. */
PORTABLE BinaryOp activation_gradient(UnaryOp op) {
  if (op == UNARY_RELU) return BINARY_RELU_BACKWARD;
  if (op == UNARY_GELU) return BINARY_GELU_BACKWARD;
  if (op == UNARY_GELU_TANH) return BINARY_GELU_TANH_BACKWARD;
  return op == UNARY_SILU ? BINARY_SILU_BACKWARD : BINARY_ADD;
}

/* What delayed scaling does with its history (f32, the latest first) once it has read it; nothing if the scale is NaN. */
typedef enum HistoryRecord {
  HISTORY_KEEP,
  HISTORY_NEXT, /* moves by one element towards its end; its first becomes the tensor's absmax */
  HISTORY_SAME  /* the first becomes the larger of itself and the absmax: the latest step goes on */
} HistoryRecord;

/* --- what is true of operations --- */

typedef enum ElementwiseClass {
  ELEMENTWISE_ARITHMETIC, /* integers give integers */
  ELEMENTWISE_FRACTION,   /* integers give f32 */
  ELEMENTWISE_COMPARISON, /* the result is u8; integers are compared as such */
  ELEMENTWISE_CHECK,      /* the result is u8; all are computed with as float32, where only zeros are 0 */
  ELEMENTWISE_DERIVATIVE  /* floats only */
} ElementwiseClass;

PORTABLE ElementwiseClass unary_class(UnaryOp op) {
  switch (op) {
    UNARY_OF_INTEGERS(UNARY_CASE)
    return ELEMENTWISE_ARITHMETIC;
    UNARY_OF_FLOATS(UNARY_CASE)
    return ELEMENTWISE_FRACTION;
    UNARY_CHECKS(UNARY_CASE)
    return ELEMENTWISE_CHECK;
  }
  trap_missing_case();
}

PORTABLE ElementwiseClass binary_class(BinaryOp op) {
  switch (op) {
    BINARY_OF_INTEGERS(BINARY_CASE)
    return ELEMENTWISE_ARITHMETIC;
    BINARY_OF_FLOATS(BINARY_CASE)
    return ELEMENTWISE_FRACTION;
    BINARY_COMPARISONS(BINARY_CASE)
    return ELEMENTWISE_COMPARISON;
    BINARY_CHECKS(BINARY_CASE)
    return ELEMENTWISE_CHECK;
    BINARY_DERIVATIVES(BINARY_CASE)
    return ELEMENTWISE_DERIVATIVE;
  }
  trap_missing_case();
}

/* The dtype of the result where the operands' is `dtype`. */
PORTABLE DType elementwise_dtype(ElementwiseClass kind, DType dtype) {
  switch (kind) {
  case ELEMENTWISE_ARITHMETIC:
  case ELEMENTWISE_DERIVATIVE:
    return dtype;
  case ELEMENTWISE_FRACTION:
    return dtype_is_float(dtype) ? dtype : DTYPE_F32;
  case ELEMENTWISE_COMPARISON:
  case ELEMENTWISE_CHECK:
    return DTYPE_U8;
  }
  trap_missing_case();
}

/* Whether 64-bit integers are what the operation computes in, where all operands are integers. */
PORTABLE bool keeps_integers(ElementwiseClass kind) {
  return kind == ELEMENTWISE_ARITHMETIC || kind == ELEMENTWISE_COMPARISON;
}

/* a - b · floor(a / b), of the sign of b; 0 for b = 0. */
PORTABLE int64_t remainder_of_integers(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0; /* the smallest integer by -1 would trap */
  int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

/* The same of floats, from the exact fmodf(a, b); infinite b leave a, or are the result. */
PORTABLE float remainder_of_floats(float rest, float b) {
  return rest != 0.0f && (rest < 0.0f) != (b < 0.0f) ? rest + b : rest;
}

/* Whether 64-bit integers are what the reduction computes in. */
PORTABLE bool reduces_integers(ReduceOp op, DType dtype) {
  return dtype_is_integer(dtype) && op != REDUCE_NORM && op != REDUCE_VAR && op != REDUCE_STD;
}

/* The variance of `count` elements, from the sums of their differences from one of them and of the squares of those. As
 * that one counts too, the sum of the squares is at most about `count` times what is left of it. */
PORTABLE double variance_of(double sum, double squares, int64_t count, double correction) {
  double rest = squares - sum / (double)count * sum, divisor = (double)count - correction;
  rest = rest < 0 ? 0 : rest; /* NaN stays */
  return rest / (divisor > 0 ? divisor : 0);
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
