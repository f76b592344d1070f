/* Quantization of a tensor, or of its Hadamard transform, in one way or in two: by a kernel that reads it once, or step by
 * step. */
#include "ops/support/quantizer.h"

static bool takes(const Backend *backend, const Tensor *x, const QuantizeWay *ways, int count) {
  return backend->quantizes_ways && backend->quantizes_ways(x, ways, count);
}

/* Scales that are fitted become known ones. */
static bool fit_known_scale(Tensor *scale, Quantizer *quantizer, const Tensor *x, const FitRule *fit) {
  int64_t blocks = tensor_count(x) > 0 ? block_count(x, quantizer, (Blocks){.length = quantizer->blocksize}) : 1;
  if (!tensor_create(scale, DTYPE_F32, tensor_device(x), 1, &blocks) ||
      !backend_for(x)->fitted_scale(scale, x, quantizer, fit)) {
    return false;
  }
  quantizer->known_scale = scale;
  quantizer->rule.rounding = SCALE_EXACT;
  quantizer->upper = NULL;
  quantizer->upper_each = 0;
  return true;
}

static bool quantize_in_steps(Tensor *column_sum, const Tensor *x, const QuantizeWay *way) {
  const Backend *backend = backend_for(x);
  Tensor transformed = {0}, upper = {0}, scale = {0};
  Quantizer quantizer = way->quantizer;
  QuantizeOutputs outputs = way->outputs;
  bool transforms = way->hadamard.length > 0, done = true;
  if (transforms) {
    Tensor columns = tensor_as_transposed_matrix(x);
    done = tensor_create_like(&transformed, x, x->dtype) && backend->hadamard(&transformed, x, &way->hadamard) &&
           (!column_sum || backend->reduce(REDUCE_SUM, 0, column_sum, &columns));
  } else {
    outputs.column_sum = column_sum;
  }
  const Tensor *source = transforms ? &transformed : x;
  if (done && way->upper != UPPER_NONE && tensor_count(x) > 0) {
    done = measure_upper_scales(&upper, source, way->upper);
    quantizer.upper = &upper;
  }
  if (done && fit_is_wanted(&way->fit)) done = fit_known_scale(&scale, &quantizer, source, &way->fit);
  done = done && backend->quantize(&outputs, source, &quantizer);
  tensor_release(&transformed);
  tensor_release(&upper);
  tensor_release(&scale);
  return done;
}

const char no_drawn_signs[] = "signs of a transform that are drawn at every replay of a graph are for quantizations in "
                              "small blocks, of the graph that is being captured";

/* Signs that have been drawn for the open capture. */
static bool find_drawn_signs(QuantizeWay *way, const Tensor *x) {
  Capture *capture = capture_open();
  if (way->hadamard.drawn == 0) return true;
  if (!capture || way->hadamard.drawn > capture_random(capture)->blocks || !takes(backend_for(x), x, way, 1)) {
    return error_set("%s", no_drawn_signs);
  }
  way->quantizer.live_random = &capture_random(capture)->live;
  return true;
}

bool draw_for_way(QuantizeWay *way, const Tensor *x) {
  Quantizer *quantizer = &way->quantizer;
  int64_t words = rounding_words(tensor_count(x));
  if (!find_drawn_signs(way, x)) return false;
  if (!quantizer->stochastic) return true;
  if (takes(backend_for(x), x, way, 1)) {
    return op_next_live_random(&quantizer->random, &quantizer->live_random, tensor_device(x), words);
  }
  if (!op_check_random()) return false;
  quantizer->random = op_next_random(words);
  return true;
}

bool quantize_way(Tensor *column_sum, const Tensor *x, const QuantizeWay *way) {
  const Backend *backend = backend_for(x);
  if (takes(backend, x, way, 1)) return backend->quantize_ways(column_sum, x, way, 1);
  return quantize_in_steps(column_sum, x, way);
}

bool op_quantize_values(Tensor *const values[], Tensor *column_sum, const Tensor *x, const ValuesOptions *options,
                        int count) {
  enum { SUM = QUANTIZE_WAYS };
  const Backend *backend = backend_for(x);
  Tensor input = {0}, created[QUANTIZE_WAYS + 1] = {{0}};
  QuantizeWay ways[QUANTIZE_WAYS];
  int64_t columns = columns_of(x);
  for (int i = 0; i < count; i++) {
    QuantizeOutputs wanted = {.values = values[i], .column_sum = i == 0 ? column_sum : NULL};
    ways[i] = (QuantizeWay){.outputs.values = &created[i],
                            .upper = options[i].quantize.upper,
                            .fit = options[i].quantize.fit,
                            .hadamard = options[i].hadamard};
    if (!check_quantize_outputs(&wanted, x, &options[i].quantize) ||
        !make_drawing_quantizer(&ways[i].quantizer, x, &options[i].quantize)) {
      return false;
    }
  }
  bool done = op_contiguous(&input, x) &&
              (!column_sum || tensor_create(&created[SUM], options->quantize.sum_dtype, tensor_device(x), 1, &columns));
  for (int i = 0; i < count; i++) {
    done = done && tensor_create_like(&created[i], x, options->quantize.dtype);
  }
  for (int i = 0; i < count; i++) done = done && draw_for_way(&ways[i], &input);
  Tensor *sum = column_sum ? &created[SUM] : NULL;
  if (done && count > 1 && takes(backend, &input, ways, count)) {
    done = backend->quantize_ways(sum, &input, ways, count);
  } else {
    for (int i = 0; i < count; i++) done = done && quantize_way(i == 0 ? sum : NULL, &input, &ways[i]);
  }
  tensor_release(&input);
  for (int i = 0; i < count; i++) hand_over(values[i], &created[i], done);
  if (column_sum) hand_over(column_sum, &created[SUM], done);
  return done;
}
