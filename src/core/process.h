/* Threads and devices do not pass through fork: in a child process, work that is spread over them would wait for ever. */
#ifndef FP8_CORE_PROCESS_H
#define FP8_CORE_PROCESS_H

#include "core/error.h"

/* To be called before threads are started or a device is opened. */
FP8_API void process_has_threads(void);

/* Whether the process is a child, by fork, of one that had threads or a device. */
bool process_lost_threads(void);

/* Notices forks from now on; false without memory. */
bool process_watch_forks(void);

#endif
