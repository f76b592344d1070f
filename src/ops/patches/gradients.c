/* The gradients of convolutions, in two ways. The plain one: dW = dy · patches of xᵀ, and dx is the sum of the patches Wᵀ ·
 * dy. Where windows move in steps of 1, dx is also the convolution of dy with the mirrored weight; then the patches of dy
 * serve both: dx = W' · patches of dy, and dW' = x · patches of dyᵀ, where W' (channels, outputs, kernel) has the elements
 * of W's kernels in reverse order. */
#include "ops/patches/convolution.h"

/* What all images have in common. */
typedef struct Gradients {
  Tensor *sum;   /* of the weight's gradient, for each group a matrix of factors, f32; or NULL */
  Tensor weight; /* the matrices of W, or of W' */
  bool is_new;   /* nothing has been written to the sum */
} Gradients;

/* sum += wide · patchesᵀ */
static bool add_weight_gradient(const ConvolutionPlan *plan, Gradients *gradients, const Tensor *wide,
                                const Tensor *patches) {
  Tensor factor = turned(patches);
  bool is_new = gradients->is_new;
  gradients->is_new = false;
  return is_new ? plan->backend->matmul(gradients->sum, wide, &factor, NULL)
                : plan->backend->matmul_add(gradients->sum, wide, &factor);
}

static bool add_plain(const ConvolutionPlan *plan, Gradients *gradients, const Tensor *x, const Tensor *dy,
                      Tensor *dx) {
  Tensor wide = {0}, patches = {0}, grad_patches = {0};
  bool done = widen_images(plan, &wide, dy);
  if (done && gradients->sum)
    done = unfold_images(plan, &patches, x) && add_weight_gradient(plan, gradients, &wide, &patches);
  tensor_release(&patches);
  if (done && dx) {
    Tensor factor = turned(&gradients->weight);
    done = create_matrices(&grad_patches, plan, plan->g_length, dx->size[0] * plan->patches) &&
           plan->backend->matmul(&grad_patches, &factor, &wide, NULL) && fold_images(plan, dx, &grad_patches);
  }
  tensor_release(&grad_patches);
  tensor_release(&wide);
  return done;
}

static bool add_mirrored(const ConvolutionPlan *mirror, Gradients *gradients, const Tensor *x, const Tensor *dy,
                         Tensor *dx) {
  Tensor wide = {0}, patches = {0};
  bool done = unfold_images(mirror, &patches, dy);
  if (done && dx) done = multiply_images(mirror, dx, &gradients->weight, &patches, NULL);
  if (done && gradients->sum)
    done = widen_images(mirror, &wide, x) && add_weight_gradient(mirror, gradients, &wide, &patches);
  tensor_release(&wide);
  tensor_release(&patches);
  return done;
}

/* --- the mirrored way --- */

static bool mirror_axis(WindowAxis *axis) {
  int64_t reach = (axis->kernel - 1) * axis->dilation, input = axis->input;
  if (axis->stride != 1 || axis->before > reach || axis->after > reach) return false;
  axis->before = reach - axis->before;
  axis->after = reach - axis->after;
  axis->input = axis->output;
  axis->output = input;
  return true;
}

/* The plan of the convolution that dx is, where there is one and it makes fewer patches than the plain way does. */
static bool mirrors(ConvolutionPlan *mirror, const ConvolutionPlan *plan, bool for_input, bool for_weight) {
  *mirror = *plan;
  if (plan->whole || !mirror_axis(&mirror->window.y) || !mirror_axis(&mirror->window.x)) return false;
  int64_t passes = for_input ? 2 + for_weight : 1; /* patches that are written, and those that are read to be summed */
  if (plan->outputs > passes * plan->channels) return false;
  mirror->channels = plan->outputs;
  mirror->outputs = plan->channels;
  return convolution_finish_plan(mirror);
}

/* (groups, a, b, kernel), contiguous, to (groups, b, a, kernel in reverse order). */
static bool mirror_weight(Tensor *out, const Tensor *weight, int64_t groups, int64_t a, int64_t b, int64_t kernel) {
  Device device = tensor_device(weight);
  const int64_t size[] = {groups, b, a, kernel};
  Tensor index = {0}, reversed = {0}, created = {0};
  bool done = op_arange(&index, DTYPE_I64, device, number_of((double)(kernel - 1)), number_of(-1), number_of(-1)) &&
              tensor_create(&reversed, weight->dtype, device, 4, (int64_t[]){groups, a, b, kernel}) &&
              tensor_create(&created, weight->dtype, device, 4, size);
  if (done) {
    Tensor source = matrices(weight, groups * a * b, kernel, 1),
           target = matrices(&reversed, groups * a * b, kernel, 1);
    Tensor exchanged = transposed(&reversed, 1, 2);
    const Backend *backend = backend_for(weight);
    done = backend->index_select(&target, &source, &index) && backend->copy(&created, &exchanged, true);
  }
  tensor_release(&index);
  tensor_release(&reversed);
  return hand_over(out, &created, done);
}

/* --- both --- */

static bool check_gradient(const ConvolutionPlan *plan, const Tensor *x, const Tensor *dy) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(x, dy)) return false;
  bool fits = dy->dtype == plan->dtype && dy->rank == 4 && dy->size[0] == plan->images &&
              dy->size[1] == plan->outputs && dy->size[2] == plan->window.y.output &&
              dy->size[3] == plan->window.x.output;
  return fits || error_set("the gradient must be like the result, got %s of shape %s", dtype_name(dy->dtype),
                           tensor_shape_text(dy, text));
}

/* The gradients of contiguous tensors: dx and sum, if they are not NULL, of the shapes of x and the weight. */
static bool differentiate(const ConvolutionPlan *plan, Tensor *dx, Tensor *sum, const Tensor *x, const Tensor *weight,
                          const Tensor *dy) {
  ConvolutionPlan mirror;
  bool mirrored = mirrors(&mirror, plan, dx != NULL, sum != NULL);
  const ConvolutionPlan *way = mirrored ? &mirror : plan;
  int64_t kernel = plan->window.y.kernel * plan->window.x.kernel;
  Tensor own_weight = {0}, own_sum = {0}, sums = {0};
  bool done = true;
  if (mirrored) {
    done = (!dx || mirror_weight(&own_weight, weight, plan->groups, plan->g_outputs, plan->g_channels, kernel)) &&
           (!sum || tensor_create_like(&own_sum, sum, DTYPE_F32));
  }
  Gradients gradients = {.sum = sum ? &sums : NULL, .is_new = true};
  if (done && dx)
    gradients.weight = matrices(mirrored ? &own_weight : weight, way->groups, way->g_outputs, way->g_length);
  if (done && sum) sums = matrices(mirrored ? &own_sum : sum, way->groups, way->g_outputs, way->g_length);
  for (int64_t first = 0; done && first < plan->images; first += way->chunk) {
    int64_t count = plan->images - first < way->chunk ? plan->images - first : way->chunk;
    Tensor some = images_of(x, first, count), dy_some = images_of(dy, first, count), dx_some;
    if (dx) dx_some = images_of(dx, first, count);
    done = (mirrored ? add_mirrored : add_plain)(way, &gradients, &some, &dy_some, dx ? &dx_some : NULL);
  }
  if (done && mirrored && sum) {
    Tensor result = {0};
    done = mirror_weight(&result, &own_sum, plan->groups, plan->g_channels, plan->g_outputs, kernel) &&
           plan->backend->copy(sum, &result, true);
    tensor_release(&result);
  }
  tensor_release(&own_weight);
  tensor_release(&own_sum);
  return done;
}

/* The same of the weight's gradient in any dtype, which is rounded once. */
static bool differentiate_and_round(const ConvolutionPlan *plan, Tensor *dx, Tensor *dweight, const Tensor *x,
                                    const Tensor *weight, const Tensor *dy) {
  if (!dweight || dweight->dtype == DTYPE_F32) return differentiate(plan, dx, dweight, x, weight, dy);
  Tensor sum = {0};
  bool done = tensor_create_like(&sum, dweight, DTYPE_F32) && differentiate(plan, dx, &sum, x, weight, dy) &&
              plan->backend->copy(dweight, &sum, true);
  tensor_release(&sum);
  return done;
}

bool op_convolution_backward(Tensor *dx, Tensor *dweight, const Convolution *convolution, const Tensor *dy,
                             DType dtype) {
  ConvolutionPlan plan;
  if (!convolution_plan(&plan, convolution) || !check_gradient(&plan, convolution->x, dy) ||
      (dweight && !check_compute_float(dtype, "the weight's gradient"))) {
    return false;
  }
  Tensor created = {0}, gradient = {0}, x = {0}, weight = {0}, grad = {0};
  bool done = op_contiguous(&x, convolution->x) && op_contiguous(&weight, convolution->weight) &&
              op_contiguous(&grad, dy) && (!dx || tensor_create_like(&created, &x, plan.dtype)) &&
              (!dweight || tensor_create_like(&gradient, &weight, dtype));
  bool has_dx = !dx, has_dweight = !dweight;
  if (done && (tensor_count(&grad) == 0 || plan.channels == 0)) {
    done = (!dx || plan.backend->fill(&created, number_of(0))) &&
           (!dweight || plan.backend->fill(&gradient, number_of(0)));
    has_dx = has_dweight = true;
  }
  if (done && !has_dx) done = convolve(&plan, CONVOLUTION_INPUT, &created, &weight, &grad, &has_dx);
  if (done && !has_dweight && (dtype == plan.dtype || dtype == DTYPE_F32))
    done = convolve(&plan, CONVOLUTION_WEIGHT, &x, &gradient, &grad, &has_dweight);
  if (done && !(has_dx && has_dweight)) {
    done = differentiate_and_round(&plan, has_dx ? NULL : &created, has_dweight ? NULL : &gradient, &x, &weight, &grad);
  }
  tensor_release(&x);
  tensor_release(&weight);
  tensor_release(&grad);
  if (dx) hand_over(dx, &created, done);
  return dweight ? hand_over(dweight, &gradient, done) : done;
}
