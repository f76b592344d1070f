/* Where memory lives and kernels run: "cpu", or the name of another kind with an index from 0: "cuda:1", and "cuda" for
 * its first one. */
#ifndef FP8_CORE_DEVICE_H
#define FP8_CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

/* The kinds of devices in the order in which they came to be known; the CPU is always there. */
typedef int DeviceKind;

enum { DEVICE_CPU = 0, DEVICE_KINDS_MOST = 4, DEVICE_MAX = 16, DEVICE_NAME_MAX = 24, DEVICE_KIND_NAME_MAX = 16 };

typedef struct Device {
  DeviceKind kind;
  int index; /* from 0; always 0 for the CPU */
} Device;

/* The kind called `name`, which becomes known if it was not; -1 where there are too many or the name is too long. Not to
 * be called by two threads at once. */
DeviceKind device_kind_add(const char *name);
/* The kind called by the first `length` characters of `name`; -1 if there is none. */
DeviceKind device_kind_find(const char *name, size_t length);

/* How many characters of `name` are that of a kind, known or not, if it has the form of a device's name; else 0. */
size_t device_name_check(const char *name);

/* Sets *device from its name; false if `name` is not the name of a device of a known kind (whether there is such a
 * device is not looked at). */
bool device_parse(const char *name, Device *device);

/* Writes the name ("cpu", "cuda:0") into `name` and returns it. */
const char *device_name(Device device, char name[DEVICE_NAME_MAX]);

static inline bool device_equal(Device a, Device b) { return a.kind == b.kind && a.index == b.index; }

#endif
