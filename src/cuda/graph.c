/* Graphs, captured from the one stream of a device. */
#include "cuda/cuda.h"

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
  device->capturing =
      cuda_check(cudaStreamBeginCapture(device->launch.stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  return device->capturing;
}

bool cuda_capture_end(int index, void **graph) {
  CudaDevice *device = cuda_device(index);
  if (!device) return false;
  cudaGraph_t captured = NULL;
  cudaGraphExec_t executable = NULL;
  bool ended = cuda_check(cudaStreamEndCapture(device->launch.stream, &captured), "cudaStreamEndCapture");
  device->capturing = false;
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
