/* The entries of the CPU's Backend table, in its order; backend.h says what each does. */
#ifndef FP8_CPU_CPU_H
#define FP8_CPU_CPU_H

#include "backend.h"

/* event.c */
bool cpu_event_record(int index, void **event);
bool cpu_event_elapsed(int index, void *start, void *end, double *milliseconds);
void cpu_event_release(int index, void *event);

/* copy/copy.c */
bool cpu_copy(Tensor *out, const Tensor *src, bool saturate);

/* create.c */
bool cpu_fill(Tensor *out, Number number);
bool cpu_arange(Tensor *out, Number start, Number step);

/* random.c */
bool cpu_random(Tensor *out, const RandomDraw *draw);

/* elementwise/ */
bool cpu_unary(UnaryOp op, Tensor *out, const Tensor *x);
bool cpu_binary(BinaryOp op, Tensor *out, Operand a, Operand b);
bool cpu_where(Tensor *out, const Tensor *condition, Operand a, Operand b);
bool cpu_clamp(Tensor *out, const Tensor *x, Number low, Number high);
bool cpu_scale(Tensor *x, const Tensor *factor);

/* reduce/reduce.c */
bool cpu_reduce(ReduceOp op, double correction, Tensor *out, const Tensor *x);

/* softmax/ */
bool cpu_softmax(Tensor *out, const Tensor *x, SoftmaxRule rule);
bool cpu_softmax_columns(Tensor *out, const Tensor *x, bool logarithm);
bool cpu_softmax_backward(Tensor *dx, const Tensor *dy, const Tensor *y, SoftmaxRule rule);

/* cross_entropy.c */
bool cpu_cross_entropy(Tensor *loss, Tensor *statistics, const CrossEntropy *rows);
bool cpu_cross_entropy_backward(Tensor *dlogits, const CrossEntropy *rows, const Tensor *statistics,
                                const Tensor *dloss);
bool cpu_cross_entropy_gradient(Tensor *loss, Tensor *dlogits, const CrossEntropy *rows, const Tensor *dloss);

/* normalize/rows.c */
bool cpu_normalize(Tensor *out, Tensor *mean, Tensor *inverse, const Normalization *normalization);
bool cpu_normalize_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward);

/* normalize/channels.c */
bool cpu_normalize_channels(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *variance,
                            const Normalization *normalization);
bool cpu_normalize_channels_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward);

/* dropout.c */
bool cpu_dropout(Tensor *out, const Tensor *x, float probability, RandomSource source);

/* attention/attention.c */
bool cpu_attends(const Tensor *q, const Tensor *k, const Tensor *v);
bool cpu_attention(Tensor *y, Tensor *log_sums, const Attention *attention);
bool cpu_attention_backward(const AttentionGradients *gradients, const AttentionBackward *backward);

/* index/ */
/* attention/rotate.c */
bool cpu_rotate(Tensor *out, const Tensor *x, const Rotation *rotation);

/* recurrent.c */
bool cpu_recurrent_step(Tensor *hidden, Tensor *state, Tensor *saved, const RecurrentStep *step);
bool cpu_recurrent_step_backward(Tensor *from_input, Tensor *from_hidden, Tensor *state,
                                 const RecurrentBackward *backward);

/* index.c */
bool cpu_index_select(Tensor *out, const Tensor *x, const Tensor *index);
bool cpu_index_add(Tensor *out, const Tensor *x, const Tensor *index, bool adds);
bool cpu_gather(Tensor *out, const Tensor *x, const Tensor *index);
bool cpu_scatter(Tensor *x, const Tensor *index, const Tensor *source, ScatterRule rule);

/* order/scan.c, order/sort.c */
bool cpu_scan(Tensor *out, const Tensor *x, ScanRule rule);
bool cpu_sort(Tensor *values, Tensor *positions, const Tensor *x, bool descending);
/* patches/ */
bool cpu_unfold(Tensor *out, const Tensor *x, const Window *window);
bool cpu_fold(Tensor *out, const Tensor *patches, const Window *window);
bool cpu_pool(Tensor *out, Tensor *index, const Tensor *x, const PoolRule *rule);
bool cpu_pool_backward(Tensor *dx, const Tensor *dy, const Tensor *index, const PoolRule *rule);
bool cpu_convolve(const ConvolutionTensors *tensors, bool *done);
/* order/select.c, order/search.c, order/count.c */
bool cpu_count_flags(Tensor *count, const Tensor *flags);
bool cpu_nonzero(Tensor *out, const Tensor *flags);
bool cpu_searchsorted(Tensor *out, const Tensor *sorted, const Tensor *values, bool right);
bool cpu_histogram(Tensor *counts, const Tensor *x, const Tensor *edges);

/* matmul/matmul.c, matmul/triangle.c */
bool cpu_matmul(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias);
bool cpu_matmul_add(Tensor *out, const Tensor *a, const Tensor *b);
bool cpu_mend_triangle(Tensor *out, const Tensor *a, const Tensor *b, bool lower);

/* scaled_matmul.c */
bool cpu_scaled_matmul(Tensor *out, const ScaledProduct *product);

/* quantize/quantize.c */
bool cpu_quantize(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer);
bool cpu_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer);
bool cpu_hadamard(Tensor *out, const Tensor *x, const HadamardRule *rule);

/* delayed_scale.c */
bool cpu_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, const Quantizer *quantizer,
                       HistoryRecord record);

/* fitted_scale.c */
bool cpu_fitted_scale(Tensor *scale, const Tensor *x, const Quantizer *quantizer, const FitRule *fit);

/* compare.c */
bool cpu_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, const CompareRule *rule);

/* optim/ */
bool cpu_update(const Update *update);
bool cpu_clip_norm(Tensor *norm, Tensor *const *list, int measured, int scaled, int count, float largest);
bool cpu_store_words(Tensor *out, const uint32_t *words);

#endif
