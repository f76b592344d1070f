/* Running sums and products along a dimension. */
#include "core/order/scan.h"

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

/* What has been added or multiplied so far. */
typedef union Running {
  double sum;
  WideProduct product;
  int64_t integer;
} Running;

enum {
  LANES = 4,       /* runs that go on at once: an addition waits for the one before it, which takes as long as four */
  SLICE = 1 << 15, /* of a long row */
  FEW_ROWS = 16    /* fewer long rows than these are cut into slices */
};

/* Runs of elements, each a slice of a row. */
typedef struct Scan {
  ScanRule rule;
  void *out;
  const void *x;
  DType dtype, out_dtype;
  bool integer;
  int64_t n, inner; /* of a row; columns beside each other, 1 for rows */
  int64_t slices, slice;
  int64_t strips, strip; /* of the columns */
  Running *starts;       /* of each run, or NULL; while their totals are found, where those go */
  bool totals;
} Scan;

static Running nothing_yet(const Scan *job) {
  Running start;
  if (job->integer) {
    start.integer = job->rule.op == SCAN_PROD;
  } else if (job->rule.op == SCAN_SUM) {
    start.sum = 0;
  } else {
    start.product = (WideProduct){1, 0};
  }
  return start;
}

static Running combined(const Scan *job, Running a, Running b) {
  if (job->integer) {
    uint64_t left = (uint64_t)a.integer, right = (uint64_t)b.integer;
    a.integer = (int64_t)(job->rule.op == SCAN_SUM ? left + right : left * right);
  } else if (job->rule.op == SCAN_SUM) {
    a.sum += b.sum;
  } else {
    a.product = multiply_products(a.product, b.product);
  }
  return a;
}

/* What to round to a float dtype in place of doubles. */
VECTORIZE static void narrow(float *restrict out, const double *restrict x, int n, DType dtype) {
  if (dtype == DTYPE_F32) {
    for (int i = 0; i < n; i++) out[i] = (float)x[i];
  } else {
    for (int i = 0; i < n; i++) out[i] = float_to_odd(x[i]);
  }
}

static void store_doubles(const Scan *job, int64_t start, int n, const double *values) {
  float buffer[CHUNK];
  bool direct = job->out_dtype == DTYPE_F32;
  float *narrowed = direct ? (float *)job->out + start : buffer;
  narrow(narrowed, values, n, job->out_dtype);
  if (!direct) store_floats(job->out_dtype, job->out, start, n, narrowed);
}

/* --- rows --- */

/* Where a run's chunk begins that is `done` elements into it, of n. */
static int64_t chunk_start(const Scan *job, int64_t run, int64_t done, int n) {
  int64_t row = run / job->slices, begin = run % job->slices * job->slice + done;
  return row * job->n + (job->rule.reverse ? job->n - begin - n : begin);
}

static int64_t run_length(const Scan *job, int64_t run) {
  int64_t begin = run % job->slices * job->slice;
  return job->n - begin < job->slice ? job->n - begin : job->slice;
}

/* A chunk of each of LANES runs. */
static void add_lanes(const float *const x[LANES], double (*out)[CHUNK], double sum[LANES], int n, bool reverse) {
  double a = sum[0], b = sum[1], c = sum[2], d = sum[3];
  for (int k = 0; k < n; k++) {
    int i = reverse ? n - 1 - k : k;
    out[0][i] = a += x[0][i];
    out[1][i] = b += x[1][i];
    out[2][i] = c += x[2][i];
    out[3][i] = d += x[3][i];
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
}

static double add_floats_up(const float *x, double *out, double sum, int n, bool reverse) {
  for (int k = 0; k < n; k++) {
    int i = reverse ? n - 1 - k : k;
    out[i] = sum += x[i];
  }
  return sum;
}

static WideProduct multiply_up(const float *x, double *out, WideProduct product, int n, bool reverse) {
  for (int k = 0; k < n; k += WIDE_FACTORS) {
    WideProduct next = product;
    for (int f = k; f < k + WIDE_FACTORS && f < n; f++) {
      int i = reverse ? n - 1 - f : f;
      next.fraction *= x[i];
      out[i] = product_value(next);
    }
    product = wide_product(next.fraction, next.exponent);
  }
  return product;
}

static int64_t integers_up(const int64_t *x, int64_t *out, int64_t start, int n, ScanRule rule) {
  uint64_t value = (uint64_t)start;
  for (int k = 0; k < n; k++) {
    int i = rule.reverse ? n - 1 - k : k;
    value = rule.op == SCAN_SUM ? value + (uint64_t)x[i] : value * (uint64_t)x[i];
    out[i] = (int64_t)value;
  }
  return (int64_t)value;
}

static void scan_run(const Scan *job, int64_t run) {
  Running running = job->starts && !job->totals ? job->starts[run] : nothing_yet(job);
  int64_t length = run_length(job, run), integers[CHUNK];
  double doubles[CHUNK];
  float floats[CHUNK];
  for (int64_t done = 0; done < length; done += CHUNK) {
    int n = chunk_length(length, done);
    int64_t start = chunk_start(job, run, done, n);
    if (job->integer) {
      int64_t *out = job->totals ? integers : (int64_t *)job->out + start;
      running.integer =
          integers_up(load_integers(job->dtype, job->x, start, n, integers), out, running.integer, n, job->rule);
      continue;
    }
    const float *x = load_floats(job->dtype, job->x, start, n, floats);
    if (job->rule.op == SCAN_SUM) {
      running.sum = add_floats_up(x, doubles, running.sum, n, job->rule.reverse);
    } else {
      running.product = multiply_up(x, doubles, running.product, n, job->rule.reverse);
    }
    if (!job->totals) store_doubles(job, start, n, doubles);
  }
  if (job->totals) job->starts[run] = running;
}

/* LANES runs of one length, from `run` on: sums of floats. */
static void add_runs(const Scan *job, int64_t run) {
  int64_t length = run_length(job, run);
  double sum[LANES], out[LANES][CHUNK];
  float buffer[LANES][CHUNK];
  for (int k = 0; k < LANES; k++) sum[k] = job->starts && !job->totals ? job->starts[run + k].sum : 0;
  for (int64_t done = 0; done < length; done += CHUNK) {
    int n = chunk_length(length, done);
    int64_t start[LANES];
    const float *x[LANES];
    for (int k = 0; k < LANES; k++) {
      start[k] = chunk_start(job, run + k, done, n);
      x[k] = load_floats(job->dtype, job->x, start[k], n, buffer[k]);
    }
    add_lanes(x, out, sum, n, job->rule.reverse);
    for (int k = 0; k < LANES && !job->totals; k++) store_doubles(job, start[k], n, out[k]);
  }
  for (int k = 0; k < LANES && job->totals; k++) job->starts[run + k].sum = sum[k];
}

static void scan_runs(int64_t begin, int64_t end, const void *context) {
  const Scan *job = context;
  bool adds = !job->integer && job->rule.op == SCAN_SUM;
  int64_t run = begin;
  while (run < end) {
    if (adds && run + LANES <= end && run_length(job, run) == run_length(job, run + LANES - 1)) {
      add_runs(job, run);
      run += LANES;
    } else {
      scan_run(job, run++);
    }
  }
}

/* Totals of slices become what each of them starts from. */
static void start_slices(const Scan *job, int64_t rows) {
  for (int64_t row = 0; row < rows; row++) {
    Running running = nothing_yet(job);
    for (int64_t i = row * job->slices; i < (row + 1) * job->slices; i++) {
      Running total = job->starts[i];
      job->starts[i] = running;
      running = combined(job, running, total);
    }
  }
}

static bool scan_rows(Scan *job, int64_t rows) {
  bool cuts = rows < FEW_ROWS && job->n > 2 * SLICE;
  job->slice = cuts ? SLICE : job->n;
  job->slices = divide_up(job->n, job->slice);
  int64_t runs = rows * job->slices, work = job->slice * 2;
  size_t bytes = cuts ? (size_t)runs * sizeof(Running) : 0;
  if (cuts) {
    job->starts = scratch_allocate(bytes);
    if (!job->starts) return false;
    job->totals = true;
    parallel_for(runs, work, scan_runs, job);
    start_slices(job, rows);
    job->totals = false;
  }
  parallel_for(runs, work, scan_runs, job);
  if (cuts) scratch_release(job->starts, bytes);
  return true;
}

/* --- columns --- */

VECTORIZE static void add_row(double *restrict sum, const float *restrict x, int n) {
  for (int i = 0; i < n; i++) sum[i] += x[i];
}

static void multiply_row(WideProduct *product, double *value, const float *x, int n) {
  for (int i = 0; i < n; i++) {
    product[i] = multiply_products(product[i], wide_product(x[i], 0));
    value[i] = product_value(product[i]);
  }
}

VECTORIZE static void integer_row(int64_t *restrict value, const int64_t *restrict x, int n, ScanOp op) {
  if (op == SCAN_SUM) {
    for (int i = 0; i < n; i++) value[i] = (int64_t)((uint64_t)value[i] + (uint64_t)x[i]);
  } else {
    for (int i = 0; i < n; i++) value[i] = (int64_t)((uint64_t)value[i] * (uint64_t)x[i]);
  }
}

/* A strip of columns of one matrix. */
static void scan_strip(const Scan *job, int64_t outer, int64_t first) {
  int n = (int)(job->inner - first < job->strip ? job->inner - first : job->strip);
  int64_t values[CHUNK], buffer[CHUNK];
  double doubles[CHUNK];
  float floats[CHUNK];
  WideProduct products[CHUNK];
  for (int i = 0; i < n; i++) {
    values[i] = job->rule.op == SCAN_PROD;
    doubles[i] = 0;
    products[i] = (WideProduct){1, 0};
  }
  for (int64_t j = 0; j < job->n; j++) {
    int64_t row = outer * job->n + (job->rule.reverse ? job->n - 1 - j : j), start = row * job->inner + first;
    if (job->integer) {
      integer_row(values, load_integers(job->dtype, job->x, start, n, buffer), n, job->rule.op);
      store_integers(job->out_dtype, job->out, start, n, values);
      continue;
    }
    const float *x = load_floats(job->dtype, job->x, start, n, floats);
    if (job->rule.op == SCAN_SUM) {
      add_row(doubles, x, n);
    } else {
      multiply_row(products, doubles, x, n);
    }
    store_doubles(job, start, n, doubles);
  }
}

static void scan_strips(int64_t begin, int64_t end, const void *context) {
  const Scan *job = context;
  for (int64_t task = begin; task < end; task++) {
    scan_strip(job, task / job->strips, task % job->strips * job->strip);
  }
}

static void scan_columns(Scan *job, int64_t outer) {
  job->strip = outer * job->inner < 16 * CHUNK ? 64 : CHUNK;
  job->strips = divide_up(job->inner, job->strip);
  int64_t width = job->inner < job->strip ? job->inner : job->strip;
  parallel_for(outer * job->strips, job->n * width, scan_strips, job);
}

bool cpu_scan(Tensor *out, const Tensor *x, ScanRule rule) {
  if (tensor_count(x) == 0) return true;
  Scan job = {
      .rule = rule,
      .out = tensor_data(out),
      .x = tensor_data(x),
      .dtype = x->dtype,
      .out_dtype = out->dtype,
      .integer = dtype_is_integer(x->dtype),
      .n = x->size[1],
      .inner = x->size[2],
  };
  if (job.inner == 1) return scan_rows(&job, x->size[0]);
  scan_columns(&job, x->size[0]);
  return true;
}
