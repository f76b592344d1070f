/* cuDNN's library, once for the process: it keeps nothing of what it is asked for but in handles. */
#include "cuda/patches/cudnn.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Cudnn library;
static bool is_there;
static char failure[256]; /* of the library that FP8_CUDNN names */

static bool find(void *file, const char *name, void *function) {
  void *symbol = dlsym(file, name);
  memcpy(function, &symbol, sizeof symbol);
  return symbol;
}

static bool find_functions(void *file) {
  return find(file, "cudnnCreate", &library.create) && find(file, "cudnnDestroy", &library.destroy) &&
         find(file, "cudnnSetStream", &library.set_stream) &&
         find(file, "cudnnGetErrorString", &library.error_string) &&
         find(file, "cudnnBackendCreateDescriptor", &library.create_descriptor) &&
         find(file, "cudnnBackendDestroyDescriptor", &library.destroy_descriptor) &&
         find(file, "cudnnBackendSetAttribute", &library.set_attribute) &&
         find(file, "cudnnBackendGetAttribute", &library.get_attribute) &&
         find(file, "cudnnBackendFinalize", &library.finalize) && find(file, "cudnnBackendExecute", &library.execute);
}

/* Statuses have had their categories since version 9. */
static bool is_version_9(void *file) {
  size_t (*version)(void);
  return find(file, "cudnnGetVersion", &version) && version() / 10000 == 9;
}

static void load(void) {
  const char *path = getenv("FP8_CUDNN");
  if (path && strcmp(path, "none") == 0) return;
  void *file = dlopen(path ? path : "libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  const char *reason = file ? "it is no cuDNN 9" : dlerror();
  is_there = file && find_functions(file) && is_version_9(file);
  if (!is_there && path) snprintf(failure, sizeof failure, "cuDNN can't be loaded as FP8_CUDNN says: %s", reason);
}

bool cudnn_find(const Cudnn **found) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  *found = is_there ? &library : NULL;
  return !failure[0] || error_set("%s", failure);
}

bool cudnn_check(const Cudnn *cudnn, int status, const char *call) {
  return status == CUDNN_SUCCESS || error_set("%s: %s", call, cudnn->error_string(status));
}
