/* Layer, root mean square and batch normalization: checks, and outputs. */
#include <math.h>

#include "ops/support/support.h"

/* weight or bias, if there is one */
static bool check_parameter(const Tensor *x, int64_t columns, const Tensor *parameter, const char *name) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!parameter) return true;
  if (!same_device(x, parameter)) return false;
  if (parameter->rank != 1 || parameter->size[0] != columns) {
    return error_set("the %s must have shape (%lld), got %s", name, (long long)columns,
                     tensor_shape_text(parameter, text));
  }
  if (parameter->dtype == x->dtype || parameter->dtype == DTYPE_F32) return true;
  const char *wanted = dtype_name(x->dtype), *given = dtype_name(parameter->dtype);
  if (!dtype_is_compute_float(parameter->dtype))
    return error_set("the %s must be %s, like the input, or f32, got %s", name, wanted, given);
  return error_set("the input is %s, the %s %s: write x:to \"%s\" or layer:to \"%s\"", wanted, name, given, given,
                   wanted);
}

static bool check_epsilon(double epsilon) {
  if (isfinite(epsilon) && epsilon >= 0) return true;
  return error_set("epsilon must be at least 0 and finite, got %g", epsilon);
}

/* (images, channels, elements) */
static bool check_images(const Tensor *x) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!check_compute_float(x->dtype, "the input")) return false;
  if (x->rank == 3) return true;
  return error_set("the input must have images, channels and elements, got shape %s", tensor_shape_text(x, text));
}

static bool check_input(const Tensor *x) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!check_compute_float(x->dtype, "the input")) return false;
  if (x->rank > 0 && x->size[x->rank - 1] > 0) return true;
  return error_set("the input's last dimension must not be empty, got shape %s", tensor_shape_text(x, text));
}

/* f32: one a row of `x`, or a pair of them. */
static bool create_statistics(Tensor *out, const Tensor *x, bool pairs) {
  int64_t size[TENSOR_MAX_RANK] = {0};
  for (int i = 0; i < x->rank - 1; i++) size[i] = x->size[i];
  size[x->rank - 1] = 2;
  return tensor_create(out, DTYPE_F32, tensor_device(x), pairs ? x->rank : x->rank - 1, size);
}

static bool check_addend(const Tensor *x, const Tensor *addend) {
  if (!addend) return true;
  if (!same_device(x, addend)) return false;
  if (tensor_same_shape(addend, x) && addend->dtype == x->dtype) return true;
  return error_set("what is added must have the input's shape and dtype");
}

bool op_normalize(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *sum, const Normalization *normalization) {
  const Tensor *x = normalization->x, *weight = normalization->weight, *bias = normalization->bias;
  const Tensor *addend = normalization->addend;
  double epsilon = normalization->epsilon;
  if (!check_input(x)) return false;
  int64_t columns = x->size[x->rank - 1];
  if (!check_parameter(x, columns, weight, "weight") || !check_parameter(x, columns, bias, "bias")) return false;
  if (!check_addend(x, addend) || !check_epsilon(epsilon)) return false;
  enum { OUT, MEAN, INVERSE, SUM, INPUT, ADDEND, WEIGHT, BIAS, COUNT };
  Tensor all[COUNT] = {{0}};
  bool done = op_contiguous(&all[INPUT], x) && (!addend || op_contiguous(&all[ADDEND], addend)) &&
              (!weight || op_contiguous(&all[WEIGHT], weight)) && (!bias || op_contiguous(&all[BIAS], bias)) &&
              tensor_create_like(&all[OUT], x, x->dtype) && (!addend || tensor_create_like(&all[SUM], x, x->dtype)) &&
              (!mean || create_statistics(&all[MEAN], x, true)) && create_statistics(&all[INVERSE], x, false) &&
              backend_for(x)->normalize(&all[OUT], mean ? &all[MEAN] : NULL, &all[INVERSE],
                                        &(Normalization){.x = &all[INPUT],
                                                         .addend = addend ? &all[ADDEND] : NULL,
                                                         .weight = weight ? &all[WEIGHT] : NULL,
                                                         .bias = bias ? &all[BIAS] : NULL,
                                                         .sum = addend ? &all[SUM] : NULL,
                                                         .epsilon = epsilon});
  for (int i = INPUT; i < COUNT; i++) tensor_release(&all[i]);
  if (mean) hand_over(mean, &all[MEAN], done);
  if (addend) hand_over(sum, &all[SUM], done);
  hand_over(inverse, &all[INVERSE], done);
  return hand_over(out, &all[OUT], done);
}

bool op_normalize_channels(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *variance,
                           const Normalization *normalization) {
  const Tensor *x = normalization->x, *weight = normalization->weight, *bias = normalization->bias;
  if (!check_images(x) || !check_epsilon(normalization->epsilon)) return false;
  const int64_t channels = x->size[1], pairs[] = {channels, 2};
  if (!check_parameter(x, channels, weight, "weight") || !check_parameter(x, channels, bias, "bias")) return false;
  enum { OUT, MEAN, INVERSE, VARIANCE, INPUT, WEIGHT, BIAS, COUNT };
  Tensor all[COUNT] = {{0}};
  const Device device = tensor_device(x);
  bool done = op_contiguous(&all[INPUT], x) && (!weight || op_contiguous(&all[WEIGHT], weight)) &&
              (!bias || op_contiguous(&all[BIAS], bias)) && tensor_create_like(&all[OUT], x, x->dtype) &&
              tensor_create(&all[MEAN], DTYPE_F32, device, 2, pairs) &&
              tensor_create(&all[INVERSE], DTYPE_F32, device, 1, &channels) &&
              tensor_create(&all[VARIANCE], DTYPE_F32, device, 1, &channels) &&
              backend_for(x)->normalize_channels(&all[OUT], &all[MEAN], &all[INVERSE], &all[VARIANCE],
                                                 &(Normalization){.x = &all[INPUT],
                                                                  .weight = weight ? &all[WEIGHT] : NULL,
                                                                  .bias = bias ? &all[BIAS] : NULL,
                                                                  .epsilon = normalization->epsilon});
  for (int i = INPUT; i < COUNT; i++) tensor_release(&all[i]);
  hand_over(mean, &all[MEAN], done);
  hand_over(inverse, &all[INVERSE], done);
  hand_over(variance, &all[VARIANCE], done);
  return hand_over(out, &all[OUT], done);
}

/* Of rows, or of channels. */
static bool check_statistics(const Tensor *x, bool by_channel, const Tensor *statistics, bool pairs) {
  if (!statistics) return true;
  if (!same_device(x, statistics)) return false;
  const int64_t *size = by_channel ? &x->size[1] : x->size;
  int rank = by_channel ? 1 : x->rank - 1;
  bool fits = statistics->dtype == DTYPE_F32 && statistics->rank == rank + pairs && tensor_is_contiguous(statistics);
  for (int i = 0; fits && i < rank; i++) fits = statistics->size[i] == size[i];
  if (fits && (!pairs || statistics->size[rank] == 2)) return true;
  return error_set("the mean and the inverse deviation must be f32, two and one a %s", by_channel ? "channel" : "row");
}

bool op_normalize_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward, DType bias_dtype,
                           bool by_channel) {
  const Tensor *dy = backward->dy, *x = backward->x, *weight = backward->weight, *addend = backward->addend;
  const Tensor *mean = backward->mean, *inverse = backward->inverse;
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!(by_channel ? check_images(x) : check_input(x)) || !check_compute_float(dy->dtype, "the gradient")) return false;
  const int64_t columns = by_channel ? x->size[1] : x->size[x->rank - 1];
  if (!check_parameter(x, columns, weight, "weight") || !same_device(x, dy)) return false;
  if (!check_statistics(x, by_channel, mean, true) || !check_statistics(x, by_channel, inverse, false)) return false;
  if (by_channel && (!mean || addend)) return error_set("channels have a mean and no addend");
  if (!tensor_same_shape(dy, x)) {
    return error_set("shapes %s and %s differ", tensor_shape_text(dy, first), tensor_shape_text(x, second));
  }
  if (addend && (!same_device(x, addend) || !tensor_same_shape(addend, x) || addend->dtype != x->dtype)) {
    return error_set("what is added to the gradient must have the input's shape, dtype and device");
  }
  if (gradients->weight && !weight) return error_set("there is no weight to have a gradient");
  if (gradients->bias && !check_compute_float(bias_dtype, "the bias's gradient")) return false;
  enum { X, WEIGHT, BIAS, OUTPUTS };
  Tensor *receivers[OUTPUTS] = {gradients->x, gradients->weight, gradients->bias};
  Tensor created[OUTPUTS] = {{0}}, grad = {0}, input = {0}, factors = {0}, terms = {0};
  Device device = tensor_device(x);
  bool done = op_contiguous(&grad, dy) && op_contiguous(&input, x) && (!weight || op_contiguous(&factors, weight)) &&
              (!addend || op_contiguous(&terms, addend)) &&
              (!receivers[X] || tensor_create_like(&created[X], x, x->dtype)) &&
              (!receivers[WEIGHT] || tensor_create(&created[WEIGHT], weight->dtype, device, 1, &columns)) &&
              (!receivers[BIAS] || tensor_create(&created[BIAS], bias_dtype, device, 1, &columns));
  NormalizeGradients targets = {
      .x = receivers[X] ? &created[X] : NULL,
      .weight = receivers[WEIGHT] ? &created[WEIGHT] : NULL,
      .bias = receivers[BIAS] ? &created[BIAS] : NULL,
  };
  NormalizeBackward ready = {
      .dy = &grad,
      .x = &input,
      .mean = mean,
      .inverse = inverse,
      .weight = weight ? &factors : NULL,
      .addend = addend ? &terms : NULL,
  };
  const Backend *backend = backend_for(x);
  done = done && (by_channel ? backend->normalize_channels_backward : backend->normalize_backward)(&targets, &ready);
  tensor_release(&grad);
  tensor_release(&input);
  tensor_release(&factors);
  tensor_release(&terms);
  for (int i = 0; i < OUTPUTS; i++) {
    if (receivers[i]) hand_over(receivers[i], &created[i], done);
  }
  return done;
}
