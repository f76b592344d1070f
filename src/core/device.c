#include "core/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char names[DEVICE_KINDS_MOST][DEVICE_KIND_NAME_MAX] = {[DEVICE_CPU] = "cpu"};
static int kinds = 1; /* grows only after the name is in place, so that other threads may look while one adds */

DeviceKind device_kind_find(const char *name, size_t length) {
  int known = __atomic_load_n(&kinds, __ATOMIC_ACQUIRE);
  for (int kind = 0; kind < known; kind++) {
    if (strlen(names[kind]) == length && memcmp(names[kind], name, length) == 0) return kind;
  }
  return -1;
}

DeviceKind device_kind_add(const char *name) {
  size_t length = strlen(name);
  DeviceKind kind = device_kind_find(name, length);
  if (kind >= 0) return kind;
  if (kinds == DEVICE_KINDS_MOST || length >= DEVICE_KIND_NAME_MAX) return -1;
  memcpy(names[kinds], name, length + 1);
  return __atomic_fetch_add(&kinds, 1, __ATOMIC_RELEASE);
}

/* Splits "NAME" or "NAME:INDEX". */
static bool split_name(const char *name, size_t *length, int *index) {
  *length = strcspn(name, ":");
  *index = 0;
  const char *number = name + *length;
  if (*length == 0) return false;
  if (*number == '\0') return true;
  if (number[1] < '0' || number[1] > '9') return false;
  char *end;
  long value = strtol(number + 1, &end, 10);
  if (*end != '\0' || value >= DEVICE_MAX) return false;
  *index = (int)value;
  return true;
}

size_t device_name_check(const char *name) {
  size_t length;
  int index;
  return split_name(name, &length, &index) ? length : 0;
}

bool device_parse(const char *name, Device *device) {
  size_t length;
  int index;
  if (!split_name(name, &length, &index)) return false;
  DeviceKind kind = device_kind_find(name, length);
  if (kind < 0 || (kind == DEVICE_CPU && name[length] != '\0')) return false;
  *device = (Device){kind, index};
  return true;
}

const char *device_name(Device device, char name[DEVICE_NAME_MAX]) {
  snprintf(name, DEVICE_NAME_MAX, device.kind == DEVICE_CPU ? "%s" : "%s:%d", names[device.kind], device.index);
  return name;
}
