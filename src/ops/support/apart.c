#include "ops/support/apart.h"

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

bool are_apart(Extent *extent, int count) {
  const char *end = NULL, *written_end = NULL;
  qsort(extent, (size_t)count, sizeof *extent, compare_begins);
  for (int i = 0; i < count; i++) {
    if (extent[i].begin == extent[i].end) continue;
    if (extent[i].begin < written_end || (extent[i].written && extent[i].begin < end)) return false;
    if (extent[i].end > end) end = extent[i].end;
    if (extent[i].written && extent[i].end > written_end) written_end = extent[i].end;
  }
  return true;
}

bool check_apart(Extent *extent, int count) {
  return are_apart(extent, count) || error_set("two of its tensors share memory");
}
