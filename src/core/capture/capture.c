#include "core/capture/capture.h"

#include <stdlib.h>

#include "core/capture/arena.h"
#include "core/context.h"

/* A storage that the work uses and that is not in the capture's own arena. */
typedef struct Use {
  Storage *storage;
  uint64_t version; /* when it was first used */
  bool changed;
} Use;

struct Capture {
  const char *spoiled; /* why it can't be replayed, or NULL */
  int references;      /* the graph's, and one for each storage in the arena */
  uint64_t number;
  Device device;
  Arena arena;
  Storage *first; /* of those in the arena */
  Use *uses;
  int use_count, use_room;
  CaptureRandom random;
};

Capture *capture_open(void) { return context_now->capture; }

uint64_t capture_epoch(void) { return context_now->capture_epoch; }

/* Room for one more element in an array that grows by doubling. */
static bool grow(void **array, int count, int *room, size_t element_bytes) {
  if (count < *room) return true;
  int doubled = *room > 0 ? 2 * *room : 64;
  void *grown = host_reallocate(*array, (size_t)doubled * element_bytes);
  if (!grown) return false;
  *array = grown;
  *room = doubled;
  return true;
}

static void release_segment(void *owner, void *segment, size_t bytes) {
  memory_release(((const Capture *)owner)->device, segment, bytes);
}

static void drop_reference(Capture *capture) {
  if (--capture->references > 0) return;
  arena_clear(&capture->arena, release_segment, capture);
  free(capture->uses);
  free(capture);
}

Capture *capture_begin(Device device) {
  Context *context = context_now;
  if (context->capture) {
    error_set("a graph is being captured already");
    return NULL;
  }
  Capture *capture = host_allocate_zeroed(1, sizeof *capture);
  if (!capture) return NULL;
  capture->references = 1;
  capture->number = ++context->capture_epoch;
  capture->device = device;
  return context->capture = capture;
}

bool capture_end(Capture *capture) {
  Context *context = context_now;
  context->capture = NULL;
  context->capture_epoch++;
  for (int i = 0; i < capture->use_count; i++) {
    capture->uses[i].changed = capture->uses[i].storage->version != capture->uses[i].version;
  }
  return !capture->spoiled || error_set("%s", capture->spoiled);
}

void capture_spoil(const char *reason) { capture_open()->spoiled = reason; }

void capture_replayed(Capture *capture) {
  for (int i = 0; i < capture->use_count; i++) {
    if (capture->uses[i].changed) capture->uses[i].storage->version++;
  }
  for (Storage *storage = capture->first; storage; storage = storage->next_in_capture) storage->version++;
}

CaptureRandom *capture_random(Capture *capture) { return &capture->random; }

Device capture_device(const Capture *capture) { return capture->device; }

void capture_release(Capture *capture) {
  tensor_release(&capture->random.live);
  for (int i = 0; i < capture->use_count; i++) storage_release(capture->uses[i].storage);
  capture->use_count = 0;
  drop_reference(capture);
}

bool capture_owns(Device device) {
  const Capture *open = capture_open();
  return open && device_equal(device, open->device);
}

/* A range of a new segment. */
static Range *take_new(Capture *capture, size_t bytes) {
  size_t segment_bytes = arena_segment_bytes(bytes);
  void *segment = memory_allocate(capture->device, segment_bytes);
  if (!segment) return NULL;
  if (arena_add(&capture->arena, bytes, segment, segment_bytes)) return arena_take(&capture->arena, bytes);
  memory_release(capture->device, segment, segment_bytes);
  return NULL;
}

void *capture_allocate(Storage *storage) {
  Capture *capture = capture_open();
  Range *range = arena_take(&capture->arena, storage->bytes);
  if (!range) {
    memory_make_room(capture->device, arena_segment_bytes(storage->bytes));
    range = arena_take(&capture->arena, storage->bytes);
  }
  if (!range) range = take_new(capture, storage->bytes);
  if (!range) return NULL;
  storage->owner = capture;
  storage->range = range;
  storage->previous_in_capture = NULL;
  storage->next_in_capture = capture->first;
  if (capture->first) capture->first->previous_in_capture = storage;
  capture->first = storage;
  capture->references++;
  return range->data;
}

void capture_free(Storage *storage) {
  Capture *capture = storage->owner;
  Storage *previous = storage->previous_in_capture, *next = storage->next_in_capture;
  if (previous) previous->next_in_capture = next;
  if (next) next->previous_in_capture = previous;
  if (capture->first == storage) capture->first = next;
  arena_give_back(storage->range);
  drop_reference(capture);
}

void capture_use(Storage *storage) {
  Capture *capture = capture_open();
  if (storage->used_by == capture->number || storage->owner == capture) return;
  if (!device_equal(storage->device, capture->device)) return;
  storage->used_by = capture->number;
  if (!grow((void **)&capture->uses, capture->use_count, &capture->use_room, sizeof *capture->uses)) {
    capture_spoil("out of memory on cpu");
    return;
  }
  storage->references++;
  capture->uses[capture->use_count++] = (Use){.storage = storage, .version = storage->version};
}
