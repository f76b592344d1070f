/* How much memory is left, according to Linux. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cpu/memory/memory.h"

enum { PATH_LENGTH = 1024, LINE_LENGTH = 512 };

/* The number that a file starts with; SIZE_MAX if there is no file or no number ("max"). */
static size_t read_number(const char *path) {
  unsigned long long number;
  FILE *file = fopen(path, "r");
  if (!file) return SIZE_MAX;
  int found = fscanf(file, "%llu", &number);
  fclose(file);
  return found == 1 ? (size_t)number : SIZE_MAX;
}

/* The number after `key` at the start of a line; `missing` if there is none. */
static size_t read_field(const char *path, const char *key, size_t missing) {
  char line[LINE_LENGTH];
  unsigned long long number;
  size_t result = missing;
  FILE *file = fopen(path, "r");
  if (!file) return missing;
  while (fgets(line, sizeof line, file)) {
    size_t length = strlen(key);
    if (strncmp(line, key, length) == 0 && sscanf(line + length, " %llu", &number) == 1) {
      result = (size_t)number;
      break;
    }
  }
  fclose(file);
  return result;
}

/* The names that the two versions of the control group interface give to the same things. */
typedef struct GroupFiles {
  const char *mount, *limit, *usage, *reclaimable;
} GroupFiles;

static const GroupFiles group_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                    "total_inactive_file "};
static const GroupFiles group_v2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};

/* What the limit of one group leaves. File pages that are only cached count as used but make room when it is needed. */
static size_t group_available(const GroupFiles *files, const char *group) {
  char path[PATH_LENGTH];
  snprintf(path, sizeof path, "%s%s/%s", files->mount, group, files->limit);
  size_t limit = read_number(path);
  if (limit == SIZE_MAX) return SIZE_MAX;
  snprintf(path, sizeof path, "%s%s/%s", files->mount, group, files->usage);
  size_t usage = read_number(path);
  if (usage == SIZE_MAX) return SIZE_MAX;
  snprintf(path, sizeof path, "%s%s/memory.stat", files->mount, group);
  size_t reclaimable = read_field(path, files->reclaimable, 0);
  usage = usage > reclaimable ? usage - reclaimable : 0;
  return limit > usage ? limit - usage : 0;
}

/* The least that a group or one above it leaves. Inside a container the path may name a group that is not visible
 * there; the walk then ends at the mount, which shows the container's own group. */
static size_t hierarchy_available(const GroupFiles *files, char *group) {
  size_t least = SIZE_MAX;
  for (;;) {
    size_t available = group_available(files, group);
    if (available < least) least = available;
    char *slash = strrchr(group, '/');
    if (!slash) return least;
    *slash = '\0';
  }
}

static size_t groups_available(void) {
  char line[LINE_LENGTH];
  size_t least = SIZE_MAX;
  FILE *file = fopen("/proc/self/cgroup", "r");
  if (!file) return SIZE_MAX;
  /* Lines are "number:controllers:/path"; version 2 has number 0 and no controllers. */
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) continue;
    const GroupFiles *files = NULL;
    if (strncmp(controllers, "::", 2) == 0) files = &group_v2;
    if (strncmp(controllers, ":memory:", 8) == 0) files = &group_v1;
    if (!files) continue;
    size_t available = hierarchy_available(files, group + 1);
    if (available < least) least = available;
  }
  fclose(file);
  return least;
}

size_t memory_available(void) {
  size_t kibibytes = read_field("/proc/meminfo", "MemAvailable:", SIZE_MAX);
  size_t machine = kibibytes == SIZE_MAX ? SIZE_MAX : kibibytes * 1024;
  size_t groups = groups_available();
  return groups < machine ? groups : machine;
}
