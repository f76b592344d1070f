/* How short messages travel between the hosts' processes, and who does so. */
#ifndef FP8_DISTRIBUTED_CHANNEL_H
#define FP8_DISTRIBUTED_CHANNEL_H

#include <stddef.h>

#include "distributed/distributed.h"

typedef enum Outcome {
  OUTCOME_DONE,
  OUTCOME_LATE,   /* the deadline has passed */
  OUTCOME_GONE,   /* the other process has ended */
  OUTCOME_STOPPED /* this process has been told to end */
} Outcome;

typedef struct Channel {
  /* Joins the others and fills in the group; false with an error. */
  bool (*open)(Group *group, double deadline);
  /* Messages between two ranks arrive in their order, and as long as they were sent. Try at least once. */
  Outcome (*send)(int rank, const void *data, size_t bytes, double deadline);
  Outcome (*receive)(int rank, void *data, size_t bytes, double deadline);
  /* Ends the connection; after a failure, ends all processes that are still there. */
  void (*close)(bool failed);
  /* On CPU tensors, as in the table; NULL in a channel that has none. */
  bool (*all_reduce)(Tensor *x, Reduction reduction);
  bool (*broadcast)(Tensor *x, int source);
  /* x may be this rank's part of out, and out that of x. */
  bool (*all_gather)(Tensor *out, const Tensor *x);
  bool (*reduce_scatter)(Tensor *out, const Tensor *x, Reduction reduction);
  bool (*send_tensor)(const Tensor *x, int rank);
  bool (*receive_tensor)(Tensor *x, int rank);
} Channel;

/* NULL where fp8 was built without MPI. */
const Channel *mpi_channel(void);
const Channel *tcp_channel(void);

/* --- for channels (wait.c) --- */

/* Seconds, from an arbitrary point. */
double clock_seconds(void);

/* One wait: `wait_begin`, then `wait_on` as long as something has not come. */
typedef struct Wait {
  double deadline;
  int turns;
} Wait;
Wait wait_begin(double deadline);
/* OUTCOME_DONE where it is worth to look again; lets others run meanwhile. */
Outcome wait_on(Wait *wait);
void wait_end(void);

/* --- for channels and devices (group.c) --- */

const Group *group_now(void);
/* A borrowed view of this rank's part of the elements of a contiguous tensor. */
Tensor group_part(const Tensor *x);
/* When a call that begins now has to be over. */
double group_deadline(void);
/* error_set, and no call succeeds from now on. */
bool group_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for a transfer that ended so. */
bool group_fail_transfer(Outcome outcome);
/* The message of a channel that all have: from rank 0 to the others. */
bool group_share(void *data, size_t bytes);

/* --- GPUs (nccl.c) --- */

bool nccl_all_reduce(Tensor *x, Reduction reduction);
bool nccl_average(Tensor *const *list, int whole, int count);
bool nccl_join(const Tensor *x);
bool nccl_broadcast(Tensor *x, int source);
bool nccl_broadcast_each(Tensor *const *list, const int *sources, int count);
bool nccl_gather_parts(Tensor *const *list, int count);
bool nccl_all_gather(Tensor *out, const Tensor *x);
bool nccl_reduce_scatter(Tensor *out, const Tensor *x, Reduction reduction);
bool nccl_send(const Tensor *x, int rank);
bool nccl_receive(Tensor *x, int rank);
void nccl_close(bool failed);

#endif
