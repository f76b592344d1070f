/* Waiting for other processes: a look at first, then longer and longer sleeps, so that processes that share a core get
 * on. Who launches processes asks them to end (SIGTERM) when one of them has died: that ends a wait, with an error. */
#include <signal.h>
#include <time.h>

#include "distributed/channel.h"

enum { LOOKS = 200, SHORTEST = 20000, LONGEST = 500000 }; /* looks without sleep; nanoseconds */

static volatile sig_atomic_t stopped, waiting;
static struct sigaction before;

double clock_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

Wait wait_begin(double deadline) {
  if (!waiting) {
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, &before);
    waiting = 1;
  }
  return (Wait){deadline, 0};
}

void wait_end(void) {
  if (!waiting || stopped) return;
  sigaction(SIGTERM, &before, NULL);
  waiting = 0;
}

Outcome wait_on(Wait *wait) {
  if (stopped) return OUTCOME_STOPPED;
  wait->turns++;
  if (wait->turns < LOOKS) return OUTCOME_DONE;
  if (clock_seconds() > wait->deadline) return OUTCOME_LATE;
  long pause = SHORTEST * (1L + (wait->turns - LOOKS) / 50);
  struct timespec time = {0, pause < LONGEST ? pause : LONGEST};
  nanosleep(&time, NULL);
  return OUTCOME_DONE;
}
