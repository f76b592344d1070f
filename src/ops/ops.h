/* Operations: check arguments, work out shapes and dtypes, allocate the output and call the device's kernel.
 *
 * Every function returns false after error_set and then leaves all tensors as they were. `out` must be "no tensor"
 * (all zero) and becomes a new tensor, or a view that holds a reference. Functions whose name ends in "_in_place"
 * change their first argument. Dimensions count from 0 here and are in range; the binding translates them. */
#ifndef FP8_OPS_OPS_H
#define FP8_OPS_OPS_H

#include "core/capture/capture.h"
#include "core/formats/both_ways.h"
#include "core/formats/fit.h"
#include "core/formats/hadamard.h"
#include "core/formats/small.h"
#include "core/operations.h"
#include "core/optim.h"
#include "core/order/scan.h"

/* A set of dimensions: bit d stands for dimension d. */
typedef uint32_t DimensionSet;

/* --- devices (device.c) --- */

/* Makes the devices called `name` known, whose backend is in the shared library at `path`, or is the CPU's where that is
 * NULL; once they are known this succeeds at once. */
bool op_backend_open(const char *name, const char *path);
/* Number of devices called `name`; 0 before op_backend_open. */
int op_device_count(const char *name);
/* Fails with an error that says why if tensors can't live on `device`. */
bool op_check_device(Device device);
bool op_synchronize(Device device);

/* Whether operations give the same bits whatever the number of the CPU's threads, and in every run on a GPU, at some
 * cost; of the context. */
void op_set_deterministic(bool on);
bool op_is_deterministic(void);

/* --- events (event.c) --- */

/* A point in a device's work, to measure time between two. Holds its context. */
typedef struct Event {
  struct Context *context;
  Device device;
  void *mark; /* NULL before it is recorded */
} Event;

void op_event_start(Event *event, Device device);
bool op_event_record(Event *event);
/* Milliseconds between two that were recorded on one device. */
bool op_event_elapsed(const Event *start, const Event *end, double *milliseconds);
void op_event_release(Event *event);

/* --- graphs (graph.c) --- */

/* A device's work between op_graph_begin and op_graph_end, to be done again as a whole; all zero is none. */
typedef struct Graph {
  struct Context *context; /* held */
  Device device;
  Capture *capture;
  void *work;
} Graph;

/* tensor_create, but while a graph is captured too in memory that is not the graph's: for what is written between its
 * replays, which work of the graph that has been given the same memory earlier would overwrite. */
bool op_create_lasting(Tensor *out, DType dtype, Device device, int rank, const int64_t *size);

/* Says that the work from now on is what will be captured next, or with false that it is not after all. Fails on
 * devices without graphs, and while another capture is open. */
bool op_graph_prepare(Device device, bool preparing);
bool op_graph_begin(Graph *graph, Device device);
/* A failed one leaves no graph. */
bool op_graph_end(Graph *graph);
/* Ends a capture, if one is open, and releases the graph. */
void op_graph_release(Graph *graph);
bool op_graph_replay(Graph *graph);

/* --- creation (create.c) --- */

bool op_full(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, Number value);
/* Copies a contiguous array of the tensor's dtype from the CPU's memory. */
bool op_from_host(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, const void *data);
/* ceil((stop - start) / step) values from `start`. */
bool op_arange(Tensor *out, DType dtype, Device device, Number start, Number stop, Number step);

/* --- random numbers (random.c) --- */

/* The context's generator, which all devices share: its seed and where it goes on from, and the source of the next draw
 * of `words` 32-bit words. */
void op_manual_seed(RandomSource source);
RandomSource op_random_state(void);
RandomSource op_next_random(int64_t words);
/* Fails while a graph is captured, whose replays would draw the same numbers over and over. To be asked first: a draw
 * then makes the end of the capture fail. */
bool op_check_random(void);
/* The same, for work that reads where its numbers begin when it runs: in a graph they are new ones at every replay. *live is
 * NULL, or holds a seed and an offset to which *source counts. */
bool op_next_live_random(RandomSource *source, const Tensor **live, Device device, int64_t words);
/* Draws a transform's signs: the bits of one random block. */
bool op_draw_signs(HadamardRule *rule);
/* Before a replay: writes where its numbers begin; and after it: they have been drawn. */
bool op_store_live_random(CaptureRandom *random);
void op_draw_live_random(const CaptureRandom *random);
/* The draw's source is the generator's next. */
bool op_random(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, RandomDraw draw);

/* --- views (view.c): `out` shares the storage of `x` --- */

/* One size may be -1 and is worked out. Fails where the strides of `x` don't allow the view. */
bool op_view(Tensor *out, const Tensor *x, int rank, const int64_t *size);
bool op_transpose(Tensor *out, const Tensor *x, int dimension, int other);
bool op_permute(Tensor *out, const Tensor *x, const int *dimensions);
/* `length` positions from `start`, which counts from 0, on; each `step`, at least 1, after the one before. */
bool op_narrow(Tensor *out, const Tensor *x, int dimension, int64_t start, int64_t length, int64_t step);
/* Windows of `size` elements that begin every `step` ones of a dimension, which counts them; a last dimension has their
 * elements. They may overlap in memory. */
bool op_windows(Tensor *out, const Tensor *x, int dimension, int64_t size, int64_t step);
bool op_select(Tensor *out, const Tensor *x, int dimension, int64_t position);
/* To the given sizes by repeating dimensions of size 1 and adding leading ones; -1 keeps a size. */
bool op_expand(Tensor *out, const Tensor *x, int rank, const int64_t *size);
/* Drops the dimensions of the set that have size 1. */
bool op_squeeze(Tensor *out, const Tensor *x, DimensionSet dimensions);
/* Inserts a dimension of size 1 before `dimension`, which may be the rank. */
bool op_unsqueeze(Tensor *out, const Tensor *x, int dimension);

/* --- conversion and copies (copy.c) --- */

/* A contiguous copy with another dtype or device. `saturate`: whether values out of a float8 type's range become its
 * largest (or else infinity, or NaN where there is none). */
bool op_convert(Tensor *out, const Tensor *x, DType dtype, Device device, bool saturate);
/* `x` itself, shared, where it is contiguous; else a copy. */
bool op_contiguous(Tensor *out, const Tensor *x);
/* Converts, broadcasts and moves between devices. */
bool op_copy_in_place(Tensor *x, const Tensor *source);
/* Many copies, and tensors added to others of their shapes and devices, given in pairs of the one that is changed and the
 * other one. Nothing is changed if memory for any of it is missing. */
bool op_change_all(Tensor *const *copies, int copy_count, Tensor *const *sums, int sum_count);
bool op_fill_in_place(Tensor *x, Number value);
/* Copies all elements, row-major, to the CPU's memory. */
bool op_to_host(const Tensor *x, void *data);

/* --- elementwise (elementwise.c): operands broadcast, dtypes promote --- */

bool op_unary(UnaryOp op, Tensor *out, const Tensor *x);
/* Comparisons give u8; DIV and POW of integers give f32. At least one operand is a tensor. */
bool op_binary(BinaryOp op, Tensor *out, Operand a, Operand b);
/* Where the result has x's dtype. */
bool op_unary_in_place(UnaryOp op, Tensor *x);
bool op_binary_in_place(BinaryOp op, Tensor *x, Operand b);
bool op_where(Tensor *out, const Tensor *condition, Operand a, Operand b);
bool op_clamp(Tensor *out, const Tensor *x, Number low, Number high);
/* x = x · factor, an f32 of one element, which costs nothing where that is 1. x contiguous, f32, f16 or bf16. */
bool op_scale_in_place(Tensor *x, const Tensor *factor);

/* --- attention (attention/attention.c): core/operations.h and backend.h --- */

/* y as a (batch, heads, queries, features) view of (batch, queries, heads, features). True without being *done where
 * the device has no kernel for these. */
bool op_attention(Tensor *y, Tensor *log_sums, const Attention *attention, bool *done);
/* Writes the gradients; an error where there is no kernel. */
bool op_attention_backward(const AttentionGradients *gradients, const AttentionBackward *backward);
/* attention/rotate.c: core/operations.h; of x any float dtype to compute in and any strides, `dimension` has the
 * positions, the last one the features, which are even in number. */
bool op_rotate(Tensor *out, const Tensor *x, int dimension, const Rotation *rotation);

/* --- recurrent layers (recurrent.c): core/operations.h and backend.h --- */

/* `hidden` is left as it is unless the gates are four: an LSTM's. */
bool op_recurrent_step(Tensor *hidden, Tensor *state, Tensor *saved, const RecurrentStep *step);
/* Of an LSTM where backward->state_after is not NULL; `from_hidden` is left as it is then. */
bool op_recurrent_step_backward(Tensor *from_input, Tensor *from_hidden, Tensor *state,
                                const RecurrentBackward *backward);

/* --- reductions (reduce.c) --- */

/* Over a set of dimensions; those stay with size 1 if `keep`. SUM and PROD of integers are i64, MEAN, NORM, VAR and STD
 * of integers f32, ARGMAX is i64; `correction` is taken from the number of elements in VAR and STD. */
bool op_reduce(ReduceOp op, double correction, Tensor *out, const Tensor *x, DimensionSet dimensions, bool keep);

/* --- softmax (softmax.c) --- */

bool op_softmax(Tensor *out, const Tensor *x, int dimension, bool logarithm);
bool op_softmax_backward(Tensor *out, const Tensor *dy, const Tensor *y, int dimension, bool logarithm);
/* softmax(scale · x) over the last dimension of a contiguous tensor in place, and its gradient, in place of that of the
 * result y: core/operations.h, SoftmaxRule. */
bool op_softmax_in_place(Tensor *x, double scale, bool causal, bool masked);
bool op_softmax_backward_in_place(Tensor *dy, const Tensor *y, double scale, bool causal);

/* --- cross-entropy (cross_entropy.c) --- */

/* losses (n) f32 of `rows` (core/operations.h), and what the gradient needs to know of each: statistics (n, 2) f32. */
bool op_cross_entropy(Tensor *out, Tensor *statistics, const CrossEntropy *rows);
bool op_cross_entropy_backward(Tensor *out, const CrossEntropy *rows, const Tensor *statistics, const Tensor *dloss);
/* The losses, and the gradient of the logits for that of the losses, f32 (n). */
bool op_cross_entropy_gradient(Tensor *out, Tensor *gradient, const CrossEntropy *rows, const Tensor *dloss);
/* The same, over the logits: `logits` is rows->logits, contiguous. */
bool op_cross_entropy_gradient_in_place(Tensor *out, Tensor *logits, const CrossEntropy *rows, const Tensor *dloss);

/* --- normalization (normalize.c): backend.h says what is computed --- */

/* `mean` NULL: root mean square normalization. weight and bias have x's dtype or are f32; mean and inverse become f32,
 * one a row. With an addend *sum becomes x + addend; normalization->sum is not looked at. */
bool op_normalize(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *sum, const Normalization *normalization);
/* Makes every gradient that is not NULL: those of x, in x's dtype; of the weight, in its dtype; of the bias, in
 * `bias_dtype`. */
bool op_normalize_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward, DType bias_dtype,
                           bool by_channel);
/* Of x (images, channels, elements) by the statistics of each channel, which become f32: a pair, one and one a channel. Its
 * backward is op_normalize_backward by channel. */
bool op_normalize_channels(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *variance,
                           const Normalization *normalization);

/* --- dropout (dropout.c) --- */

/* Zeros with the given probability, the rest times 1 / (1 - probability). Draws a new mask and says in *source from
 * where or, with `again`, draws that mask again. */
bool op_dropout(Tensor *out, const Tensor *x, double probability, RandomSource *source, bool again);

/* --- windows (patches/): x is (images, channels, height, width); core/window.h, backend.h. Windows come without the
 * sizes that x has or that follow from them --- */

/* Patches of x, (images, channels · kernel sides, patches), or (images, patches, channels · kernel sides) if `by_rows`. */
bool op_unfold(Tensor *out, const Tensor *x, Window window, bool by_rows);
/* The sum of such patches (images, channels · kernel sides, patches), of any strides, as images of four sizes. */
bool op_fold(Tensor *out, const Tensor *patches, const int64_t *size, Window window);
/* With the positions of the largest elements unless `index` is NULL. `ceil`: a last window may begin inside and end
 * outside. */
bool op_pool(Tensor *out, Tensor *index, const Tensor *x, PoolRule rule, bool ceil);
/* The gradient of x, whose four sizes are given. */
bool op_pool_backward(Tensor *out, const Tensor *dy, const Tensor *index, const int64_t *size, PoolRule rule,
                      bool ceil);

/* weight (outputs, channels / groups, kernel_y, kernel_x) and bias (outputs), or NULL, of x's dtype; the window's kernel is
 * the weight's. */
typedef struct Convolution {
  const Tensor *x, *weight, *bias;
  int64_t groups;
  Window window;
} Convolution;

/* out[n][o] = bias[o] + Σ x[n][c] · weight[o][c] over the channels of o's group and the window, in float32. */
bool op_convolution(Tensor *out, const Convolution *convolution);
/* The gradients of x and, in `dtype`, of the weight, unless they are NULL. */
bool op_convolution_backward(Tensor *dx, Tensor *dweight, const Convolution *convolution, const Tensor *dy,
                             DType dtype);

/* --- products (matmul.c) --- */

/* Matrix product of the last two dimensions, the leading ones broadcast; a 1-dimensional operand is a row on the
 * left, a column on the right, and its dimension is dropped from the result. `bias` (n) may be NULL. `dtype`: that
 * of the operands, or f32. */
bool op_matmul(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias, DType dtype);
/* out = out + a · b, of matrices: out (m, n) f32 and contiguous. */
bool op_matmul_add(Tensor *out, const Tensor *a, const Tensor *b);
/* a (…, m, k) · b (…, k, n) of the same leading dimensions, where a is 0 in columns beyond i + k - m of row i if `lower`,
 * else before them, and these do not count: what they are multiplied with may be NaN. The result has b's dtype. */
bool op_triangle_matmul(Tensor *out, const Tensor *a, const Tensor *b, bool lower);
/* `x` (rank at least 2) as op_matmul reads it without a copy: itself, shared, or else a contiguous copy. */
bool op_matrices(Tensor *out, const Tensor *x);

/* --- products of codes (scaled_matmul.c) --- */

/* backend.h, scaled_matmul; `dtype` is that of the result. */
bool op_scaled_matmul(Tensor *out, const ScaledProduct *product, DType dtype);
/* out = out + the product, without a bias, for an f32 out that is to become a 16-bit one: backend.h, scaled_matmul_add. */
bool op_scaled_matmul_add(Tensor *out, const ScaledProduct *product);
/* Whether x's device multiplies codes with a scale for every 128 terms as fast as others, where all sides are multiples of 16
 * and the result has 16 bits. */
bool op_scales_runs(const Tensor *x);

/* --- joining (join.c) --- */

/* All of one rank, dtype and device, and equal in every other dimension. */
bool op_cat(Tensor *out, const Tensor *const *list, int count, int dimension);
/* All of one shape, dtype and device, along a new dimension. */
bool op_stack(Tensor *out, const Tensor *const *list, int count, int dimension);

/* --- indexing (index.c) --- */

/* Rows `index` (one-dimensional integers, from 0) of a dimension. */
bool op_index_select(Tensor *out, const Tensor *x, int dimension, const Tensor *index);
/* out[.., i, ..] = x[.., index[.., i, ..], ..]: index has x's sizes in all other dimensions. */
bool op_gather(Tensor *out, const Tensor *x, int dimension, const Tensor *index);
/* Where the rows of `source` are added at `index`, in zeros of the given shape. */
typedef struct Addition {
  int rank;
  const int64_t *size;
  int dimension;
  const Tensor *index, *source;
} Addition;

/* The derivative of index_select. The sums are float32, rounded to `dtype`. */
bool op_index_add(Tensor *out, const Addition *addition, DType dtype);

/* What is put where. With `slices` the index is a list of positions of the dimension, and the source has its length
 * there and x's other sizes; else the index has x's other sizes, and the source the index's. Or the source is a number. */
typedef struct Scatter {
  int dimension;
  const Tensor *index;
  Operand source;
  ScatterRule rule;
  bool slices;
} Scatter;

/* x[.., index[.., i, ..], ..] = RULE(that, source[.., i, ..]) in place. SET takes a source of x's dtype; the others
 * compute in float32, rounded once, or in integers that wrap around, from a source of any dtype that is a float if x is one. */
bool op_scatter_in_place(Tensor *x, const Scatter *scatter);

/* --- order (order/) --- */

/* Running sums or products along a dimension, of x's dtype; those of integers are i64. (order/scan.c) */
bool op_scan(Tensor *out, const Tensor *x, int dimension, ScanRule rule);
/* The first `count` in order along a dimension and their positions there, from 0, as i64; stable, NaN is the largest.
 * `values` may be NULL. (order/sort.c) */
bool op_sort(Tensor *values, Tensor *positions, const Tensor *x, int dimension, int64_t count, bool descending);
/* The coordinates, from 0, of elements that are not 0: (count, rank) i64, in row-major order. Waits for the device. */
bool op_nonzero(Tensor *out, const Tensor *x);
/* The elements of x, one-dimensional, where `mask` is not 0; both broadcast. Waits for the device. */
bool op_masked_select(Tensor *out, const Tensor *x, const Tensor *mask);
/* How many elements of a row of `sorted` (…, n), which is in ascending order, come before each of `values` (…, m): those
 * below it or, if `right`, those not above it. `sorted` may also be one row for values of any shape. Integers are compared
 * as such, all else as float32. */
bool op_searchsorted(Tensor *out, const Tensor *sorted, const Tensor *values, bool right);
/* How many elements of x are between neighbours of `edges` (bins + 1, f32, ascending), the last one included: (bins) i64. */
bool op_histogram(Tensor *out, const Tensor *x, const Tensor *edges);
/* How often each number from 0 to bins - 1 is among the integers of x: (bins) i64. */
bool op_bincount(Tensor *out, const Tensor *x, int64_t bins);

/* --- embedding (embedding.c) --- */

/* Rows `index` (integers of any shape, from 0) of `weight` (count, features): index's shape and features. */
bool op_embedding(Tensor *out, const Tensor *weight, const Tensor *index);

/* --- quantization (quantize/quantize.c) --- */

/* What scripts say of a quantization: a map (an f32 CPU tensor of 256 values), a small format or, where both are NULL, a
 * float8 type. */
typedef struct Format {
  const Tensor *map;
  const SmallFormat *small;
  DType hardware;
} Format;

static inline bool format_is_hardware(Format format) { return !format.map && !format.small; }

/* What shares a scale: blocks of `length` elements; or tiles, where `length` is 0 and `rows` is not; or all. Lengths and
 * sides may exceed the tensor's. */
typedef struct Blocks {
  int64_t length, rows, columns;
} Blocks;

/* How scripts want a tensor quantized. */
typedef struct QuantizeOptions {
  Format format;
  Blocks blocks;
  ScaleRounding scale_rounding;
  float headroom, constant_scale; /* core/formats/scale.h, ScaleRule; 0 where scripts say nothing */
  UpperLevel upper;
  FitRule fit; /* all 0 where scripts say nothing */
  bool stochastic;
  const Tensor *known_scale; /* core/formats/quantizer.h, Quantizer; or NULL */
  DType dtype;               /* of values */
  DType sum_dtype;           /* of column_sum */
  int64_t scale_count;       /* 0, or of a single block how many elements its scale gets */
} QuantizeOptions;

/* A history, or NULL, and what becomes of it. */
typedef struct HistoryChange {
  Tensor *tensor;
  HistoryRecord record;
} HistoryChange;

/* Makes every output that is not NULL: core/formats/quantizer.h, QuantizeOutputs. */
bool op_quantize(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options);
/* The same of an activation function or its gradient, with the scale from a history, if there is one, as op_delayed_scale
 * gives it. The scale is one of the outputs; the options have none. */
bool op_quantize_activated(const QuantizeOutputs *outputs, const Activated *source, const QuantizeOptions *options,
                           const HistoryChange *history);

/* The losses, and the same of the gradient that op_cross_entropy_gradient_in_place gives; the logits may become it. */
bool op_quantize_cross_entropy(Tensor *out, const QuantizeOutputs *outputs, Tensor *logits, const CrossEntropy *rows,
                               const Tensor *dloss, const QuantizeOptions *options, const HistoryChange *history);
/* Codes by one quantizer and, transposed, by another: core/formats/both_ways.h. Makes all outputs; only the sum may be
 * NULL, whose dtype is that of `along_rows`. Scales are vectors as op_quantize makes them, or where each row or column has
 * several, matrices with a row for each, of any strides. (quantize/both_ways.c) */
bool op_quantize_both_ways(const BothWays *outputs, const Tensor *x, const QuantizeOptions *along_rows,
                           const QuantizeOptions *along_columns);
/* How scripts want a matrix's values for one product: transformed first, if `hadamard.length` is not 0. */
typedef struct ValuesOptions {
  QuantizeOptions quantize;
  HadamardRule hadamard;
} ValuesOptions;

/* What the codes of x decode to, `count` times, 1 or 2: as op_hadamard and op_quantize make it, which draw their random
 * numbers in this order. `column_sum` may be NULL. Both dtypes are those of the first. (quantize/ways.c) */
bool op_quantize_values(Tensor *const values[], Tensor *column_sum, const Tensor *x, const ValuesOptions *options,
                        int count);
/* core/formats/hadamard.h. (quantize/hadamard.c) */
bool op_hadamard(Tensor *out, const Tensor *x, const HadamardRule *rule);
/* Of the options, the format, the blocks and the dtype of the result count. */
bool op_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, const QuantizeOptions *options);

/* --- delayed scaling (delayed_scale.c) --- */

/* backend.h, delayed_scale; makes *scale, of shape (1). Of the options, the format and the rounding of scales count. In a
 * graph every replay is a step of its own: HISTORY_SAME is HISTORY_NEXT there. */
bool op_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, const QuantizeOptions *options,
                      HistoryRecord record);

/* backend.h, fitted_scale; makes *scale, one number a block. (fitted_scale.c) */
bool op_fitted_scale(Tensor *scale, const Tensor *x, const QuantizeOptions *options);

/* --- comparison (compare.c) --- */

/* Writes a Comparison to `row`, an i64 tensor of COMPARISON_WORDS elements (backend.h, compare). `values` and `scale`
 * may be NULL; the options' format and blocks matter with scales. */
bool op_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale,
                const QuantizeOptions *options);
/* The same of what op_quantize would make of x, to nearest: values of options->dtype by a map, exact ones of a hardware
 * format. */
bool op_compare_quantized(Tensor *row, const Tensor *x, const QuantizeOptions *options);

/* --- optimizer steps (optim/) --- */

/* What a user sets of an optimizer. Those that a rule does not have are not looked at. */
typedef struct UpdateSettings {
  double lr, weight_decay;
  double step; /* the number of the step, from 1 */
  double momentum, dampening;
  bool nesterov;
  double beta1, beta2, epsilon;
  bool stochastic; /* how 16-bit parameters are rounded */
} UpdateSettings;

/* The numbers of a step of one of the optimizers in core/optim.h. */
UpdateStep op_update_step(UpdateRule rule, const UpdateSettings *settings);

/* How many random words a stochastic step takes for these parameters, and drawing as many for one, outside of captures.
 * Steps that are not stochastic draw none. */
int64_t op_update_words(const UpdateEntry *list, int count);
void op_draw_step(UpdateStep *step, int64_t words);

/* An update, whose formats and words op_update sees to. If it is `coded`, the format and the blocks of 8-bit moments. */
typedef struct UpdateBatch {
  Update update;
  bool coded;
  QuantizeOptions first, second;
} UpdateBatch;

/* core/optim.h; gradients may have any strides. All of the updates or, if anything is wrong with one of them or memory is
 * missing, none. A stochastic one draws its random words, unless its step is live. */
bool op_update(const UpdateBatch *batches, int count);
/* Scales tensors of f32, f16 and bf16, of one device, so that the 2-norm over all of them is at most about `largest`
 * (backend.h, clip_norm); norm is that before. Where `measured` is less than `count`, the norm is that of so many tensors,
 * and only the others are scaled by it. */
bool op_clip_norm(Tensor *norm, Tensor *const *list, int measured, int count, double largest);
/* A live step: fails unless it is one; and writes it. */
bool op_check_live(const Tensor *live);
bool op_store_step(Tensor *live, const UpdateStep *step);

#endif
