/* The memory of a graph: what one device's work between capture_begin and capture_end uses, which has to stay where it
 * is for as long as the graph may be replayed.
 *
 * Storages made while a capture is open get ranges of an arena that belongs to it (arena.h). Freed, a range goes to other
 * storages of the same capture, whose work runs in the captured order at every replay, and to nobody else. The arena's
 * segments go back to the device together, when the graph and every storage in them are gone; until then they count as
 * memory in use. Of all other storages that the work uses the capture takes references, so that none is freed or given
 * out again under the graph. */
#ifndef FP8_CORE_CAPTURE_H
#define FP8_CORE_CAPTURE_H

#include "core/random.h"
#include "core/tensor.h"

typedef struct Capture Capture;

/* The context's open capture, of which there is one at most; NULL otherwise. */
Capture *capture_open(void);

/* NULL with an error if one is open already, or without memory. */
Capture *capture_begin(Device device);
/* Closes the open capture, and notes which of the storages that it used were changed in place. False with an error if
 * it was spoiled; it has to be released all the same. */
bool capture_end(Capture *capture);
/* Has the end of the open capture fail for a reason, a string constant: for what cannot fail where it happens. */
void capture_spoil(const char *reason);
/* Its work has been enqueued once more: everything that it changes has a new version. */
void capture_replayed(Capture *capture);
/* Drops what the graph keeps; its memory stays until the last storage in it is released. */
void capture_release(Capture *capture);

/* Random numbers of a graph's work, which are new ones at every replay: where they begin is on the device, and written
 * there before each. */
typedef struct CaptureRandom {
  Tensor live;     /* without storage until something is drawn */
  uint64_t blocks; /* that are drawn at a replay (core/random.h) */
} CaptureRandom;

CaptureRandom *capture_random(Capture *capture);
Device capture_device(const Capture *capture);

/* Counts up at every begin and end of the context's. What was derived from a tensor's contents at another count is no
 * good now: before the end it would miss in the graph, and after it nothing has been computed yet. */
uint64_t capture_epoch(void);

/* --- for tensor.c --- */

/* Whether new storages on this device belong to the open capture. */
bool capture_owns(Device device);
/* storage->bytes (> 0) of the open capture's memory, or NULL with an error. */
void *capture_allocate(Storage *storage);
void capture_free(Storage *storage);
/* Has the open capture keep a storage that its work uses. */
void capture_use(Storage *storage);

#endif
