#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/context.h"

bool error_set(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(context_now->error, ERROR_TEXT_MAX, format, arguments);
  va_end(arguments);
  return false;
}

bool error_memory(size_t bytes) { return error_set("out of memory on cpu: %zu bytes asked for", bytes); }

const char *error_message(void) { return context_now->error; }
