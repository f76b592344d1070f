/* Windows that move over the last two dimensions of images: of patches, convolutions and pooling. Positions count from 0. */
#ifndef FP8_CORE_WINDOW_H
#define FP8_CORE_WINDOW_H

#include "core/portable.h"

/* Along one dimension: window o covers the positions o · stride - before + i · dilation for i < kernel that there are.
 * Adaptive ones, of which `output` is given, cover positions o · input / output, rounded down, to (o + 1) · input / output,
 * rounded up. */
typedef struct WindowAxis {
  int64_t input, output; /* how many positions, and how many windows */
  int64_t kernel, stride, dilation;
  int64_t before, after; /* padding */
  bool adaptive;
} WindowAxis;

typedef struct Window {
  WindowAxis y, x;
} Window;

/* All of these numbers are below, so that positions in the padding fit in 32 bits. */
#define WINDOW_LIMIT ((int64_t)1 << 29)

/* a / b of numbers that are not negative; GPUs divide 32 bits several times faster. */
PORTABLE int64_t window_divide(int64_t a, int64_t b) {
  return (uint64_t)(a | b) <= UINT32_MAX ? (int64_t)((uint32_t)a / (uint32_t)b) : a / b;
}

PORTABLE int64_t window_divide_up(int64_t a, int64_t b) { return window_divide(a + b - 1, b); }

/* Positions of a window that there are: first, first + step, …; `skipped` of the kernel's come before them. */
typedef struct WindowSpan {
  int64_t first, count, step, skipped;
} WindowSpan;

PORTABLE WindowSpan window_span(const WindowAxis *axis, int64_t output) {
  WindowSpan span;
  if (axis->adaptive) {
    span.first = window_divide(output * axis->input, axis->output);
    span.count = window_divide_up((output + 1) * axis->input, axis->output) - span.first;
    span.step = 1;
    span.skipped = 0;
    return span;
  }
  span.first = output * axis->stride - axis->before;
  span.step = axis->dilation;
  span.skipped = span.first < 0 ? window_divide_up(-span.first, axis->dilation) : 0;
  span.count = axis->kernel;
  int64_t room = axis->input - span.first; /* of which the first `dilation` positions are one of the kernel's */
  if (room <= 0) {
    span.count = 0;
  } else if (room <= (axis->kernel - 1) * axis->dilation) {
    span.count = window_divide_up(room, axis->dilation);
  }
  span.count = span.count > span.skipped ? span.count - span.skipped : 0;
  span.first += span.skipped * axis->dilation;
  return span;
}

/* Of how many positions a mean is taken as, padding included if `padded`. */
PORTABLE int64_t window_length(const WindowAxis *axis, int64_t output, WindowSpan span, bool padded) {
  if (axis->adaptive || !padded) return span.count;
  int64_t first = output * axis->stride - axis->before, end = first + axis->kernel;
  int64_t most = axis->input + axis->after;
  return (end < most ? end : most) - first;
}

/* The windows that may cover a position: from `first` to before `end`, those of which window_covers. */
typedef struct WindowRange {
  int64_t first, end;
} WindowRange;

PORTABLE WindowRange window_range(const WindowAxis *axis, int64_t position) {
  WindowRange range;
  if (axis->adaptive) {
    range.first = window_divide(position * axis->output, axis->input);
    range.end = window_divide_up((position + 1) * axis->output, axis->input);
    return range;
  }
  int64_t from = position + axis->before - (axis->kernel - 1) * axis->dilation;
  range.first = from > 0 ? window_divide_up(from, axis->stride) : 0;
  range.end = window_divide(position + axis->before, axis->stride) + 1;
  if (range.end > axis->output) range.end = axis->output;
  return range;
}

/* Whether window `output`, of such a range, covers the position. */
PORTABLE bool window_covers(const WindowAxis *axis, int64_t output, int64_t position) {
  if (axis->adaptive || axis->dilation == 1) return true;
  int64_t distance = position + axis->before - output * axis->stride;
  return window_divide(distance, axis->dilation) * axis->dilation == distance;
}

#endif
