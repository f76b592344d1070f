/* Convolutions as products of patches: y = W · patches, for a group (outputs, length of a patch) · (length, patches of
 * several images). So many images at a time that their patches stay in a cache. */
#include "ops/patches/window.h"
#include "ops/support/product.h"

enum { PATCHES_BYTES = 1 << 25 };

/* What forward and backward work out, and share from one chunk of images to the next. Sizes of a group have a g. */
typedef struct Plan {
  const Backend *backend;
  Window window;
  DType dtype;
  Device device;
  int64_t images, channels, outputs, groups;
  int64_t length, g_length; /* of a patch */
  int64_t g_outputs;
  int64_t patches; /* of an image */
  int64_t chunk;   /* images */
  bool whole;      /* the patches are the elements of x, in their order */
} Plan;

static bool check_convolution(const Convolution *convolution) {
  const Tensor *x = convolution->x, *weight = convolution->weight;
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  int64_t groups = convolution->groups;
  if (!check_images(x) || !check_compute_float(x->dtype, "dtype") || !same_device(x, weight)) return false;
  if (weight->dtype != x->dtype)
    return error_set("dtypes %s and %s differ", dtype_name(x->dtype), dtype_name(weight->dtype));
  bool fits = weight->rank == 4 && weight->size[0] % groups == 0 && weight->size[1] * groups == x->size[1] &&
              weight->size[2] == convolution->window.y.kernel && weight->size[3] == convolution->window.x.kernel;
  return fits || error_set("input %s and weight %s do not fit in %lld groups", tensor_shape_text(x, first),
                           tensor_shape_text(weight, second), (long long)groups);
}

static bool make_plan(Plan *plan, const Convolution *convolution) {
  const Tensor *x = convolution->x, *weight = convolution->weight;
  *plan = (Plan){.window = convolution->window,
                 .dtype = x->dtype,
                 .device = tensor_device(x),
                 .images = x->size[0],
                 .channels = x->size[1],
                 .outputs = weight->size[0],
                 .groups = convolution->groups};
  if (!check_convolution(convolution) || !fit_window(&plan->window, &x->size[2], false) ||
      !patch_sizes(&plan->window, plan->channels, &plan->length, &plan->patches)) {
    return false;
  }
  plan->backend = backend_for(x);
  plan->g_length = plan->length / plan->groups;
  plan->g_outputs = plan->outputs / plan->groups;
  int64_t bytes;
  if (__builtin_mul_overflow(plan->length * (int64_t)dtype_size(plan->dtype), plan->patches, &bytes))
    return error_set("sizes are too large: they overflow 63 bits");
  plan->chunk = bytes > 0 && PATCHES_BYTES / bytes < plan->images ? PATCHES_BYTES / bytes : plan->images;
  if (plan->chunk < 1) plan->chunk = 1;
  const WindowAxis *axes[] = {&plan->window.y, &plan->window.x};
  plan->whole = true;
  for (int i = 0; i < 2; i++) {
    plan->whole = plan->whole && axes[i]->kernel == 1 && axes[i]->stride == 1 && axes[i]->output == axes[i]->input;
  }
  return true;
}

/* A borrowed view of `count` images from `first` on. */
static Tensor images_of(const Tensor *x, int64_t first, int64_t count) {
  Tensor view = *x;
  view.offset += first * x->stride[0];
  view.size[0] = count;
  return view;
}

/* A borrowed view of contiguous memory as (groups, rows, columns). */
static Tensor matrices(const Tensor *x, int64_t groups, int64_t rows, int64_t columns) {
  Tensor view = *x;
  view.rank = 3;
  view.size[0] = groups;
  view.size[1] = rows;
  view.size[2] = columns;
  view.stride[0] = rows * columns;
  view.stride[1] = columns;
  view.stride[2] = 1;
  return view;
}

/* Such matrices transposed, with strides as a backend takes them (backend.h, matmul). */
static Tensor turned(const Tensor *x) {
  Tensor view = transposed(x, 1, 2);
  if (view.size[1] == 1) view.stride[1] = view.size[2];
  return view;
}

/* A borrowed view (images, channels, elements) of contiguous memory (channels, images, elements). */
static Tensor images_first(const Tensor *x, int64_t channels, int64_t images, int64_t elements) {
  Tensor view = matrices(x, channels, images, elements);
  return transposed(&view, 0, 1);
}

static bool create_matrices(Tensor *out, const Plan *plan, int64_t rows, int64_t columns) {
  return tensor_create(out, plan->dtype, plan->device, 3, (int64_t[]){plan->groups, rows, columns});
}

/* Copies images (images, channels, height, width), contiguous, into `wide`, (channels, images, elements). */
static bool widen(const Plan *plan, Tensor *wide, const Tensor *x, int64_t channels) {
  Tensor source = matrices(x, x->size[0], channels, x->size[2] * x->size[3]);
  Tensor target = images_first(wide, channels, x->size[0], x->size[2] * x->size[3]);
  return plan->backend->copy(&target, &source, true);
}

/* The patches of some images, (length, images, patches). */
static bool unfold_images(const Plan *plan, Tensor *patches, const Tensor *x) {
  if (plan->whole) return widen(plan, patches, x, plan->channels);
  const int64_t stride[] = {plan->patches, x->size[0] * plan->patches, 1};
  Tensor target = patches_view(patches, &plan->window, x->size[0], plan->channels, stride);
  return plan->backend->unfold(&target, x, &plan->window);
}

/* x from (length, images, patches). */
static bool fold_images(const Plan *plan, Tensor *x, const Tensor *patches) {
  if (plan->whole) {
    Tensor source = images_first(patches, plan->channels, x->size[0], plan->patches);
    Tensor target = matrices(x, x->size[0], plan->channels, plan->patches);
    return plan->backend->copy(&target, &source, true);
  }
  const int64_t stride[] = {plan->patches, x->size[0] * plan->patches, 1};
  Tensor source = patches_view(patches, &plan->window, x->size[0], plan->channels, stride);
  return plan->backend->fold(x, &source, &plan->window);
}

/* bias as (images, outputs, patches) */
static Operand bias_operand(Tensor *view, const Tensor *bias, int64_t images, int64_t patches) {
  *view = *bias;
  view->rank = 3;
  view->size[0] = images;
  view->size[1] = bias->size[0];
  view->size[2] = patches;
  view->stride[1] = bias->stride[0];
  view->stride[0] = view->stride[2] = 0;
  return (Operand){.tensor = view};
}

/* y (images, outputs, height, width) = product (outputs, images, patches) + bias */
static bool finish_images(const Plan *plan, Tensor *y, const Tensor *product, const Tensor *bias) {
  Tensor source = images_first(product, plan->outputs, y->size[0], plan->patches);
  Tensor target = matrices(y, y->size[0], plan->outputs, plan->patches), view;
  if (!bias) return plan->backend->copy(&target, &source, true);
  Operand addend = bias_operand(&view, bias, y->size[0], plan->patches);
  return plan->backend->binary(BINARY_ADD, &target, (Operand){.tensor = &source}, addend);
}

/* Some images at a time: y of x, both contiguous. */
static bool convolve_images(const Plan *plan, Tensor *y, const Tensor *x, const Tensor *weight, const Tensor *bias) {
  int64_t columns = x->size[0] * plan->patches;
  Tensor patches = {0}, product = {0};
  bool alone = x->size[0] == 1; /* then the product is y */
  bool done = create_matrices(&patches, plan, plan->g_length, columns) &&
              (alone || create_matrices(&product, plan, plan->g_outputs, columns)) && unfold_images(plan, &patches, x);
  if (done) {
    Tensor target = matrices(alone ? y : &product, plan->groups, plan->g_outputs, columns);
    done = plan->backend->matmul(&target, weight, &patches, NULL);
  }
  tensor_release(&patches);
  if (done && alone && bias) {
    Tensor sum = matrices(y, 1, plan->outputs, plan->patches), view;
    Operand addend = bias_operand(&view, bias, 1, plan->patches);
    done = plan->backend->binary(BINARY_ADD, &sum, (Operand){.tensor = &sum}, addend);
  } else if (done && !alone) {
    done = finish_images(plan, y, &product, bias);
  }
  tensor_release(&product);
  return done;
}

bool op_convolution(Tensor *out, const Convolution *convolution) {
  Plan plan;
  const Tensor *bias = convolution->bias;
  if (!make_plan(&plan, convolution) || !check_bias(convolution->x, bias, plan.outputs, plan.dtype)) return false;
  Tensor created = {0}, x = {0}, weight = {0};
  const int64_t size[] = {plan.images, plan.outputs, plan.window.y.output, plan.window.x.output};
  if (!tensor_create(&created, plan.dtype, plan.device, 4, size)) return false;
  bool done = op_contiguous(&x, convolution->x) && op_contiguous(&weight, convolution->weight);
  for (int64_t first = 0; done && tensor_count(&created) > 0 && first < plan.images; first += plan.chunk) {
    int64_t count = plan.images - first < plan.chunk ? plan.images - first : plan.chunk;
    Tensor some = images_of(&x, first, count), y = images_of(&created, first, count);
    Tensor factor = matrices(&weight, plan.groups, plan.g_outputs, plan.g_length);
    done = convolve_images(&plan, &y, &some, &factor, bias);
  }
  tensor_release(&x);
  tensor_release(&weight);
  return hand_over(out, &created, done);
}

/* --- gradients --- */

typedef struct Backward {
  Tensor *dx;  /* or NULL */
  Tensor *sum; /* (groups, outputs, length) f32, to which dW is added; or NULL */
  Tensor weight;
  bool first; /* the sum is still to be written */
} Backward;

static bool add_weight_gradient(const Plan *plan, Backward *job, const Tensor *grad, const Tensor *x) {
  Tensor patches = {0};
  int64_t columns = x->size[0] * plan->patches;
  bool done = create_matrices(&patches, plan, plan->g_length, columns) && unfold_images(plan, &patches, x);
  if (done) {
    Tensor factor = turned(&patches);
    done = job->first ? plan->backend->matmul(job->sum, grad, &factor, NULL)
                      : plan->backend->matmul_add(job->sum, grad, &factor);
    job->first = false;
  }
  tensor_release(&patches);
  return done;
}

static bool input_gradient(const Plan *plan, Backward *job, const Tensor *grad, Tensor *dx) {
  Tensor patches = {0}, factor = turned(&job->weight);
  bool done = create_matrices(&patches, plan, plan->g_length, dx->size[0] * plan->patches) &&
              plan->backend->matmul(&patches, &factor, grad, NULL) && fold_images(plan, dx, &patches);
  tensor_release(&patches);
  return done;
}

static bool backward_images(const Plan *plan, Backward *job, const Tensor *dy, const Tensor *x, int64_t first) {
  Tensor wide = {0};
  if (!create_matrices(&wide, plan, plan->g_outputs, x->size[0] * plan->patches)) return false;
  bool done = widen(plan, &wide, dy, plan->outputs);
  if (done && job->sum) done = add_weight_gradient(plan, job, &wide, x);
  if (done && job->dx) {
    Tensor dx = images_of(job->dx, first, x->size[0]);
    done = input_gradient(plan, job, &wide, &dx);
  }
  tensor_release(&wide);
  return done;
}

static bool check_gradient(const Plan *plan, const Tensor *x, const Tensor *dy) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(x, dy)) return false;
  bool fits = dy->dtype == plan->dtype && dy->rank == 4 && dy->size[0] == plan->images &&
              dy->size[1] == plan->outputs && dy->size[2] == plan->window.y.output &&
              dy->size[3] == plan->window.x.output;
  return fits || error_set("the gradient must be like the result, got %s of shape %s", dtype_name(dy->dtype),
                           tensor_shape_text(dy, text));
}

bool op_convolution_backward(Tensor *dx, Tensor *dweight, const Convolution *convolution, const Tensor *dy,
                             DType dtype) {
  Plan plan;
  if (!make_plan(&plan, convolution) || !check_gradient(&plan, convolution->x, dy) ||
      (dweight && !check_compute_float(dtype, "the weight's gradient"))) {
    return false;
  }
  Tensor created = {0}, sum = {0}, gradient = {0}, x = {0}, weight = {0}, grad = {0};
  bool done = op_contiguous(&x, convolution->x) && op_contiguous(&weight, convolution->weight) &&
              op_contiguous(&grad, dy) && (!dx || tensor_create_like(&created, &x, plan.dtype)) &&
              (!dweight || tensor_create(&sum, DTYPE_F32, plan.device, 4, convolution->weight->size));
  Tensor sums = {0};
  Backward job = {.dx = dx ? &created : NULL, .sum = dweight ? &sums : NULL, .first = true};
  if (done) {
    job.weight = matrices(&weight, plan.groups, plan.g_outputs, plan.g_length);
    if (dweight) sums = matrices(&sum, plan.groups, plan.g_outputs, plan.g_length);
  }
  for (int64_t first = 0; done && tensor_count(&grad) > 0 && first < plan.images; first += plan.chunk) {
    int64_t count = plan.images - first < plan.chunk ? plan.images - first : plan.chunk;
    Tensor some = images_of(&x, first, count), dy_some = images_of(&grad, first, count);
    done = backward_images(&plan, &job, &dy_some, &some, first);
  }
  if (done && tensor_count(&grad) == 0) {
    done = (!dx || plan.backend->fill(&created, number_of(0))) && (!dweight || plan.backend->fill(&sum, number_of(0)));
  }
  if (done && dweight && dtype != DTYPE_F32) {
    done = op_convert(&gradient, &sum, dtype, plan.device, true);
    tensor_release(&sum);
  } else if (done && dweight) {
    gradient = sum;
    sum = (Tensor){0};
  }
  tensor_release(&x);
  tensor_release(&weight);
  tensor_release(&grad);
  tensor_release(&sum);
  if (dx) hand_over(dx, &created, done);
  return dweight ? hand_over(dweight, &gradient, done) : done;
}
