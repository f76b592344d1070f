#include "core/capture/arena.h"

#include <stdlib.h>

#include "core/memory.h"

/* What is left of a range stays with it where it is less than this. */
static const size_t alignment = 512;
static const size_t small_most = (size_t)1 << 20, small_segment = (size_t)2 << 20;

static size_t rounded(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

static Segments *segments_for(Arena *arena, size_t bytes) {
  return bytes <= small_most ? &arena->small : &arena->large;
}

static Range *find(const Segments *segments, size_t bytes) {
  Range *best = NULL;
  for (int i = 0; i < segments->count; i++) {
    for (Range *range = segments->first[i]; range; range = range->next) {
      if (!range->used && range->bytes >= bytes && (!best || range->bytes < best->bytes)) best = range;
    }
  }
  return best;
}

/* Leaves the end of a range to a new one, or to the range itself where there is no memory to keep account of it. */
static void split(Range *range, size_t bytes) {
  if (range->bytes - bytes < alignment) return;
  Range *rest = malloc(sizeof *rest);
  if (!rest) return;
  *rest = (Range){.previous = range, .next = range->next, .data = range->data + bytes, .bytes = range->bytes - bytes};
  if (rest->next) rest->next->previous = rest;
  range->next = rest;
  range->bytes = bytes;
}

Range *arena_take(Arena *arena, size_t bytes) {
  bytes = rounded(bytes);
  Range *range = find(segments_for(arena, bytes), bytes);
  if (!range) return NULL;
  split(range, bytes);
  range->used = true;
  return range;
}

/* Joins a range with the one after it. */
static void join_next(Range *range) {
  Range *next = range->next;
  range->bytes += next->bytes;
  range->next = next->next;
  if (range->next) range->next->previous = range;
  free(next);
}

void arena_give_back(Range *range) {
  range->used = false;
  if (range->next && !range->next->used) join_next(range);
  if (range->previous && !range->previous->used) join_next(range->previous);
}

size_t arena_segment_bytes(size_t bytes) {
  bytes = rounded(bytes);
  return bytes <= small_most ? small_segment : bytes;
}

bool arena_add(Arena *arena, size_t bytes, void *segment, size_t segment_bytes) {
  Segments *segments = segments_for(arena, rounded(bytes));
  if (segments->count == segments->room) {
    int room = segments->room > 0 ? 2 * segments->room : 64;
    Range **first = host_reallocate(segments->first, (size_t)room * sizeof *first);
    if (!first) return false;
    segments->first = first;
    segments->room = room;
  }
  Range *range = host_allocate(sizeof *range);
  if (!range) return false;
  *range = (Range){.data = segment, .bytes = segment_bytes};
  segments->first[segments->count++] = range;
  return true;
}

static void clear(Segments *segments, void (*release)(void *owner, void *segment, size_t bytes), void *owner) {
  for (int i = 0; i < segments->count; i++) {
    Range *first = segments->first[i];
    void *segment = first->data;
    size_t bytes = 0;
    while (first) {
      Range *next = first->next;
      bytes += first->bytes;
      free(first);
      first = next;
    }
    release(owner, segment, bytes);
  }
  free(segments->first);
}

void arena_clear(Arena *arena, void (*release)(void *owner, void *segment, size_t bytes), void *owner) {
  clear(&arena->small, release, owner);
  clear(&arena->large, release, owner);
  *arena = (Arena){0};
}
