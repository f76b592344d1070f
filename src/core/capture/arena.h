/* Memory that is cut into ranges and put together again: large pieces of a device's memory, the segments, from which
 * storages get what they need and to which it returns. Only addresses are kept account of; nothing is read or written.
 *
 * A request takes the free range that fits best and leaves the rest of it free; a range that becomes free joins its free
 * neighbours. Small requests have segments of their own, or what lives long among them would keep large ranges apart. */
#ifndef FP8_CORE_ARENA_H
#define FP8_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

/* Neighbours in a segment, by address. */
typedef struct Range {
  struct Range *previous, *next;
  char *data;
  size_t bytes;
  bool used;
} Range;

/* The first ranges of segments. */
typedef struct Segments {
  Range **first;
  int count, room;
} Segments;

/* All zero is an empty one. */
typedef struct Arena {
  Segments small, large;
} Arena;

/* At least `bytes` (> 0) of a segment, aligned as those are up to 512 bytes; NULL without an error if none fits. */
Range *arena_take(Arena *arena, size_t bytes);
void arena_give_back(Range *range);

/* The bytes of the segment to add for a request that nothing fits: no more than a large one asks for, which wastes least
 * where requests have few sizes, as those of a model's layers. */
size_t arena_segment_bytes(size_t bytes);
/* Adds a segment for requests like one of `bytes`. False with an error without memory. */
bool arena_add(Arena *arena, size_t bytes, void *segment, size_t segment_bytes);

/* Drops all segments, each of which is given to `release`. */
void arena_clear(Arena *arena, void (*release)(void *owner, void *segment, size_t bytes), void *owner);

#endif
