/* Calls into libraries that may throw. */
#ifndef FP8_CPU_DNNL_GUARD_H
#define FP8_CPU_DNNL_GUARD_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls function(argument); false if an exception ended it, which skips the rest of what is C on its way. */
bool guard_call(void (*function)(void *), void *argument);

#ifdef __cplusplus
}
#endif

#endif
