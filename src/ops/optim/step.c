/* The numbers of an optimizer's step. */
#include <math.h>
#include <string.h>

#include "ops/support/support.h"

/* Derived numbers are worked out in double: 1 - beta2 in float32 would be off by 1e-5 of itself. */
static UpdateStep sgd_step(const UpdateSettings *settings) {
  /* The first gradient enters the buffer as it is. */
  bool whole = settings->momentum == 0 || settings->step == 1;
  return (UpdateStep){.rate = (float)settings->lr,
                      .beta1 = (float)settings->momentum,
                      .fraction1 = whole ? 1.0f : (float)(1 - settings->dampening),
                      .nesterov = settings->nesterov};
}

static UpdateStep adamw_step(const UpdateSettings *settings) {
  double beta1 = settings->beta1, beta2 = settings->beta2;
  return (UpdateStep){.rate = (float)(settings->lr / (1 - pow(beta1, settings->step))),
                      .beta1 = (float)beta1,
                      .fraction1 = (float)(1 - beta1),
                      .beta2 = (float)beta2,
                      .fraction2 = (float)(1 - beta2),
                      .root_scale = (float)(1 / sqrt(1 - pow(beta2, settings->step))),
                      .epsilon = (float)settings->epsilon};
}

static UpdateStep lion_step(const UpdateSettings *settings) {
  double beta1 = settings->beta1, beta2 = settings->beta2;
  return (UpdateStep){.rate = (float)settings->lr,
                      .beta1 = (float)beta1,
                      .fraction1 = (float)(1 - beta1),
                      .beta2 = (float)beta2,
                      .fraction2 = (float)(1 - beta2)};
}

/* The paper corrects the betas instead of the moments: beta (1 - beta^(t - 1)) / (1 - beta^t). */
static UpdateStep stable_adamw_step(const UpdateSettings *settings) {
  double part1 = (1 - settings->beta1) / (1 - pow(settings->beta1, settings->step));
  double part2 = (1 - settings->beta2) / (1 - pow(settings->beta2, settings->step));
  return (UpdateStep){.rate = (float)settings->lr,
                      .beta1 = (float)(1 - part1),
                      .fraction1 = (float)part1,
                      .beta2 = (float)(1 - part2),
                      .fraction2 = (float)part2,
                      .root_scale = 1,
                      .epsilon = (float)settings->epsilon};
}

static UpdateStep step_of_rule(UpdateRule rule, const UpdateSettings *settings) {
  switch (rule) {
  case UPDATE_SGD:
    return sgd_step(settings);
  case UPDATE_ADAMW:
  case UPDATE_ADAM:
    return adamw_step(settings);
  case UPDATE_STABLE_ADAMW:
    return stable_adamw_step(settings);
  case UPDATE_LION:
    return lion_step(settings);
  }
  trap_missing_case();
}

UpdateStep op_update_step(UpdateRule rule, const UpdateSettings *settings) {
  UpdateStep step = step_of_rule(rule, settings);
  step.lr = rule == UPDATE_ADAM ? 0 : (float)settings->lr; /* whose decay is in the gradient alone */
  step.weight_decay = (float)settings->weight_decay;
  step.stochastic = settings->stochastic;
  return step;
}

/* --- random numbers --- */

int64_t op_update_words(const UpdateEntry *list, int count) {
  int64_t words = 0;
  for (int i = 0; i < count; i++) words += parameter_words(list[i].parameter);
  return words;
}

void op_draw_step(UpdateStep *step, int64_t words) {
  if (step->stochastic == 0) return;
  RandomSource source = op_next_random(words);
  step->seed[0] = (uint32_t)source.seed;
  step->seed[1] = (uint32_t)(source.seed >> 32);
  step->offset[0] = (uint32_t)source.offset;
  step->offset[1] = (uint32_t)(source.offset >> 32);
}

/* --- steps on a device --- */

bool op_check_live(const Tensor *live) {
  if (live->dtype == DTYPE_F32 && tensor_is_contiguous(live) && tensor_count(live) == UPDATE_FIELDS) return true;
  return error_set("a live step must be a contiguous f32 tensor of %d numbers", UPDATE_FIELDS);
}

bool op_store_step(Tensor *live, const UpdateStep *step) {
  uint32_t words[UPDATE_FIELDS];
  memcpy(words, step, sizeof words);
  if (!op_check_live(live) || !backend_for(live)->store_words(live, words)) return false;
  tensor_changed(live);
  return true;
}
