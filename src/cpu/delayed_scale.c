/* Delayed scaling: a scale from the magnitudes of earlier tensors. */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/quantize/codes.h"

bool cpu_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, const Quantizer *quantizer,
                       HistoryRecord record) {
  uint32_t magnitude = parallel_magnitude(x->dtype, tensor_data(x), 0, tensor_count(x));
  float *past = tensor_data(history), *out = tensor_data(scale);
  int64_t length = tensor_count(history);
  uint32_t largest = range_magnitude(DTYPE_F32, past, 0, length);
  *out = scale_of_history(largest, magnitude, &quantizer->rule);
  if (*out != *out) return true;
  float absmax = float_from_bits(magnitude);
  switch (record) {
  case HISTORY_KEEP:
    return true;
  case HISTORY_NEXT:
    memmove(past + 1, past, (size_t)(length - 1) * sizeof *past);
    past[0] = absmax;
    return true;
  case HISTORY_SAME:
    if (absmax > past[0]) past[0] = absmax;
    return true;
  }
  trap_missing_case();
}
