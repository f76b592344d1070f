/* For the end of a switch that lists every case of an enum: a value without a case stops the program, instead of being
 * taken for another. The compiler names a missing case before that (-Wswitch). */
#ifndef FP8_CORE_TRAP_H
#define FP8_CORE_TRAP_H

#include "core/portable.h"

__attribute__((noreturn)) PORTABLE void trap_missing_case(void) {
#ifdef __CUDA_ARCH__
  __trap();
  __builtin_unreachable();
#else
  __builtin_trap();
#endif
}

#endif
