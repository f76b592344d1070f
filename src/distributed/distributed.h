/* The table of what the processes of one run do together.
 *
 * Every process has a rank, from 0. A collective is called by all of them, with tensors of the same shapes and dtypes;
 * `agree` makes sure of that before anything is sent. Tensors are contiguous. A function returns false after error_set;
 * where processes have lost one another, all later calls fail for the same reason. On a GPU work is enqueued, in the
 * order of the calls, where the context's other work is. Serves one thread. */
#ifndef FP8_DISTRIBUTED_DISTRIBUTED_H
#define FP8_DISTRIBUTED_DISTRIBUTED_H

#include <stdint.h>

#include "core/tensor.h"

/* Counts up with every change of the table. */
enum { DISTRIBUTED_VERSION = 4 };

typedef enum Reduction {
  REDUCTION_SUM,
  REDUCTION_MEAN, /* floating-point tensors only */
  REDUCTION_MAX,  /* NaN where an element is NaN, on the CPU; as NCCL has it on a GPU */
  REDUCTION_MIN,
  REDUCTION_PRODUCT
} Reduction;

typedef struct Group {
  int rank, size;
  int local_rank;     /* among the processes of one machine */
  const char *medium; /* "MPI" or "TCP" */
  bool reduces;       /* whether it computes on the CPU; else only GPUs do */
} Group;

typedef struct Distributed {
  uint32_t version; /* DISTRIBUTED_VERSION */
  uint32_t size;    /* of this struct */
  /* Joins the others; `timeout` in seconds, of this and of every later call. Done before, it only sets the timeout. */
  bool (*start)(Group *group, double timeout);
  /* Waits until all have called this, and fails on all of them unless all have said the same. */
  bool (*agree)(const char *call);
  /* The same of two ranks. */
  bool (*agree_with)(int rank, const char *call);
  bool (*all_reduce)(Tensor *x, Reduction reduction);
  /* Each of the first `whole` tensors of a list, all on one device, becomes its mean; of the others, which can be cut in as
   * many equal parts as there are ranks, this rank's part does. On a GPU they travel as one, and nothing that is enqueued
   * later waits for them, until `join`. */
  bool (*average)(Tensor *const *list, int whole, int count);
  /* What is enqueued from now on waits for what goes on beside it on the device of x. */
  bool (*join)(const Tensor *x);
  bool (*broadcast)(Tensor *x, int source);
  /* Of several tensors on one device, each from a rank of its own; on a GPU they travel as one. */
  bool (*broadcast_each)(Tensor *const *list, const int *sources, int count);
  /* Of several tensors on one device, the part that each rank has (average) becomes that of all. On a GPU they travel as
   * one. */
  bool (*gather_parts)(Tensor *const *list, int count);
  /* out: x of each rank one after the other. */
  bool (*all_gather)(Tensor *out, const Tensor *x);
  /* x: for each rank as many elements as out has. */
  bool (*reduce_scatter)(Tensor *out, const Tensor *x, Reduction reduction);
  bool (*send)(const Tensor *x, int rank);
  bool (*receive)(Tensor *x, int rank);
} Distributed;

/* What the library exports: its table. */
#define DISTRIBUTED_OPEN "fp8_distributed_open"
typedef const Distributed *(*DistributedOpen)(void);

#endif
