/* Errors below Lua: a function that can fail returns false (or NULL) after error_set; the binding raises the
 * message. */
#ifndef FP8_CORE_ERROR_H
#define FP8_CORE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/* Symbols of fp8/core.so that backends in libraries of their own link against. */
#define FP8_API __attribute__((visibility("default")))

/* Formats the error message of the thread's context as printf does. Returns false, so that a failure reads
 * `return error_set(…)`. */
FP8_API bool error_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* error_set for an allocation of the library's own that failed. */
FP8_API bool error_memory(size_t bytes);

/* The context's last message. */
FP8_API const char *error_message(void);

#endif
