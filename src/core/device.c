#include "core/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool device_parse(const char *name, Device *device) {
  if (strcmp(name, "cpu") == 0) {
    *device = (Device){DEVICE_CPU, 0};
    return true;
  }
  if (strncmp(name, "cuda", 4) != 0) return false;
  if (name[4] == '\0') {
    *device = (Device){DEVICE_CUDA, 0};
    return true;
  }
  if (name[4] != ':' || name[5] < '0' || name[5] > '9') return false;
  char *end;
  long index = strtol(name + 5, &end, 10);
  if (*end != '\0' || index >= DEVICE_MAX) return false;
  *device = (Device){DEVICE_CUDA, (int)index};
  return true;
}

const char *device_name(Device device, char name[DEVICE_NAME_MAX]) {
  if (device.kind == DEVICE_CPU) {
    snprintf(name, DEVICE_NAME_MAX, "cpu");
  } else {
    snprintf(name, DEVICE_NAME_MAX, "cuda:%d", device.index);
  }
  return name;
}

bool device_equal(Device a, Device b) { return a.kind == b.kind && a.index == b.index; }
