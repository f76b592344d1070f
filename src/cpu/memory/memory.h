/* The CPU's allocator, also for scratch space of kernels. */
#ifndef FP8_CPU_MEMORY_MEMORY_H
#define FP8_CPU_MEMORY_MEMORY_H

#include <stddef.h>

#include "core/memory.h"

extern const Allocator cpu_allocator;

/* Scratch space: uninitialised, aligned to 64 bytes, not counted as memory of tensors; NULL with an error if there
 * is not enough. `bytes` may be 0. */
void *scratch_allocate(size_t bytes);
void scratch_release(void *data, size_t bytes);

/* Bytes that this process can still take before the kernel would have to kill someone: what the machine has, or less
 * where a control group limits it. SIZE_MAX if that can't be told. */
size_t memory_available(void);

#endif
