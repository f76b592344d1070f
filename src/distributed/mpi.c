/* MPI: how processes that mpirun has started exchange messages, and what they compute together on the CPU. No call waits
 * inside of MPI: each is asked again and again whether it is done, so that it can be given up. */
#include "distributed/channel.h"

#ifndef FP8_MPI

const Channel *mpi_channel(void) { return NULL; }

#else

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "core/formats/float_formats.h"
#include "core/memory.h"

enum { TAG_MESSAGE = 1, TAG_TENSOR = 2 };

static MPI_Comm everyone = MPI_COMM_NULL;

static bool check(int code, const char *call) {
  if (code == MPI_SUCCESS) return true;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return group_fail("%s: %.*s", call, length, text);
}

static Outcome wait_for(MPI_Request *request, double deadline) {
  Wait wait = wait_begin(deadline);
  for (;;) {
    int done = 0;
    if (MPI_Test(request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return OUTCOME_GONE;
    if (done) return OUTCOME_DONE;
    Outcome outcome = wait_on(&wait);
    if (outcome != OUTCOME_DONE) return outcome;
  }
}

/* --- the channel --- */

/* Which of the processes on this machine this one is. */
static int local_rank(void) {
  MPI_Comm neighbours;
  int rank = 0;
  if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &neighbours) != MPI_SUCCESS) return 0;
  MPI_Comm_rank(neighbours, &rank);
  MPI_Comm_free(&neighbours);
  return rank;
}

static bool mpi_open(Group *group, double deadline) {
  (void)deadline;
  int initialized = 0, level = 0;
  MPI_Initialized(&initialized);
  if (!initialized && !check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread")) return false;
  if (!check(MPI_Comm_dup(MPI_COMM_WORLD, &everyone), "MPI_Comm_dup")) return false;
  MPI_Comm_set_errhandler(everyone, MPI_ERRORS_RETURN);
  MPI_Comm_rank(everyone, &group->rank);
  MPI_Comm_size(everyone, &group->size);
  group->local_rank = local_rank();
  group->medium = "MPI";
  return true;
}

/* A message is short enough for MPI to keep it where the other is late; one that is given up is not waited for. */
static Outcome mpi_send(int rank, const void *data, size_t bytes, double deadline) {
  MPI_Request request;
  if (MPI_Isend(data, (int)bytes, MPI_BYTE, rank, TAG_MESSAGE, everyone, &request) != MPI_SUCCESS) return OUTCOME_GONE;
  return wait_for(&request, deadline);
}

static Outcome mpi_receive(int rank, void *data, size_t bytes, double deadline) {
  MPI_Request request;
  if (MPI_Irecv(data, (int)bytes, MPI_BYTE, rank, TAG_MESSAGE, everyone, &request) != MPI_SUCCESS) return OUTCOME_GONE;
  Outcome outcome = wait_for(&request, deadline);
  if (outcome != OUTCOME_DONE && request != MPI_REQUEST_NULL) {
    MPI_Cancel(&request);
    MPI_Wait(&request, MPI_STATUS_IGNORE); /* of a receive that is cancelled: at once */
  }
  return outcome;
}

static void mpi_close(bool failed) {
  if (failed) MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Finalize();
}

/* --- elements --- */

/* What moves an element as it is. */
static MPI_Datatype bytes_type(DType dtype) {
  switch (dtype_size(dtype)) {
  case 1:
    return MPI_UINT8_T;
  case 2:
    return MPI_UINT16_T;
  case 4:
    return MPI_UINT32_T;
  }
  return MPI_UINT64_T; /* 8 */
}

/* What sums are computed in; float8 tensors have none. */
static MPI_Datatype sum_type(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
  case DTYPE_E4M3:
  case DTYPE_E5M2:
    return MPI_FLOAT;
  case DTYPE_U8:
    return MPI_UINT8_T;
  case DTYPE_I32:
    return MPI_INT32_T;
  case DTYPE_I64:
    return MPI_INT64_T;
  }
  trap_missing_case();
}

static void largest_float(void *in, void *out, int *count, MPI_Datatype *type) {
  (void)type;
  const float *a = in;
  float *b = out;
  for (int i = 0; i < *count; i++) b[i] = a[i] > b[i] || a[i] != a[i] ? a[i] : b[i];
}

static void smallest_float(void *in, void *out, int *count, MPI_Datatype *type) {
  (void)type;
  const float *a = in;
  float *b = out;
  for (int i = 0; i < *count; i++) b[i] = a[i] < b[i] || a[i] != a[i] ? a[i] : b[i];
}

/* Of floating-point numbers: a NaN is passed on, which MPI's own need not do. */
static MPI_Op float_operation(MPI_Op *made, MPI_User_function *function) {
  if (*made == MPI_OP_NULL) MPI_Op_create(function, 1, made);
  return *made;
}

static MPI_Op operation_of(Reduction reduction, MPI_Datatype type) {
  static MPI_Op largest = MPI_OP_NULL, smallest = MPI_OP_NULL;
  switch (reduction) {
  case REDUCTION_SUM:
  case REDUCTION_MEAN:
    return MPI_SUM;
  case REDUCTION_PRODUCT:
    return MPI_PROD;
  case REDUCTION_MAX:
    return type == MPI_FLOAT ? float_operation(&largest, largest_float) : MPI_MAX;
  case REDUCTION_MIN:
    return type == MPI_FLOAT ? float_operation(&smallest, smallest_float) : MPI_MIN;
  }
  trap_missing_case();
}

static bool is_16_bit(DType dtype) { return dtype == DTYPE_F16 || dtype == DTYPE_BF16; }

static void widen(float *out, const Tensor *x) {
  const uint16_t *element = tensor_data(x);
  for (int64_t i = 0; i < tensor_count(x); i++) {
    out[i] = x->dtype == DTYPE_F16 ? f16_to_float(element[i]) : bf16_to_float(element[i]);
  }
}

static void narrow(Tensor *out, const float *x) {
  uint16_t *element = tensor_data(out);
  for (int64_t i = 0; i < tensor_count(out); i++) {
    element[i] = out->dtype == DTYPE_F16 ? f16_from_float(x[i]) : bf16_from_float(x[i]);
  }
}

static void divide(float *x, int64_t count) {
  float ranks = (float)group_now()->size;
  for (int64_t i = 0; i < count; i++) x[i] /= ranks;
}

/* --- collectives --- */

static bool count_fits(const Tensor *x) {
  return tensor_count(x) <= INT32_MAX ||
         error_set("MPI takes up to %d elements, this tensor has %lld", INT32_MAX, (long long)tensor_count(x));
}

/* Waits for a transfer. Where it is given up MPI may still write to the tensors: they keep their memory for ever. */
static bool finish_transfer(int code, MPI_Request *request, const char *call, const Tensor *a, const Tensor *b) {
  if (!check(code, call)) return false;
  Outcome outcome = wait_for(request, group_deadline());
  wait_end();
  if (outcome == OUTCOME_DONE) return true;
  Tensor kept;
  tensor_share(&kept, a);
  tensor_share(&kept, b);
  return group_fail_transfer(outcome);
}

/* Reduces `x`, of `total` elements in the type of sums, into its first `count` elements here: all of them, or this
 * rank's share. */
static bool reduce(void *out, void *x, int64_t count, bool share, DType dtype, Reduction reduction, const Tensor *a,
                   const Tensor *b) {
  MPI_Datatype type = sum_type(dtype);
  MPI_Op operation = operation_of(reduction, type);
  MPI_Request request;
  int code = share ? MPI_Ireduce_scatter_block(x, out, (int)count, type, operation, everyone, &request)
                   : MPI_Iallreduce(MPI_IN_PLACE, out, (int)count, type, operation, everyone, &request);
  if (!finish_transfer(code, &request, share ? "MPI_Ireduce_scatter_block" : "MPI_Iallreduce", a, b)) return false;
  if (reduction == REDUCTION_MEAN) divide(out, count);
  return true;
}

static bool mpi_all_reduce(Tensor *x, Reduction reduction) {
  int64_t count = tensor_count(x);
  if (!count_fits(x)) return false;
  if (count == 0) return true;
  if (!is_16_bit(x->dtype)) return reduce(tensor_data(x), NULL, count, false, x->dtype, reduction, x, x);
  float *wide = host_allocate((size_t)count * sizeof *wide);
  if (!wide) return false;
  widen(wide, x);
  bool done = reduce(wide, NULL, count, false, x->dtype, reduction, x, x);
  if (!done) return false; /* MPI may still write there */
  narrow(x, wide);
  free(wide);
  return true;
}

static bool mpi_reduce_scatter(Tensor *out, const Tensor *x, Reduction reduction) {
  int64_t total = tensor_count(x), count = tensor_count(out);
  if (!count_fits(x)) return false;
  if (total == 0) return true;
  if (!is_16_bit(x->dtype) && out->storage != x->storage) {
    return reduce(tensor_data(out), tensor_data(x), count, true, x->dtype, reduction, out, x);
  }
  if (!is_16_bit(x->dtype)) { /* MPI writes to no part of what it reads */
    Tensor apart;
    if (!tensor_create_like(&apart, out, x->dtype)) return false;
    bool done = reduce(tensor_data(&apart), tensor_data(x), count, true, x->dtype, reduction, &apart, x);
    if (done) memcpy(tensor_data(out), tensor_data(&apart), (size_t)count * dtype_size(x->dtype));
    tensor_release(&apart);
    return done;
  }
  float *wide = host_allocate((size_t)(total + count) * sizeof *wide);
  if (!wide) return false;
  widen(wide, x);
  if (!reduce(wide + total, wide, count, true, x->dtype, reduction, out, x)) return false;
  narrow(out, wide + total);
  free(wide);
  return true;
}

static bool mpi_broadcast(Tensor *x, int source) {
  if (!count_fits(x)) return false;
  MPI_Request request;
  int code = MPI_Ibcast(tensor_data(x), (int)tensor_count(x), bytes_type(x->dtype), source, everyone, &request);
  return finish_transfer(code, &request, "MPI_Ibcast", x, x);
}

static bool mpi_all_gather(Tensor *out, const Tensor *x) {
  if (!count_fits(out)) return false;
  int count = (int)tensor_count(x);
  MPI_Datatype type = bytes_type(x->dtype);
  MPI_Request request;
  const void *own = tensor_data(x),
             *in_place = (char *)tensor_data(out) + group_now()->rank * count * dtype_size(x->dtype);
  int code = MPI_Iallgather(own == in_place ? MPI_IN_PLACE : own, count, type, tensor_data(out), count, type, everyone,
                            &request);
  return finish_transfer(code, &request, "MPI_Iallgather", out, x);
}

static bool mpi_send_tensor(const Tensor *x, int rank) {
  if (!count_fits(x)) return false;
  MPI_Request request;
  int code =
      MPI_Isend(tensor_data(x), (int)tensor_count(x), bytes_type(x->dtype), rank, TAG_TENSOR, everyone, &request);
  return finish_transfer(code, &request, "MPI_Isend", x, x);
}

static bool mpi_receive_tensor(Tensor *x, int rank) {
  if (!count_fits(x)) return false;
  MPI_Request request;
  int code =
      MPI_Irecv(tensor_data(x), (int)tensor_count(x), bytes_type(x->dtype), rank, TAG_TENSOR, everyone, &request);
  return finish_transfer(code, &request, "MPI_Irecv", x, x);
}

const Channel *mpi_channel(void) {
  static const Channel channel = {
      .open = mpi_open,
      .send = mpi_send,
      .receive = mpi_receive,
      .close = mpi_close,
      .all_reduce = mpi_all_reduce,
      .broadcast = mpi_broadcast,
      .all_gather = mpi_all_gather,
      .reduce_scatter = mpi_reduce_scatter,
      .send_tensor = mpi_send_tensor,
      .receive_tensor = mpi_receive_tensor,
  };
  return &channel;
}

#endif
