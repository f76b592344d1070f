/* Convolutions: a backend's own, or products of patches. */
#include "ops/patches/convolution.h"

#include "ops/support/product.h"

enum { PATCHES_BYTES = 1 << 25 };

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

bool convolution_finish_plan(ConvolutionPlan *plan) {
  if (!patch_sizes(&plan->window, plan->channels, &plan->length, &plan->patches)) return false;
  plan->g_length = plan->length / plan->groups;
  plan->g_channels = plan->channels / plan->groups;
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

bool convolution_plan(ConvolutionPlan *plan, const Convolution *convolution) {
  const Tensor *x = convolution->x, *weight = convolution->weight;
  if (!check_convolution(convolution)) return false;
  *plan = (ConvolutionPlan){.backend = backend_for(x),
                            .window = convolution->window,
                            .dtype = x->dtype,
                            .device = tensor_device(x),
                            .images = x->size[0],
                            .channels = x->size[1],
                            .outputs = weight->size[0],
                            .groups = convolution->groups};
  return fit_window(&plan->window, &x->size[2], false) && convolution_finish_plan(plan);
}

bool convolve(const ConvolutionPlan *plan, ConvolutionResult result, const Tensor *x, const Tensor *weight,
              const Tensor *y, bool *done) {
  ConvolutionTensors tensors = {.result = result, .window = plan->window, .x = x, .weight = weight, .y = y};
  *done = false;
  return !plan->backend->convolve || plan->backend->convolve(&tensors, done);
}

Tensor images_of(const Tensor *x, int64_t first, int64_t count) {
  Tensor view = *x;
  view.offset += first * x->stride[0];
  view.size[0] = count;
  return view;
}

Tensor matrices(const Tensor *x, int64_t groups, int64_t rows, int64_t columns) {
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

Tensor turned(const Tensor *x) {
  Tensor view = transposed(x, 1, 2);
  if (view.size[1] == 1) view.stride[1] = view.size[2];
  return view;
}

/* A borrowed view (images, channels, elements) of contiguous memory (channels, images, elements). */
static Tensor images_first(const Tensor *x, int64_t channels, int64_t images, int64_t elements) {
  Tensor view = matrices(x, channels, images, elements);
  return transposed(&view, 0, 1);
}

bool create_matrices(Tensor *out, const ConvolutionPlan *plan, int64_t rows, int64_t columns) {
  return tensor_create(out, plan->dtype, plan->device, 3, (int64_t[]){plan->groups, rows, columns});
}

/* Copies images (images, channels, height, width), contiguous, into (channels, images, elements). */
static bool copy_wide(const ConvolutionPlan *plan, Tensor *wide, const Tensor *x) {
  int64_t elements = x->size[2] * x->size[3];
  Tensor source = matrices(x, x->size[0], x->size[1], elements);
  Tensor target = images_first(wide, x->size[1], x->size[0], elements);
  return plan->backend->copy(&target, &source, true);
}

bool widen_images(const ConvolutionPlan *plan, Tensor *wide, const Tensor *x) {
  return create_matrices(wide, plan, x->size[1] / plan->groups, x->size[0] * x->size[2] * x->size[3]) &&
         copy_wide(plan, wide, x);
}

/* Patches of some images in that order. */
static Tensor wide_patches(const ConvolutionPlan *plan, const Tensor *patches, int64_t images) {
  const int64_t stride[] = {plan->patches, images * plan->patches, 1};
  return patches_view(patches, &plan->window, images, plan->channels, stride);
}

bool unfold_images(const ConvolutionPlan *plan, Tensor *patches, const Tensor *x) {
  if (!create_matrices(patches, plan, plan->g_length, x->size[0] * plan->patches)) return false;
  if (plan->whole) return copy_wide(plan, patches, x);
  Tensor target = wide_patches(plan, patches, x->size[0]);
  return plan->backend->unfold(&target, x, &plan->window);
}

bool fold_images(const ConvolutionPlan *plan, Tensor *x, const Tensor *patches) {
  if (plan->whole) {
    Tensor source = images_first(patches, plan->channels, x->size[0], plan->patches);
    Tensor target = matrices(x, x->size[0], plan->channels, plan->patches);
    return plan->backend->copy(&target, &source, true);
  }
  Tensor source = wide_patches(plan, patches, x->size[0]);
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

/* Writes product (outputs, images, patches) + bias to y (images, outputs, patches); or adds the bias to y, if that is the
 * product. */
static bool finish_images(const ConvolutionPlan *plan, Tensor *y, const Tensor *product, const Tensor *bias) {
  int64_t images = y->size[0];
  Tensor target = matrices(y, images, plan->outputs, plan->patches), view;
  Tensor source = product == y ? target : images_first(product, plan->outputs, images, plan->patches);
  if (!bias) return product == y || plan->backend->copy(&target, &source, true);
  Operand addend = bias_operand(&view, bias, images, plan->patches);
  return plan->backend->binary(BINARY_ADD, &target, (Operand){.tensor = &source}, addend);
}

bool multiply_images(const ConvolutionPlan *plan, Tensor *y, const Tensor *weight, const Tensor *patches,
                     const Tensor *bias) {
  int64_t columns = y->size[0] * plan->patches;
  Tensor product = {0};
  bool alone = y->size[0] == 1; /* then the product is y */
  if (!alone && !create_matrices(&product, plan, plan->g_outputs, columns)) return false;
  Tensor target = matrices(alone ? y : &product, plan->groups, plan->g_outputs, columns);
  bool done =
      plan->backend->matmul(&target, weight, patches, NULL) && finish_images(plan, y, alone ? y : &product, bias);
  tensor_release(&product);
  return done;
}

/* Whether images have enough patches each for products of their own, whose rows begin on vectors: then these are y, and
 * nothing has to be copied. */
static bool are_apart(const ConvolutionPlan *plan) {
  return plan->groups == 1 && plan->images > 1 && plan->patches >= 1024 && plan->patches % 8 == 0;
}

/* y of some images, x, as a product for each image. */
static bool multiply_apart(const ConvolutionPlan *plan, Tensor *y, const Tensor *weight, const Tensor *x,
                           const Tensor *bias) {
  const int64_t images = y->size[0];
  Tensor patches = {0}, source = matrices(x, images, plan->length, plan->patches); /* of a whole image */
  bool done = true;
  if (!plan->whole) {
    const int64_t stride[] = {plan->length * plan->patches, plan->patches, 1};
    done = tensor_create(&patches, plan->dtype, plan->device, 3, source.size);
    if (done) {
      Tensor target = patches_view(&patches, &plan->window, images, plan->channels, stride);
      done = plan->backend->unfold(&target, x, &plan->window);
      source = patches;
    }
  }
  if (done) {
    Tensor target = matrices(y, images, plan->outputs, plan->patches);
    Tensor factor = matrices(weight, images, plan->outputs, plan->length);
    factor.stride[0] = 0;
    done = plan->backend->matmul(&target, &factor, &source, NULL) && finish_images(plan, y, y, bias);
  }
  tensor_release(&patches);
  return done;
}

/* y (images, outputs, height, width) of all images, with patches of some at a time. */
static bool multiply_chunks(const ConvolutionPlan *plan, Tensor *y, const Tensor *x, const Tensor *weight,
                            const Tensor *bias) {
  bool done = true;
  for (int64_t first = 0; done && first < plan->images; first += plan->chunk) {
    int64_t count = plan->images - first < plan->chunk ? plan->images - first : plan->chunk;
    Tensor some = images_of(x, first, count), y_some = images_of(y, first, count), patches = {0};
    if (are_apart(plan)) {
      done = multiply_apart(plan, &y_some, weight, &some, bias);
      continue;
    }
    Tensor factor = matrices(weight, plan->groups, plan->g_outputs, plan->g_length);
    done = unfold_images(plan, &patches, &some) && multiply_images(plan, &y_some, &factor, &patches, bias);
    tensor_release(&patches);
  }
  return done;
}

bool op_convolution(Tensor *out, const Convolution *convolution) {
  ConvolutionPlan plan;
  const Tensor *bias = convolution->bias;
  if (!convolution_plan(&plan, convolution) || !check_bias(convolution->x, bias, plan.outputs, plan.dtype))
    return false;
  Tensor created = {0}, x = {0}, weight = {0};
  const int64_t size[] = {plan.images, plan.outputs, plan.window.y.output, plan.window.x.output};
  if (!tensor_create(&created, plan.dtype, plan.device, 4, size)) return false;
  bool done = op_contiguous(&x, convolution->x) && op_contiguous(&weight, convolution->weight), direct = false;
  if (done && tensor_count(&created) > 0) {
    done = plan.channels == 0 || convolve(&plan, CONVOLUTION_OUTPUT, &x, &weight, &created, &direct);
    if (done) {
      done =
          direct ? finish_images(&plan, &created, &created, bias) : multiply_chunks(&plan, &created, &x, &weight, bias);
    }
  }
  tensor_release(&x);
  tensor_release(&weight);
  return hand_over(out, &created, done);
}
