#include "ops/optim/apart.h"

#include <stdlib.h>

Extent extent_of(const Tensor *tensor, bool written) {
  int64_t bytes = dtype_size(tensor->dtype);
  const char *data = tensor->storage->data;
  if (!data) return (Extent){.written = written};
  const char *begin = data + tensor->offset * bytes;
  return (Extent){begin, begin + tensor_count(tensor) * bytes, written};
}

static int compare_begins(const void *a, const void *b) {
  const Extent *first = a, *second = b;
  return (first->begin > second->begin) - (first->begin < second->begin);
}

bool check_apart(Extent *range, int count) {
  const char *end = NULL, *written_end = NULL;
  qsort(range, (size_t)count, sizeof *range, compare_begins);
  for (int i = 0; i < count; i++) {
    if (range[i].begin == range[i].end) continue;
    if (range[i].begin < written_end || (range[i].written && range[i].begin < end)) {
      return error_set("two of its tensors share memory");
    }
    if (range[i].end > end) end = range[i].end;
    if (range[i].written && range[i].end > written_end) written_end = range[i].end;
  }
  return true;
}
