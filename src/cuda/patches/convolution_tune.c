/* The fastest of the engines for a convolution, found by trying, as matmul/tune.c does: of float32 the heuristic's first is
 * often not it. */
#include <time.h>

#include "cuda/patches/convolution_engine.h"

enum { RUNS = 3 };

static const double budget = 100;      /* ms of the host's time for one convolution, but for what was begun */
static const double worthwhile = 0.97; /* of the first choice's time: less than that is noise */

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

/* Milliseconds of several runs after a first one, which may load the kernel; negative where one fails. */
static double measure(const ConvolutionRun *run, const ConvolutionChoice *choice, cudaEvent_t start, cudaEvent_t end) {
  cudaStream_t stream = run->device->launch.stream;
  float elapsed;
  if (!convolution_execute(run, choice) || cudaEventRecord(start, stream) != cudaSuccess) return -1;
  for (int i = 0; i < RUNS; i++) {
    if (!convolution_execute(run, choice)) return -1;
  }
  if (cudaEventRecord(end, stream) != cudaSuccess || cudaEventSynchronize(end) != cudaSuccess ||
      cudaEventElapsedTime(&elapsed, start, end) != cudaSuccess) {
    return -1;
  }
  return elapsed;
}

/* The position of the fastest choice. */
static int fastest(const ConvolutionRun *run, ConvolutionEngine *engine, cudaEvent_t start, cudaEvent_t end) {
  double begun = now(), first = measure(run, &engine->choices[0], start, end), least = first * worthwhile;
  int best = 0;
  for (int i = 1; first > 0 && i < engine->count && now() - begun < budget; i++) {
    ConvolutionChoice *choice = &engine->choices[i];
    double time = convolution_choice_plan(run, choice) ? measure(run, choice, start, end) : -1;
    if (time < 0) cudaGetLastError();
    if (time < 0 || time >= least) continue;
    least = time;
    best = i;
  }
  return best;
}

void convolution_tune(const ConvolutionRun *run, ConvolutionEngine *engine) {
  cudaEvent_t start, end;
  engine->tuned = true;
  if (engine->count < 2 || cudaEventCreate(&start) != cudaSuccess) return;
  if (cudaEventCreate(&end) == cudaSuccess) {
    cuda_enter_device_call();
    int best = fastest(run, engine, start, end);
    cuda_leave_device_call();
    ConvolutionChoice chosen = engine->choices[best];
    engine->choices[best] = engine->choices[0];
    engine->choices[0] = chosen;
    while (engine->count > 1) convolution_choice_release(run->cudnn, &engine->choices[--engine->count]);
    cudaEventDestroy(end);
  }
  cudaEventDestroy(start);
}
