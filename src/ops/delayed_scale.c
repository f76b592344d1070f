/* Delayed scaling: a scale from the magnitudes of earlier tensors. */
#include "ops/support/quantizer.h"

bool check_history(const Tensor *history, const Tensor *x) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(history, x)) return false;
  if (history->dtype == DTYPE_F32 && history->rank == 1 && history->size[0] > 0 && tensor_is_contiguous(history)) {
    return true;
  }
  return error_set("history must be contiguous, f32 and of one dimension with at least 1 element, got %s of shape %s",
                   dtype_name(history->dtype), tensor_shape_text(history, text));
}

HistoryRecord history_record(HistoryRecord record, const Tensor *x) {
  if (record == HISTORY_SAME && capture_open()) record = HISTORY_NEXT;
  return tensor_count(x) == 0 ? HISTORY_KEEP : record;
}

bool op_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, const QuantizeOptions *options,
                      HistoryRecord record) {
  Quantizer quantizer;
  if (fit_is_wanted(&options->fit)) return error_set("a fitted scale has no history");
  if (!check_compute_float(x->dtype, "dtype") || !check_history(history, x) ||
      !make_quantizer(&quantizer, x, options)) {
    return false;
  }
  Tensor input = {0}, created = {0};
  int64_t one = 1;
  record = history_record(record, x);
  bool done = op_contiguous(&input, x) && tensor_create(&created, DTYPE_F32, tensor_device(x), 1, &one) &&
              backend_for(x)->delayed_scale(&created, &input, history, &quantizer, record);
  tensor_release(&input);
  if (done && record != HISTORY_KEEP) tensor_changed(history);
  return hand_over(scale, &created, done);
}
