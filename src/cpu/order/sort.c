/* Sorting rows: their elements as items (sort_item.h). Threads share the rows, or where there are few, each long one. */
#include <omp.h>
#include <string.h>

#include "core/context.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/order/sort_item.h"
#include "cpu/parallel.h"

enum {
  SHARES = 8,     /* that a long row is cut into */
  LONG = 1 << 16, /* rows from here on are */
  FEW = 4         /* unless there are this many of them */
};

typedef struct Sort {
  const char *x;
  char *values; /* or NULL */
  int64_t *positions;
  DType dtype;
  bool descending;
  int64_t rows, n, k;
  int64_t groups;  /* of rows: each has its share of the scratch space */
  uint64_t *items; /* of each group, 2 · room */
  int64_t room;
  uint64_t *sorted; /* the row that is merged */
  const Context *stopper;
} Sort;

/* --- rows --- */

static void write_values(const Sort *job, int64_t row, const uint64_t *item, int64_t begin, int64_t end) {
  const char *x = job->x + row * job->n * dtype_size(job->dtype);
  char *values = job->values + row * job->k * dtype_size(job->dtype);
  switch (dtype_size(job->dtype)) {
  case 1:
    for (int64_t i = begin; i < end; i++) ((uint8_t *)values)[i] = ((const uint8_t *)x)[item_position(item[i])];
    return;
  case 2:
    for (int64_t i = begin; i < end; i++) ((uint16_t *)values)[i] = ((const uint16_t *)x)[item_position(item[i])];
    return;
  case 4:
    for (int64_t i = begin; i < end; i++) ((uint32_t *)values)[i] = ((const uint32_t *)x)[item_position(item[i])];
    return;
  case 8:
    for (int64_t i = begin; i < end; i++) ((uint64_t *)values)[i] = ((const uint64_t *)x)[item_position(item[i])];
    return;
  }
  trap_missing_case();
}

/* Elements begin … end - 1 of a row's result. */
static void write_row(const Sort *job, int64_t row, const uint64_t *item, int64_t begin, int64_t end) {
  int64_t *positions = job->positions + row * job->k;
  for (int64_t i = begin; i < end; i++) positions[i] = item_position(item[i]);
  if (job->values) write_values(job, row, item, begin, end);
}

static const void *row_of(const Sort *job, int64_t row) { return job->x + row * job->n * dtype_size(job->dtype); }

static void sort_row(const Sort *job, int64_t row, uint64_t *item, uint64_t *other) {
  make_items(job->dtype, job->descending, row_of(job, row), 0, job->n, item);
  uint64_t *sorted = sort_items(item, other, job->n, item_bits(job->dtype));
  if (job->dtype == DTYPE_I64) {
    raise_items(job->descending, row_of(job, row), job->n, sorted);
    uint64_t *free_items = sorted == item ? other : item;
    sorted = sort_by_digits(sorted, free_items, job->n, 32); /* insertion would look at positions */
  }
  write_row(job, row, sorted, 0, job->k);
}

/* --- the first few of a row --- */

/* Keeps a set of candidates, of which the first k are sorted out whenever there is no room for the next chunk. */
static void pick_row(const Sort *job, int64_t row, uint64_t *item, uint64_t *other) {
  int bits = item_bits(job->dtype);
  int64_t count = 0;
  uint64_t limit = UINT64_MAX, chunk[CHUNK];
  for (int64_t start = 0; start < job->n; start += CHUNK) {
    int n = chunk_length(job->n, start);
    make_items(job->dtype, job->descending, row_of(job, row), start, n, chunk);
    for (int i = 0; i < n; i++) {
      item[count] = chunk[i];
      count += chunk[i] < limit;
    }
    bool ends = start + n == job->n, full = job->room < job->n && count + CHUNK > job->room;
    if (!ends && !full && !(limit == UINT64_MAX && count >= 2 * job->k)) continue;
    uint64_t *sorted = sort_items(item, other, count, bits);
    if (sorted != item) {
      other = item;
      item = sorted;
    }
    if (count > job->k) count = job->k;
    if (count == job->k) limit = item[count - 1];
  }
  write_row(job, row, item, 0, job->k);
}

static bool picks(const Sort *job) { return job->dtype != DTYPE_I64 && job->k <= job->n / 4; }

/* Tasks are groups of rows. */
static void sort_groups(int64_t begin, int64_t end, const void *context) {
  const Sort *job = context;
  for (int64_t group = begin; group < end; group++) {
    uint64_t *item = job->items + group * 2 * job->room, *other = item + job->room;
    int64_t end = (group + 1) * job->rows / job->groups;
    for (int64_t row = group * job->rows / job->groups; row < end && !context_stops(job->stopper); row++) {
      if (picks(job)) {
        pick_row(job, row, item, other);
      } else {
        sort_row(job, row, item, other);
      }
    }
  }
}

/* --- long rows: shares are sorted, then merged two by two --- */

static int64_t share_start(const Sort *job, int64_t share) { return share * job->n / SHARES; }

static void sort_shares(int64_t begin, int64_t end, const void *context) {
  const Sort *job = context;
  for (int64_t share = begin; share < end; share++) {
    int64_t start = share_start(job, share), n = share_start(job, share + 1) - start;
    uint64_t *item = job->items + start, *other = job->items + job->room + start;
    make_items(job->dtype, job->descending, job->x, start, n, item);
    if (sort_items(item, other, n, item_bits(job->dtype)) == other) memcpy(item, other, (size_t)n * sizeof *item);
  }
}

typedef struct Merge {
  const Sort *job;
  const uint64_t *from;
  uint64_t *to;
  int64_t width; /* shares that are already merged */
} Merge;

/* How many of the first `count` of two sorted lists together are in the first one. */
static int64_t taken_from_first(const uint64_t *a, int64_t a_count, const uint64_t *b, int64_t b_count, int64_t count) {
  int64_t low = count > b_count ? count - b_count : 0, high = count < a_count ? count : a_count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (a[middle] < b[count - middle - 1]) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* Tasks are shares of the result. */
static void merge_shares(int64_t begin, int64_t end, const void *context) {
  const Merge *merge = context;
  const Sort *job = merge->job;
  for (int64_t share = begin; share < end; share++) {
    int64_t first = share / (2 * merge->width) * 2 * merge->width;
    int64_t start = share_start(job, first), half = share_start(job, first + merge->width),
            stop = share_start(job, first + 2 * merge->width);
    int64_t from = share_start(job, share), to = share_start(job, share + 1);
    const uint64_t *a = merge->from + start, *b = merge->from + half, *a_end = b, *b_end = merge->from + stop;
    int64_t taken = taken_from_first(a, half - start, b, stop - half, from - start);
    a += taken;
    b += from - start - taken;
    for (int64_t i = from; i < to; i++) {
      bool first_list = b == b_end || (a < a_end && *a < *b);
      merge->to[i] = first_list ? *a : *b;
      a += first_list;
      b += !first_list;
    }
  }
}

static void write_share(int64_t begin, int64_t end, const void *context) {
  const Sort *job = context;
  write_row(job, 0, job->sorted, begin, end);
}

/* False where it was stopped. */
static bool sort_long_rows(Sort *job) {
  const Sort whole = *job;
  for (int64_t row = 0; row < whole.rows; row++) {
    job->x = row_of(&whole, row);
    job->positions = whole.positions + row * whole.k;
    if (whole.values) job->values = whole.values + row * whole.k * dtype_size(whole.dtype);
    Merge merge = {.job = job, .from = job->items, .to = job->items + job->room};
    if (!parallel_until(job->stopper, SHARES, job->n / SHARES * 16, sort_shares, job)) return false;
    for (merge.width = 1; merge.width < SHARES; merge.width *= 2) {
      if (!parallel_until(job->stopper, SHARES, job->n / SHARES * 4, merge_shares, &merge)) return false;
      uint64_t *merged = merge.to;
      merge.to = (uint64_t *)merge.from;
      merge.from = merged;
    }
    job->sorted = (uint64_t *)merge.from;
    parallel_for(job->k, 2, write_share, job);
  }
  return true;
}

bool cpu_sort(Tensor *values, Tensor *positions, const Tensor *x, bool descending) {
  Sort job = {
      .x = tensor_data(x),
      .values = values ? tensor_data(values) : NULL,
      .positions = tensor_data(positions),
      .dtype = x->dtype,
      .descending = descending,
      .rows = x->size[0],
      .n = x->size[1],
      .k = positions->size[1],
      .stopper = !values || tensor_stopper(values) ? tensor_stopper(positions) : NULL,
  };
  if (job.rows * job.k == 0) return true;
  bool is_long = job.n >= LONG && job.rows < FEW && job.dtype != DTYPE_I64 && !picks(&job);
  int64_t threads = omp_get_max_threads();
  job.groups = is_long ? 1 : job.rows < threads ? job.rows : threads;
  job.room = picks(&job) && 4 * job.k + 2 * CHUNK < job.n ? 4 * job.k + 2 * CHUNK : job.n;
  size_t bytes = (size_t)(job.groups * job.room) * 2 * sizeof *job.items;
  job.items = scratch_allocate(bytes);
  if (!job.items) return false;
  bool done = is_long ? sort_long_rows(&job)
                      : parallel_until(job.stopper, job.groups, job.rows / job.groups * job.n * 16, sort_groups, &job);
  scratch_release(job.items, bytes);
  return done;
}
