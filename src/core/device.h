/* Where memory lives and kernels run: "cpu", "cuda" (the first GPU), "cuda:1", … */
#ifndef FP8_CORE_DEVICE_H
#define FP8_CORE_DEVICE_H

#include <stdbool.h>

typedef enum DeviceKind { DEVICE_CPU, DEVICE_CUDA, DEVICE_KIND_COUNT } DeviceKind;

enum { DEVICE_MAX = 16, DEVICE_NAME_MAX = 16 };

typedef struct Device {
  DeviceKind kind;
  int index; /* from 0; always 0 for the CPU */
} Device;

/* Sets *device from its name; false if `name` is not a device name (whether such a device exists is not looked at). */
bool device_parse(const char *name, Device *device);

/* Writes the name ("cpu", "cuda:0") into `name` and returns it. */
const char *device_name(Device device, char name[DEVICE_NAME_MAX]);

bool device_equal(Device a, Device b);

#endif
