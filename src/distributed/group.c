/* The group: who is in it, and that all do the same. Rank 0 hears from the others what they call, and tells all of them
 * whether that is one thing: who differs, or does not come, is named in an error that every rank raises. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/context.h"
#include "distributed/channel.h"

enum { CALL_MAX = 256, VERDICT_MAX = 500, GROUP_MAX = 4096 };

/* How much longer the others wait for what rank 0 says than it waits for them, and for one another at the end. */
static const double grace = 2;

static const char leaving[] = "the end of the script";

typedef struct Verdict {
  int status; /* 0: all call the same; 1: they don't; 2: somebody is missing */
  char text[VERDICT_MAX];
} Verdict;

static Group group;
static const Channel *channel; /* NULL before the start */
static double timeout_seconds;
static char failure[VERDICT_MAX]; /* "" as long as there was none */

const Group *group_now(void) { return &group; }

Tensor group_part(const Tensor *x) {
  Tensor part = *x;
  part.rank = 1;
  part.size[0] = tensor_count(x) / group.size;
  part.stride[0] = 1;
  part.offset += group.rank * part.size[0];
  return part;
}

double group_deadline(void) { return clock_seconds() + timeout_seconds; }

bool group_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (!failure[0]) vsnprintf(failure, sizeof failure, format, arguments);
  va_end(arguments);
  return context_current() && error_set("%s", failure); /* there is none when the process ends */
}

bool group_fail_transfer(Outcome outcome) {
  switch (outcome) {
  case OUTCOME_DONE:
    return true;
  case OUTCOME_LATE:
    return group_fail("what was to be transferred did not arrive within %g s", timeout_seconds);
  case OUTCOME_GONE:
    return group_fail("another rank has ended");
  case OUTCOME_STOPPED:
    return group_fail("told to end (SIGTERM) while waiting for other ranks, of which one may have died");
  }
  trap_missing_case();
}

/* --- the verdict --- */

static void say(Verdict *verdict, int status, const char *format, ...) {
  if (verdict->status < status) verdict->status = status;
  size_t length = strlen(verdict->text);
  if (length > 0 && length < sizeof verdict->text - 3) length += (size_t)sprintf(verdict->text + length, "; ");
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(verdict->text + length, sizeof verdict->text - length, format, arguments);
  va_end(arguments);
}

static bool is_leaving(const char *call) { return strcmp(call, leaving) == 0; }

/* What rank 0, which has come to `own`, says of a rank that has come to `other`. */
static void compare(Verdict *verdict, int rank, const char *own, const char *other) {
  if (strcmp(own, other) == 0) return;
  if (is_leaving(other)) {
    say(verdict, 2, "rank %d has ended, the others are at %s", rank, own);
  } else if (is_leaving(own)) {
    say(verdict, 2, "rank 0 has ended, rank %d is at %s", rank, other);
  } else {
    say(verdict, 1, "ranks differ: rank 0 calls %s, rank %d calls %s", own, rank, other);
  }
}

static bool verdict_error(const Verdict *verdict) {
  switch (verdict->status) {
  case 0:
    return true;
  case 1:
    return error_set("%s", verdict->text);
  }
  return group_fail("%s", verdict->text);
}

static bool decide(const char *call, double deadline) {
  Verdict verdict = {0, ""};
  bool stopped = false, missing[GROUP_MAX] = {false};
  for (int rank = 1; rank < group.size; rank++) {
    char other[CALL_MAX];
    switch (channel->receive(rank, other, sizeof other, deadline)) {
    case OUTCOME_DONE:
      other[CALL_MAX - 1] = '\0';
      compare(&verdict, rank, call, other);
      break;
    case OUTCOME_LATE:
      missing[rank] = true;
      say(&verdict, 2, "rank %d has not called this within %g s", rank, timeout_seconds);
      break;
    case OUTCOME_GONE:
      missing[rank] = true;
      say(&verdict, 2, "rank %d has died", rank);
      break;
    case OUTCOME_STOPPED:
      stopped = true;
      break;
    }
  }
  if (stopped) return group_fail_transfer(OUTCOME_STOPPED);
  for (int rank = 1; rank < group.size; rank++) {
    if (!missing[rank]) channel->send(rank, &verdict, sizeof verdict, clock_seconds() + grace);
  }
  for (int rank = 1; rank < group.size; rank++) { /* who comes too late learns why nobody is there any more */
    if (missing[rank]) channel->send(rank, &verdict, sizeof verdict, 0);
  }
  return verdict_error(&verdict);
}

static bool ask(const char *call, double deadline) {
  char own[CALL_MAX] = "";
  snprintf(own, sizeof own, "%s", call);
  Verdict verdict;
  Outcome outcome = channel->send(0, own, sizeof own, deadline);
  if (outcome == OUTCOME_DONE) outcome = channel->receive(0, &verdict, sizeof verdict, deadline + grace);
  switch (outcome) {
  case OUTCOME_DONE:
    verdict.text[VERDICT_MAX - 1] = '\0';
    return verdict_error(&verdict);
  case OUTCOME_LATE:
    return group_fail("rank 0 has not called this within %g s", timeout_seconds);
  case OUTCOME_GONE:
    return group_fail("rank 0 has died");
  case OUTCOME_STOPPED:
    return group_fail_transfer(outcome);
  }
  trap_missing_case();
}

static bool agree_until(const char *call, double deadline) {
  if (failure[0]) return error_set("an earlier call has failed: %s", failure);
  bool same = group.rank == 0 ? decide(call, deadline) : ask(call, deadline);
  wait_end();
  return same;
}

static bool agree(const char *call) {
  if (!channel) return error_set("the ranks have not been joined");
  return group.size == 1 || agree_until(call, group_deadline());
}

static bool agree_with(int rank, const char *call) {
  if (!channel) return error_set("the ranks have not been joined");
  if (rank < 0 || rank >= group.size || rank == group.rank) return error_set("rank %d is none of the others", rank);
  if (failure[0]) return error_set("an earlier call has failed: %s", failure);
  char own[CALL_MAX] = "", other[CALL_MAX];
  snprintf(own, sizeof own, "%s", call);
  double deadline = group_deadline();
  Outcome outcome = channel->send(rank, own, sizeof own, deadline);
  if (outcome == OUTCOME_DONE) outcome = channel->receive(rank, other, sizeof other, deadline);
  wait_end();
  switch (outcome) {
  case OUTCOME_DONE:
    other[CALL_MAX - 1] = '\0';
    if (strcmp(own, other) == 0) return true;
    return error_set("ranks differ: here it is %s, on rank %d %s", own, rank, other);
  case OUTCOME_LATE:
    return group_fail("rank %d has not called its part within %g s", rank, timeout_seconds);
  case OUTCOME_GONE:
    return group_fail("rank %d has died", rank);
  case OUTCOME_STOPPED:
    return group_fail_transfer(outcome);
  }
  trap_missing_case();
}

bool group_share(void *data, size_t bytes) {
  double deadline = group_deadline();
  Outcome outcome = OUTCOME_DONE;
  if (group.rank > 0) outcome = channel->receive(0, data, bytes, deadline);
  for (int rank = 1; group.rank == 0 && rank < group.size && outcome == OUTCOME_DONE; rank++) {
    outcome = channel->send(rank, data, bytes, deadline);
  }
  wait_end();
  return group_fail_transfer(outcome);
}

/* --- start and end --- */

/* Waits until every rank has printed why it ends, but not for long. */
static void part(void) {
  Verdict last;
  double deadline = clock_seconds() + grace;
  for (int rank = 1; group.rank == 0 && rank < group.size; rank++) {
    char call[CALL_MAX];
    channel->receive(rank, call, sizeof call, deadline);
  }
  if (group.rank == 0) return;
  char call[CALL_MAX] = "";
  channel->send(0, call, sizeof call, deadline);
  channel->receive(0, &last, sizeof last, deadline + grace); /* which hardly comes: rank 0 ends all */
}

/* When the process ends, however it does: the others are waited for, as they may have much to do that needs nobody. */
static void leave(void) {
  if (group.size > 1 && !failure[0] && agree_until(leaving, 1e300)) {
    nccl_close(false);
    channel->close(false);
    return;
  }
  if (group.size == 1) return;
  nccl_close(true);
  if (!strstr(failure, "SIGTERM")) part();
  fflush(NULL);
  channel->close(true);
}

static bool start(Group *out, double timeout) {
  timeout_seconds = timeout;
  if (!channel) {
    const Channel *mpi = mpi_channel();
    bool launched_by_mpi = getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK") || getenv("PMI_RANK");
    const Channel *chosen = mpi && launched_by_mpi ? mpi : tcp_channel();
    if (!chosen->open(&group, group_deadline())) return false;
    if (group.size > GROUP_MAX) return group_fail("%d ranks are too many, up to %d can be", group.size, GROUP_MAX);
    channel = chosen;
    group.reduces = channel->all_reduce != NULL;
    atexit(leave);
  }
  *out = group;
  return agree("init");
}

/* --- the table: work on GPUs is NCCL's --- */

static bool on_cpu(const Tensor *tensor) { return tensor_device(tensor).kind == DEVICE_CPU; }

static bool is_here(const Tensor *x) {
  if (!channel) return error_set("the ranks have not been joined");
  return !on_cpu(x) || group.reduces ||
         error_set("without MPI only tensors on GPUs travel: start the processes with mpirun");
}

static bool is_rank(int rank) {
  return (rank >= 0 && rank < group.size) || error_set("there is no rank %d among %d", rank, group.size);
}

/* Whether `many` has what `one` has of each rank. */
static bool is_of_all(const Tensor *many, const Tensor *one) {
  return (many->dtype == one->dtype && device_equal(tensor_device(many), tensor_device(one)) &&
          tensor_count(many) == tensor_count(one) * group.size) ||
         error_set("one tensor must have %d times the elements of the other, in one dtype, on one device", group.size);
}

static bool all_reduce(Tensor *x, Reduction reduction) {
  if (!is_here(x)) return false;
  tensor_changing(x);
  return on_cpu(x) ? channel->all_reduce(x, reduction) : nccl_all_reduce(x, reduction);
}

static bool are_here(Tensor *const *list, int count) {
  for (int i = 0; i < count; i++) {
    if (!is_here(list[i])) return false;
    if (!device_equal(tensor_device(list[i]), tensor_device(list[0]))) {
      return error_set("the tensors must be on one device");
    }
  }
  return true;
}

static bool have_parts(Tensor *const *list, int count) {
  for (int i = 0; i < count; i++) {
    if (tensor_count(list[i]) % group.size != 0) {
      return error_set("a tensor of %lld elements has no %d equal parts", (long long)tensor_count(list[i]), group.size);
    }
  }
  return true;
}

static bool average(Tensor *const *list, int whole, int count) {
  if (!are_here(list, count) || !have_parts(list + whole, count - whole)) return false;
  for (int i = 0; i < count; i++) tensor_changing(list[i]);
  if (count > 0 && !on_cpu(list[0])) return nccl_average(list, whole, count);
  bool done = true;
  for (int i = 0; i < count && done; i++) {
    Tensor part = group_part(list[i]);
    done = i < whole ? channel->all_reduce(list[i], REDUCTION_MEAN)
                     : channel->reduce_scatter(&part, list[i], REDUCTION_MEAN);
  }
  return done;
}

static bool join(const Tensor *x) { return on_cpu(x) || nccl_join(x); }

static bool broadcast(Tensor *x, int source) {
  if (!is_here(x) || !is_rank(source)) return false;
  if (group.rank != source) tensor_changing(x);
  return on_cpu(x) ? channel->broadcast(x, source) : nccl_broadcast(x, source);
}

static bool broadcast_each(Tensor *const *list, const int *sources, int count) {
  if (!are_here(list, count)) return false;
  for (int i = 0; i < count; i++) {
    if (!is_rank(sources[i])) return false;
  }
  for (int i = 0; i < count; i++) {
    if (group.rank != sources[i]) tensor_changing(list[i]);
  }
  if (count > 0 && !on_cpu(list[0])) return nccl_broadcast_each(list, sources, count);
  bool done = true;
  for (int i = 0; i < count && done; i++) done = channel->broadcast(list[i], sources[i]);
  return done;
}

static bool gather_parts(Tensor *const *list, int count) {
  if (!are_here(list, count) || !have_parts(list, count)) return false;
  for (int i = 0; i < count; i++) tensor_changing(list[i]);
  if (count > 0 && !on_cpu(list[0])) return nccl_gather_parts(list, count);
  bool done = true;
  for (int i = 0; i < count && done; i++) {
    Tensor part = group_part(list[i]);
    done = channel->all_gather(list[i], &part);
  }
  return done;
}

static bool all_gather(Tensor *out, const Tensor *x) {
  if (!is_here(x) || !is_of_all(out, x)) return false;
  return on_cpu(x) ? channel->all_gather(out, x) : nccl_all_gather(out, x);
}

static bool reduce_scatter(Tensor *out, const Tensor *x, Reduction reduction) {
  if (!is_here(x) || !is_of_all(x, out)) return false;
  return on_cpu(x) ? channel->reduce_scatter(out, x, reduction) : nccl_reduce_scatter(out, x, reduction);
}

static bool send_to(const Tensor *x, int rank) {
  if (!is_here(x) || !is_rank(rank)) return false;
  return on_cpu(x) ? channel->send_tensor(x, rank) : nccl_send(x, rank);
}

static bool receive_from(Tensor *x, int rank) {
  if (!is_here(x) || !is_rank(rank)) return false;
  tensor_changing(x);
  return on_cpu(x) ? channel->receive_tensor(x, rank) : nccl_receive(x, rank);
}

FP8_API const Distributed *fp8_distributed_open(void) {
  static const Distributed table = {
      .version = DISTRIBUTED_VERSION,
      .size = sizeof table,
      .start = start,
      .agree = agree,
      .agree_with = agree_with,
      .all_reduce = all_reduce,
      .average = average,
      .join = join,
      .broadcast = broadcast,
      .broadcast_each = broadcast_each,
      .gather_parts = gather_parts,
      .all_gather = all_gather,
      .reduce_scatter = reduce_scatter,
      .send = send_to,
      .receive = receive_from,
  };
  return &table;
}
