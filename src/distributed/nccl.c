/* NCCL: what GPUs compute together. Its library is loaded when it is first needed, FP8_NCCL or libnccl.so.2; each process
 * works with one GPU, on the stream where the rest of its work is, so that collectives may be part of a graph. */
#define _GNU_SOURCE /* dladdr */
#include "distributed/channel.h"

#ifndef FP8_NCCL

static bool refuse(void) { return error_set("fp8 was built without NCCL, which tensors on GPUs need"); }

bool nccl_all_reduce(Tensor *x, Reduction reduction) {
  (void)x, (void)reduction;
  return refuse();
}
bool nccl_average(Tensor *const *list, int whole, int count) {
  (void)list, (void)whole, (void)count;
  return refuse();
}
bool nccl_gather_parts(Tensor *const *list, int count) {
  (void)list, (void)count;
  return refuse();
}
bool nccl_join(const Tensor *x) {
  (void)x;
  return refuse();
}
bool nccl_broadcast(Tensor *x, int source) {
  (void)x, (void)source;
  return refuse();
}
bool nccl_broadcast_each(Tensor *const *list, const int *sources, int count) {
  (void)list, (void)sources, (void)count;
  return refuse();
}
bool nccl_all_gather(Tensor *out, const Tensor *x) {
  (void)out, (void)x;
  return refuse();
}
bool nccl_reduce_scatter(Tensor *out, const Tensor *x, Reduction reduction) {
  (void)out, (void)x, (void)reduction;
  return refuse();
}
bool nccl_send(const Tensor *x, int rank) {
  (void)x, (void)rank;
  return refuse();
}
bool nccl_receive(Tensor *x, int rank) {
  (void)x, (void)rank;
  return refuse();
}
void nccl_close(bool failed) { (void)failed; }

#else

#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The functions of the library that are used, each under its own name. */
static struct {
  __typeof__(ncclGetUniqueId) *get_unique_id;
  __typeof__(ncclCommInitRank) *comm_init_rank;
  __typeof__(ncclCommDestroy) *comm_destroy;
  __typeof__(ncclCommAbort) *comm_abort;
  __typeof__(ncclGetErrorString) *get_error_string;
  __typeof__(ncclGroupStart) *group_start;
  __typeof__(ncclGroupEnd) *group_end;
  __typeof__(ncclAllReduce) *all_reduce;
  __typeof__(ncclBroadcast) *broadcast;
  __typeof__(ncclAllGather) *all_gather;
  __typeof__(ncclReduceScatter) *reduce_scatter;
  __typeof__(ncclSend) *send;
  __typeof__(ncclRecv) *receive;
} nccl;

/* Those of cuda/beside.c. */
static struct {
  void *(*stream)(int index);
  void *(*fork)(int index);
  bool (*join)(int index);
} cuda;

static ncclComm_t communicator;
static int communicator_device;

/* --- opening --- */

static bool find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  memcpy(function, &symbol, sizeof symbol);
  return symbol || error_set("there is no %s: the library is of another version", name);
}

static bool load(void) {
  static bool loaded;
  if (loaded) return true;
  const char *path = getenv("FP8_NCCL");
  void *library = dlopen(path ? path : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return error_set("NCCL can't be loaded, which tensors on GPUs need (FP8_NCCL may name it): %s", dlerror());
  loaded =
      find(library, "ncclGetUniqueId", &nccl.get_unique_id) &&
      find(library, "ncclCommInitRank", &nccl.comm_init_rank) && find(library, "ncclCommDestroy", &nccl.comm_destroy) &&
      find(library, "ncclCommAbort", &nccl.comm_abort) && find(library, "ncclGetErrorString", &nccl.get_error_string) &&
      find(library, "ncclGroupStart", &nccl.group_start) && find(library, "ncclGroupEnd", &nccl.group_end) &&
      find(library, "ncclAllReduce", &nccl.all_reduce) && find(library, "ncclBroadcast", &nccl.broadcast) &&
      find(library, "ncclAllGather", &nccl.all_gather) && find(library, "ncclReduceScatter", &nccl.reduce_scatter) &&
      find(library, "ncclSend", &nccl.send) && find(library, "ncclRecv", &nccl.receive);
  return loaded;
}

/* The CUDA backend, which is loaded, lies beside this library. */
static bool find_streams(void) {
  if (cuda.stream) return true;
  Dl_info own;
  char path[4096] = "";
  if (dladdr((void *)&communicator, &own) != 0) snprintf(path, sizeof path, "%s", own.dli_fname);
  char *name = strrchr(path, '/');
  if (name) snprintf(name, sizeof path - (size_t)(name - path), "/cuda.so");
  void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (!library) return error_set("%s is not loaded", path);
  return find(library, "fp8_cuda_fork", &cuda.fork) && find(library, "fp8_cuda_join", &cuda.join) &&
         find(library, "fp8_cuda_stream", &cuda.stream);
}

static bool check(ncclResult_t result, const char *call) {
  return result == ncclSuccess || group_fail("%s: %s", call, nccl.get_error_string(result));
}

/* What rank 0 sends to the others, who have to know it where it could not make an id. */
typedef struct Invitation {
  int valid;
  ncclUniqueId id;
} Invitation;

static bool open_communicator(int device) {
  Invitation invitation;
  memset(&invitation, 0, sizeof invitation);
  bool ready = load() && find_streams() && cuda.stream(device);
  if (group_now()->rank == 0 && ready) invitation.valid = nccl.get_unique_id(&invitation.id) == ncclSuccess;
  if (!group_share(&invitation, sizeof invitation)) return false;
  if (!ready) return false;
  if (!invitation.valid) return error_set("rank 0 can't use NCCL");
  const Group *group = group_now();
  communicator_device = device;
  return check(nccl.comm_init_rank(&communicator, group->size, invitation.id, group->rank), "ncclCommInitRank");
}

/* The stream of a tensor's device, whose communicator is opened first; NULL with an error. */
static cudaStream_t stream_for(const Tensor *x) {
  int device = tensor_device(x).index;
  if (!communicator && !open_communicator(device)) return NULL;
  if (device != communicator_device) {
    error_set("this rank works with cuda:%d, the tensor is on cuda:%d", communicator_device, device);
    return NULL;
  }
  return cuda.stream(device);
}

/* The stream of the one device that all tensors of a list are on; NULL with an error. */
static cudaStream_t stream_for_each(Tensor *const *list, int count) {
  cudaStream_t stream = NULL;
  for (int i = 0; i < count; i++) {
    stream = stream_for(list[i]);
    if (!stream) return NULL;
  }
  return stream;
}

void nccl_close(bool failed) {
  if (!communicator) return;
  if (failed) nccl.comm_abort(communicator);
  communicator = NULL; /* else the process ends, and the driver is gone before all that it should be told */
}

/* --- types --- */

/* What moves an element as it is. */
static ncclDataType_t bytes_type(DType dtype) {
  switch (dtype_size(dtype)) {
  case 1:
    return ncclUint8;
  case 2:
    return ncclFloat16;
  case 4:
    return ncclUint32;
  }
  return ncclUint64; /* 8 */
}

/* What sums are computed in; float8 tensors have none. */
static ncclDataType_t sum_type(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
    return ncclFloat32;
  case DTYPE_F16:
    return ncclFloat16;
  case DTYPE_BF16:
    return ncclBfloat16;
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
    return ncclUint8;
  case DTYPE_I32:
    return ncclInt32;
  case DTYPE_I64:
    return ncclInt64;
  }
  trap_missing_case();
}

static ncclRedOp_t operation_of(Reduction reduction) {
  switch (reduction) {
  case REDUCTION_SUM:
    return ncclSum;
  case REDUCTION_MEAN:
    return ncclAvg;
  case REDUCTION_MAX:
    return ncclMax;
  case REDUCTION_MIN:
    return ncclMin;
  case REDUCTION_PRODUCT:
    return ncclProd;
  }
  trap_missing_case();
}

/* --- the table's functions --- */

static bool reduce_on(cudaStream_t stream, Tensor *x, Reduction reduction) {
  void *data = tensor_data(x);
  return check(nccl.all_reduce(data, data, (size_t)tensor_count(x), sum_type(x->dtype), operation_of(reduction),
                               communicator, stream),
               "ncclAllReduce");
}

bool nccl_all_reduce(Tensor *x, Reduction reduction) {
  cudaStream_t stream = stream_for(x);
  return stream && reduce_on(stream, x, reduction);
}

/* Of this rank's part of x only. */
static bool reduce_part_on(cudaStream_t stream, Tensor *x, Reduction reduction) {
  Tensor part = group_part(x);
  return check(nccl.reduce_scatter(tensor_data(x), tensor_data(&part), (size_t)tensor_count(&part), sum_type(x->dtype),
                                   operation_of(reduction), communicator, stream),
               "ncclReduceScatter");
}

bool nccl_average(Tensor *const *list, int whole, int count) {
  cudaStream_t stream = stream_for_each(list, count) ? cuda.fork(communicator_device) : NULL;
  if (!stream || !check(nccl.group_start(), "ncclGroupStart")) return false;
  bool done = true;
  for (int i = 0; i < count && done; i++) {
    done = i < whole ? reduce_on(stream, list[i], REDUCTION_MEAN) : reduce_part_on(stream, list[i], REDUCTION_MEAN);
  }
  return check(nccl.group_end(), "ncclGroupEnd") && done;
}

bool nccl_join(const Tensor *x) { return stream_for(x) && cuda.join(communicator_device); }

static bool broadcast_on(cudaStream_t stream, Tensor *x, int source) {
  void *data = tensor_data(x);
  return check(nccl.broadcast(data, data, (size_t)tensor_count(x), bytes_type(x->dtype), source, communicator, stream),
               "ncclBroadcast");
}

bool nccl_broadcast(Tensor *x, int source) {
  cudaStream_t stream = stream_for(x);
  return stream && broadcast_on(stream, x, source);
}

bool nccl_broadcast_each(Tensor *const *list, const int *sources, int count) {
  cudaStream_t stream = stream_for_each(list, count);
  if (!stream || !check(nccl.group_start(), "ncclGroupStart")) return false;
  bool done = true;
  for (int i = 0; i < count && done; i++) done = broadcast_on(stream, list[i], sources[i]);
  return check(nccl.group_end(), "ncclGroupEnd") && done;
}

static bool gather_on(cudaStream_t stream, Tensor *out, const Tensor *x) {
  return check(nccl.all_gather(tensor_data(x), tensor_data(out), (size_t)tensor_count(x), bytes_type(x->dtype),
                               communicator, stream),
               "ncclAllGather");
}

bool nccl_gather_parts(Tensor *const *list, int count) {
  cudaStream_t stream = stream_for_each(list, count);
  if (!stream || !check(nccl.group_start(), "ncclGroupStart")) return false;
  bool done = true;
  for (int i = 0; i < count && done; i++) {
    Tensor part = group_part(list[i]);
    done = gather_on(stream, list[i], &part);
  }
  return check(nccl.group_end(), "ncclGroupEnd") && done;
}

bool nccl_all_gather(Tensor *out, const Tensor *x) {
  cudaStream_t stream = stream_for(x);
  return stream && gather_on(stream, out, x);
}

bool nccl_reduce_scatter(Tensor *out, const Tensor *x, Reduction reduction) {
  cudaStream_t stream = stream_for(x);
  return stream && check(nccl.reduce_scatter(tensor_data(x), tensor_data(out), (size_t)tensor_count(out),
                                             sum_type(x->dtype), operation_of(reduction), communicator, stream),
                         "ncclReduceScatter");
}

/* Where only two ranks take part, the others can't be asked to join. */
static cudaStream_t stream_for_two(const Tensor *x) {
  if (communicator || group_now()->size == 2) return stream_for(x);
  error_set("the first call with tensors on GPUs has to be one that all ranks make, such as all_reduce_");
  return NULL;
}

bool nccl_send(const Tensor *x, int rank) {
  cudaStream_t stream = stream_for_two(x);
  return stream &&
         check(nccl.send(tensor_data(x), (size_t)tensor_count(x), bytes_type(x->dtype), rank, communicator, stream),
               "ncclSend");
}

bool nccl_receive(Tensor *x, int rank) {
  cudaStream_t stream = stream_for_two(x);
  return stream &&
         check(nccl.receive(tensor_data(x), (size_t)tensor_count(x), bytes_type(x->dtype), rank, communicator, stream),
               "ncclRecv");
}

#endif
