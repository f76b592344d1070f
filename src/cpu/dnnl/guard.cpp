// oneDNN is C++ behind functions of C, and lets exceptions through, of memory that is not to be had in particular.
#include "cpu/dnnl/guard.h"

bool guard_call(void (*function)(void *), void *argument) {
  try {
    function(argument);
  } catch (...) {
    return false;
  }
  return true;
}
