/* Patches of images, and the sums of patches. */
#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

/* x is (images, channels, height, width); `stride` is that of the six dimensions of patches (backend.h). */
typedef struct Patches {
  char *x, *patches;
  const int64_t *stride;
  int64_t element; /* bytes */
  int64_t channels;
  Window window;
  DType dtype; /* of patches, where they are added up */
} Patches;

/* The windows of an axis that meet x with element k of their kernel: `count` of them from `first` on, whose positions begin
 * at `position`. */
typedef struct Meeting {
  int64_t first, count, position;
} Meeting;

static Meeting meeting_of(const WindowAxis *axis, int64_t k) {
  int64_t offset = k * axis->dilation - axis->before; /* of window 0 */
  Meeting meeting = {.first = offset < 0 ? divide_up(-offset, axis->stride) : 0};
  int64_t end = offset >= axis->input ? 0 : divide_up(axis->input - offset, axis->stride);
  if (end > axis->output) end = axis->output;
  meeting.count = end > meeting.first ? end - meeting.first : 0;
  meeting.position = meeting.first * axis->stride + offset;
  return meeting;
}

/* out[i] = in[i · step], elements of so many bytes. */
static void copy_steps(char *restrict out, const char *restrict in, int64_t step, int64_t n, int64_t element) {
  if (step == 1) {
    memcpy(out, in, (size_t)(n * element));
    return;
  }
  switch (element) {
  case 1:
    for (int64_t i = 0; i < n; i++) out[i] = in[i * step];
    return;
  case 2:
    for (int64_t i = 0; i < n; i++) ((uint16_t *)out)[i] = ((const uint16_t *)in)[i * step];
    return;
  case 4:
    for (int64_t i = 0; i < n; i++) ((uint32_t *)out)[i] = ((const uint32_t *)in)[i * step];
    return;
  case 8:
    for (int64_t i = 0; i < n; i++) ((uint64_t *)out)[i] = ((const uint64_t *)in)[i * step];
    return;
  }
  trap_missing_case();
}

/* Tasks are (image, channel): patches of an image lie side by side. */
static void unfold_planes(int64_t begin, int64_t end, const void *context) {
  const Patches *job = context;
  const WindowAxis *y = &job->window.y, *x = &job->window.x;
  const int64_t *stride = job->stride, element = job->element;
  for (int64_t task = begin; task < end; task++) {
    const char *plane = job->x + task * y->input * x->input * element;
    int64_t start = task / job->channels * stride[0] + task % job->channels * stride[1];
    for (int64_t k = 0; k < y->kernel * x->kernel; k++) {
      Meeting rows = meeting_of(y, k / x->kernel), columns = meeting_of(x, k % x->kernel);
      char *patches = job->patches + (start + k / x->kernel * stride[2] + k % x->kernel * stride[3]) * element;
      for (int64_t o = 0; o < y->output; o++) {
        char *out = patches + o * stride[4] * element;
        bool meets = o >= rows.first && o < rows.first + rows.count && columns.count > 0;
        int64_t before = meets ? columns.first : x->output, after = x->output - before - (meets ? columns.count : 0);
        memset(out, 0, (size_t)(before * element));
        if (!meets) continue;
        int64_t row = rows.position + (o - rows.first) * y->stride;
        copy_steps(out + before * element, plane + (row * x->input + columns.position) * element, x->stride,
                   columns.count, element);
        memset(out + (before + columns.count) * element, 0, (size_t)(after * element));
      }
    }
  }
}

/* out[o · stride of a patch] = x[o · step], elements of so many bytes, which are zeros where in is NULL. */
static void scatter_steps(char *restrict out, int64_t stride, const char *restrict in, int64_t step, int64_t n,
                          int64_t element) {
  static const uint64_t zero = 0;
  if (!in) {
    in = (const char *)&zero;
    step = 0;
  }
  switch (element) {
  case 1:
    for (int64_t i = 0; i < n; i++) out[i * stride] = in[i * step];
    return;
  case 2:
    for (int64_t i = 0; i < n; i++) ((uint16_t *)out)[i * stride] = ((const uint16_t *)in)[i * step];
    return;
  case 4:
    for (int64_t i = 0; i < n; i++) ((uint32_t *)out)[i * stride] = ((const uint32_t *)in)[i * step];
    return;
  case 8:
    for (int64_t i = 0; i < n; i++) ((uint64_t *)out)[i * stride] = ((const uint64_t *)in)[i * step];
    return;
  }
  trap_missing_case();
}

/* Tasks are (image, output_y): the elements of a patch lie side by side. */
static void unfold_rows(int64_t begin, int64_t end, const void *context) {
  const Patches *job = context;
  const WindowAxis *y = &job->window.y, *x = &job->window.x;
  const int64_t *stride = job->stride, element = job->element;
  for (int64_t task = begin; task < end; task++) {
    int64_t image = task / y->output, o = task % y->output, apart = stride[5];
    for (int64_t channel = 0; channel < job->channels; channel++) {
      const char *plane = job->x + (image * job->channels + channel) * y->input * x->input * element;
      int64_t start = image * stride[0] + channel * stride[1] + o * stride[4];
      for (int64_t k = 0; k < y->kernel * x->kernel; k++) {
        int64_t row = o * y->stride - y->before + k / x->kernel * y->dilation;
        char *out = job->patches + (start + k / x->kernel * stride[2] + k % x->kernel * stride[3]) * element;
        Meeting columns = meeting_of(x, k % x->kernel);
        if (row < 0 || row >= y->input) columns = (Meeting){x->output, 0, 0};
        scatter_steps(out, apart, NULL, 0, columns.first < x->output ? columns.first : x->output, element);
        int64_t done = columns.first + columns.count;
        if (columns.count > 0) {
          scatter_steps(out + columns.first * apart * element, apart,
                        plane + (row * x->input + columns.position) * element, x->stride, columns.count, element);
        }
        if (done < x->output) scatter_steps(out + done * apart * element, apart, NULL, 0, x->output - done, element);
      }
    }
  }
}

bool cpu_unfold(Tensor *out, const Tensor *x, const Window *window) {
  if (tensor_count(out) == 0) return true;
  Patches job = {.x = tensor_data(x),
                 .patches = tensor_data(out),
                 .stride = out->stride,
                 .element = (int64_t)dtype_size(x->dtype),
                 .channels = x->size[1],
                 .window = *window};
  int64_t length = window->y.kernel * window->x.kernel;
  if (out->stride[5] == 1 || window->x.output == 1) {
    parallel_for(x->size[0] * x->size[1], length * window->y.output * window->x.output, unfold_planes, &job);
  } else {
    parallel_for(x->size[0] * window->y.output, length * x->size[1] * window->x.output, unfold_rows, &job);
  }
  return true;
}

/* --- sums --- */

/* out[i · step] += in[i] */
VECTORIZE static void add_steps(float *restrict out, int64_t step, const float *restrict in, int64_t n) {
  if (step == 1) {
    for (int64_t i = 0; i < n; i++) out[i] += in[i];
  } else {
    for (int64_t i = 0; i < n; i++) out[i * step] += in[i];
  }
}

/* Tasks are (image, channel). */
static void fold_planes(int64_t begin, int64_t end, const void *context) {
  const Patches *job = context;
  const WindowAxis *y = &job->window.y, *x = &job->window.x;
  const int64_t *stride = job->stride;
  float buffer[CHUNK];
  for (int64_t task = begin; task < end; task++) {
    float *plane = (float *)job->x + task * y->input * x->input;
    int64_t start = task / job->channels * stride[0] + task % job->channels * stride[1];
    for (int64_t k = 0; k < y->kernel * x->kernel; k++) {
      Meeting rows = meeting_of(y, k / x->kernel), columns = meeting_of(x, k % x->kernel);
      for (int64_t o = 0; o < rows.count; o++) {
        int64_t from = start + k / x->kernel * stride[2] + k % x->kernel * stride[3] + (rows.first + o) * stride[4];
        float *out = plane + (rows.position + o * y->stride) * x->input + columns.position;
        for (int64_t i = 0; i < columns.count; i += CHUNK) {
          int n = chunk_length(columns.count, i);
          add_steps(out + i * x->stride, x->stride,
                    load_floats(job->dtype, job->patches, from + columns.first + i, n, buffer), n);
        }
      }
    }
  }
}

bool cpu_fold(Tensor *out, const Tensor *patches, const Window *window) {
  int64_t count = tensor_count(out);
  if (count == 0) return true;
  size_t bytes = (size_t)count * sizeof(float);
  bool direct = out->dtype == DTYPE_F32;
  float *sums = direct ? tensor_data(out) : scratch_allocate(bytes);
  if (!sums) return false;
  memset(sums, 0, bytes);
  Patches job = {.x = (char *)sums,
                 .patches = tensor_data(patches),
                 .stride = patches->stride,
                 .channels = out->size[1],
                 .window = *window,
                 .dtype = patches->dtype};
  int64_t work = window->y.kernel * window->x.kernel * window->y.output * window->x.output;
  if (tensor_count(patches) > 0) parallel_for(out->size[0] * out->size[1], work, fold_planes, &job);
  if (direct) return true;
  convert_all(out->dtype, tensor_data(out), DTYPE_F32, sums, count);
  scratch_release(sums, bytes);
  return true;
}
