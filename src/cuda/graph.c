/* Graphs, captured from the one stream of a device. */
#include <pthread.h>

#include "cuda/cuda.h"

/* --- captures and calls that they do not survive ---
 *
 * Threads with a state each capture on streams of their own, but a call that waits for the whole device ends the captures
 * of all. Such calls wait for the captures under way, and captures that are to begin wait for them. */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static int captures, device_calls;
static _Thread_local bool captures_here;

static void enter(int *own, const int *others) {
  pthread_mutex_lock(&gate);
  while (*others > 0) pthread_cond_wait(&gate_changed, &gate);
  ++*own;
  pthread_mutex_unlock(&gate);
}

static void leave(int *own) {
  pthread_mutex_lock(&gate);
  --*own;
  pthread_cond_broadcast(&gate_changed);
  pthread_mutex_unlock(&gate);
}

void cuda_enter_device_call(void) {
  if (!captures_here) enter(&device_calls, &captures);
}

void cuda_leave_device_call(void) {
  if (!captures_here) leave(&device_calls);
}

static void end_capturing(CudaDevice *device) {
  if (!device->capturing) return;
  device->capturing = captures_here = false;
  leave(&captures);
}

/* --- graphs --- */

bool cuda_capture_prepare(int index, bool preparing) {
  CudaDevice *device = cuda_device(index);
  if (device) device->preparing = preparing;
  return device != NULL;
}

/* What is allocated, freed or uploaded during a capture goes to the side stream: the mode is relaxed so that it may.
 * The device is idle then, so nothing has to be ordered after earlier work. */
bool cuda_capture_begin(int index) {
  CudaDevice *device = cuda_device(index);
  if (!device) return false;
  device->preparing = false;
  if (!device->side &&
      !cuda_check(cudaStreamCreateWithFlags(&device->side, cudaStreamNonBlocking), "cudaStreamCreateWithFlags")) {
    return false;
  }
  if (!cuda_synchronize(index)) return false;
  enter(&captures, &device_calls);
  device->capturing = captures_here = true;
  if (cuda_check(cudaStreamBeginCapture(device->launch.stream, cudaStreamCaptureModeRelaxed),
                 "cudaStreamBeginCapture")) {
    return true;
  }
  end_capturing(device);
  return false;
}

bool cuda_capture_end(int index, void **graph) {
  CudaDevice *device = cuda_device(index);
  if (!device) return false;
  cudaGraph_t captured = NULL;
  cudaGraphExec_t executable = NULL;
  bool ended = cuda_check(cudaStreamEndCapture(device->launch.stream, &captured), "cudaStreamEndCapture");
  end_capturing(device);
  ended = cuda_check(cudaStreamSynchronize(device->side), "cudaStreamSynchronize") && ended;
  if (ended && graph) {
    ended = cuda_check(cudaGraphInstantiate(&executable, captured, 0), "cudaGraphInstantiate") &&
            cuda_check(cudaGraphUpload(executable, device->launch.stream), "cudaGraphUpload");
  }
  if (captured) cudaGraphDestroy(captured);
  if (!ended && executable) {
    cudaGraphExecDestroy(executable);
    executable = NULL;
  }
  if (executable) device->graphs++;
  if (graph) *graph = executable;
  if (device->graphs == 0) cuda_release_retired_maps(device);
  return ended;
}

bool cuda_graph_launch(int index, void *graph) {
  CudaDevice *device = cuda_device(index);
  return device && cuda_launched(device, cudaGraphLaunch(graph, device->launch.stream), "cudaGraphLaunch");
}

/* A replay that still runs goes on to its end. */
void cuda_graph_release(int index, void *graph) {
  CudaDevice *device = cuda_device(index);
  if (!device) return;
  cuda_check(cudaGraphExecDestroy(graph), "cudaGraphExecDestroy");
  device->graphs--;
  if (device->graphs == 0 && !device->capturing) cuda_release_retired_maps(device);
}
