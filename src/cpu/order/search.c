/* Searching in ascending lists. */
#include "core/order/search.h"

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"

typedef struct Searching {
  int64_t *out;
  const void *sorted, *values;
  bool integers, right;
  DType dtype; /* of the values */
  int64_t length, columns;
} Searching;

static void search_range(int64_t begin, int64_t end, const void *context) {
  const Searching *job = context;
  int64_t integers[CHUNK];
  float floats[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    if (job->integers) {
      const int64_t *values = load_integers(job->dtype, job->values, start, n, integers);
      for (int i = 0; i < n; i++) {
        const int64_t *list = (const int64_t *)job->sorted + (start + i) / job->columns * job->length;
        job->out[start + i] = search_integers(list, job->length, values[i], job->right);
      }
    } else {
      const float *values = load_floats(job->dtype, job->values, start, n, floats);
      for (int i = 0; i < n; i++) {
        const float *list = (const float *)job->sorted + (start + i) / job->columns * job->length;
        job->out[start + i] = search_floats(list, job->length, values[i], job->right);
      }
    }
  }
}

bool cpu_searchsorted(Tensor *out, const Tensor *sorted, const Tensor *values, bool right) {
  Searching job = {.out = tensor_data(out),
                   .sorted = tensor_data(sorted),
                   .values = tensor_data(values),
                   .integers = sorted->dtype == DTYPE_I64,
                   .right = right,
                   .dtype = values->dtype,
                   .length = sorted->size[1],
                   .columns = values->size[1]};
  parallel_chunks(tensor_count(values), 32, search_range, &job);
  return true;
}
