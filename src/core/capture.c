#include "core/capture.h"

#include <stdlib.h>

#include "core/context.h"

typedef struct MemoryBlock {
  void *data;
  size_t bytes;
  Storage *storage; /* NULL if the block is free */
} MemoryBlock;

/* A storage that the work uses and that is not in the capture's own blocks. */
typedef struct Use {
  Storage *storage;
  uint64_t version; /* when it was first used */
  bool changed;
} Use;

struct Capture {
  const char *spoiled; /* why it can't be replayed, or NULL */
  int references;      /* the graph's, and one for each storage in a block */
  uint64_t number;
  Device device;
  MemoryBlock *blocks;
  int block_count, block_room;
  Use *uses;
  int use_count, use_room;
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

static void drop_reference(Capture *capture) {
  if (--capture->references > 0) return;
  for (int i = 0; i < capture->block_count; i++) {
    memory_release(capture->device, capture->blocks[i].data, capture->blocks[i].bytes);
  }
  free(capture->blocks);
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
  for (int i = 0; i < capture->block_count; i++) {
    if (capture->blocks[i].storage) capture->blocks[i].storage->version++;
  }
}

void capture_release(Capture *capture) {
  for (int i = 0; i < capture->use_count; i++) storage_release(capture->uses[i].storage);
  capture->use_count = 0;
  drop_reference(capture);
}

bool capture_owns(Device device) {
  const Capture *open = capture_open();
  return open && device_equal(device, open->device);
}

/* The free block that fits best, if it is not much too large; else NULL. */
static MemoryBlock *find_block(Capture *capture, size_t bytes) {
  MemoryBlock *best = NULL;
  for (int i = 0; i < capture->block_count; i++) {
    MemoryBlock *block = &capture->blocks[i];
    bool fits = !block->storage && block->bytes >= bytes && block->bytes - bytes <= bytes / 4 + 512;
    if (fits && (!best || block->bytes < best->bytes)) best = block;
  }
  return best;
}

static MemoryBlock *add_block(Capture *capture, size_t bytes) {
  if (!grow((void **)&capture->blocks, capture->block_count, &capture->block_room, sizeof *capture->blocks)) {
    return NULL;
  }
  void *data = memory_allocate(capture->device, bytes);
  if (!data) return NULL;
  MemoryBlock *block = &capture->blocks[capture->block_count++];
  *block = (MemoryBlock){.data = data, .bytes = bytes};
  return block;
}

void *capture_allocate(Storage *storage) {
  Capture *capture = capture_open();
  MemoryBlock *block = find_block(capture, storage->bytes);
  if (!block) {
    memory_make_room(capture->device, storage->bytes);
    block = find_block(capture, storage->bytes);
  }
  if (!block) block = add_block(capture, storage->bytes);
  if (!block) return NULL;
  block->storage = storage;
  storage->owner = capture;
  storage->block = (int)(block - capture->blocks);
  capture->references++;
  return block->data;
}

void capture_free(Storage *storage) {
  Capture *capture = storage->owner;
  capture->blocks[storage->block].storage = NULL;
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
