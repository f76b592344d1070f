#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[512];

bool error_set(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return false;
}

const char *error_message(void) { return message; }
