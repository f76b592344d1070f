/* The fastest of cuBLASLt's algorithms for a product, found by trying: the heuristic's first is often not it. 8192 x
 * 16384 x 4096 in e4m3 ran at 1,139 TFLOP/s with the first of eight and at 1,486 with the best on an H100. */
#include <time.h>

#include "cuda/matmul/product_plan.h"

enum { CANDIDATES = 8, RUNS_MOST = 8, HEAD_STARTS = 6, REPEATS = 3 };

static const double budget = 25;       /* ms of the host's time for one product */
static const double sample_time = 0.1; /* ms; of products that take less, a sample is several runs */
static const double worthwhile = 0.97; /* of the first candidate's time: less than that is noise */

bool product_tuning_is_on(void) {
  static int on = -1;
  if (on < 0) on = cuda_setting("FP8_TUNE", true);
  return on;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

/* Milliseconds of one run, the mean of several in a row; negative where it fails. Products that take the device less
 * time than the host get a head start: the device clears the workspace while the host enqueues them. What that takes
 * the host is the bound of eager steps then, and some algorithms take it twice as long as others, so it counts too. */
static double sample(const ProductRun *run, const cublasLtMatmulAlgo_t *algorithm, int runs, cudaEvent_t start,
                     cudaEvent_t end) {
  float elapsed;
  double host = 0;
  for (int i = 0; runs > 1 && i < HEAD_STARTS; i++) {
    if (cudaMemsetAsync(run->workspace, 0, product_workspace_bytes, run->stream) != cudaSuccess) return -1;
  }
  if (cudaEventRecord(start, run->stream) != cudaSuccess) return -1;
  if (runs == RUNS_MOST) host = -now();
  for (int i = 0; i < runs; i++) {
    if (product_enqueue(run, algorithm) != CUBLAS_STATUS_SUCCESS) return -1;
  }
  if (runs == RUNS_MOST) host += now();
  if (cudaEventRecord(end, run->stream) != cudaSuccess || cudaEventSynchronize(end) != cudaSuccess ||
      cudaEventElapsedTime(&elapsed, start, end) != cudaSuccess) {
    return -1;
  }
  return (elapsed + host) / runs;
}

/* Milliseconds of one run of a candidate: its second one, since the first may load the kernel, or a mean where that is
 * short. */
static double measure(const ProductRun *run, const cublasLtMatmulAlgo_t *algorithm, cudaEvent_t start,
                      cudaEvent_t end) {
  double first = sample(run, algorithm, 1, start, end);
  double time = first < 0 ? first : sample(run, algorithm, 1, start, end);
  if (time < 0 || time >= sample_time) return time;
  int runs = time * RUNS_MOST < sample_time ? RUNS_MOST : 2;
  double least = sample(run, algorithm, runs, start, end);
  for (int i = 1; i < REPEATS && runs == RUNS_MOST && least >= 0; i++) {
    time = sample(run, algorithm, runs, start, end);
    if (time < least) least = time;
  }
  return least;
}

/* The position of the fastest candidate. */
static int fastest(const ProductRun *run, const cublasLtMatmulHeuristicResult_t *results, int found, cudaEvent_t start,
                   cudaEvent_t end) {
  double time[CANDIDATES], begun = now();
  int best = 0;
  time[0] = 1e30; /* stays so if the first can't be run */
  for (int i = 0; i < found && (i < 2 || now() - begun < budget); i++) {
    double measured = results[i].state == CUBLAS_STATUS_SUCCESS ? measure(run, &results[i].algo, start, end) : -1;
    if (measured < 0) {
      cudaGetLastError();
      continue;
    }
    time[i] = measured;
    if (time[i] < time[best]) best = i;
  }
  return time[best] < worthwhile * time[0] ? best : 0;
}

void product_tune(const ProductRun *run) {
  cublasLtMatmulHeuristicResult_t results[CANDIDATES];
  cudaEvent_t start, end;
  int found;
  run->plan->tuned = true;
  if (!product_plan_candidates(run->plan, run->handle, CANDIDATES, results, &found) || found < 2) return;
  if (cudaEventCreate(&start) != cudaSuccess) return;
  if (cudaEventCreate(&end) == cudaSuccess) {
    run->plan->algorithm = results[fastest(run, results, found, start, end)].algo;
    cudaEventDestroy(end);
  }
  cudaEventDestroy(start);
}
