/* From what scripts say of a quantization to a backend's Quantizer. */
#ifndef FP8_OPS_QUANTIZER_H
#define FP8_OPS_QUANTIZER_H

#include "ops/support/support.h"

/* Of x, whose format, blocks and roundings the options say; draws random numbers for a stochastic one. The whole-tensor
 * form of a map divides by absmax, as bitsandbytes' quantize does. */
bool make_quantizer(Quantizer *quantizer, const Tensor *x, const QuantizeOptions *options);
/* The same, for what draws its random numbers by draw_for_way: in a graph, too. */
bool make_drawing_quantizer(Quantizer *quantizer, const Tensor *x, const QuantizeOptions *options);

/* The absmax of all of a contiguous x, or of each row: what is above scales in E4M3. */
bool measure_upper_scales(Tensor *upper, const Tensor *x, UpperLevel level);

/* One quantization of x, contiguous, by the fastest way that its backend has; `column_sum`, or NULL, as in QuantizeOutputs
 * (quantize/ways.c); after draw_for_way, if it is stochastic, which fails in a graph where the kernel does not read where
 * random numbers begin. */
extern const char no_drawn_signs[];
bool draw_for_way(QuantizeWay *way, const Tensor *x);
bool quantize_way(Tensor *column_sum, const Tensor *x, const QuantizeWay *way);

/* How many scales there are: one for a whole tensor, an empty one too. */
int64_t block_count(const Tensor *x, const Quantizer *quantizer, Blocks blocks);

/* Fails unless `scale` is one number for each block. */
bool check_scale(const Tensor *scale, const Tensor *x, int64_t blocks);

/* Fails unless `history` can be that of tensors like x (delayed_scale.c). */
bool check_history(const Tensor *history, const Tensor *x);

/* What is done with a history: nothing after an empty x; and in a graph every replay is a step of its own. */
HistoryRecord history_record(HistoryRecord record, const Tensor *x);

/* --- what a quantization of x makes (quantize/quantize.c) --- */

enum { QUANTIZE_OUTPUTS = 5 };

/* Fails unless a quantization can have these outputs. */
bool check_quantize_outputs(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options);
/* The same where x is made, and its scale found, on the way: the scale is one of the outputs, and none is known. */
bool check_quantize_made(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options,
                         const HistoryChange *history);
/* op_quantize, with the scale that the history gives, if there is one. */
bool quantize_by_history(const QuantizeOutputs *outputs, const Tensor *x, const QuantizeOptions *options,
                         const HistoryChange *history);
/* Creates the wanted outputs in `created`, which `targets` points to. */
bool create_quantize_outputs(Tensor created[QUANTIZE_OUTPUTS], QuantizeOutputs *targets, const QuantizeOutputs *wanted,
                             const Tensor *x, const Quantizer *quantizer, const QuantizeOptions *options);
/* Ends it: gives what it created to the outputs if it is `done`, else releases it. */
bool hand_over_quantized(const QuantizeOutputs *outputs, Tensor created[QUANTIZE_OUTPUTS], bool done);

/* The size of the last dimension; 1 without dimensions. */
int64_t columns_of(const Tensor *x);

#endif
