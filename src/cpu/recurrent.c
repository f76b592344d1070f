/* The gates of a step of a recurrent layer and their derivatives: core/operations.h. Rows are spread over threads, a
 * run of hidden features at a time. */
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

enum { PARTS_MOST = 4, GATE_WORK = 60 };

typedef struct Recurrent {
  DType dtype;
  bool lstm;
  int64_t width; /* hidden features */
  const void *from_input, *from_hidden, *before;
  void *hidden, *state, *saved;
  /* backward */
  const void *after, *grad_hidden, *grad_after;
  void *grad_from_input, *grad_from_hidden, *grad_state;
} Recurrent;

/* n neighbours of each of so many parts of a row. */
typedef float Run[PARTS_MOST][CHUNK];

static void load_parts(const Recurrent *job, Run out, const void *data, int64_t row, int parts, int64_t first, int n) {
  for (int part = 0; part < parts; part++) {
    convert_run(DTYPE_F32, out[part], 0, job->dtype, data, (row * parts + part) * job->width + first, n);
  }
}

static void store_parts(const Recurrent *job, void *data, int64_t row, int parts, int64_t first, int n, Run values) {
  for (int part = 0; part < parts; part++) {
    store_floats(job->dtype, data, (row * parts + part) * job->width + first, n, values[part]);
  }
}

VECTORIZE static void gru(Run x, Run h, const float *before, float *state, Run saved, int n) {
  for (int i = 0; i < n; i++) {
    float r = vector_sigmoid(x[0][i] + h[0][i]), z = vector_sigmoid(x[1][i] + h[1][i]);
    float bent = vector_tanh(x[2][i] + r * h[2][i]);
    state[i] = (1.0f - z) * bent + z * before[i];
    saved[0][i] = r;
    saved[1][i] = z;
    saved[2][i] = bent;
    saved[3][i] = h[2][i];
  }
}

VECTORIZE static void lstm(Run x, Run h, const float *before, float *state, float *hidden, Run saved, int n) {
  for (int k = 0; k < n; k++) {
    float i = vector_sigmoid(x[0][k] + h[0][k]), f = vector_sigmoid(x[1][k] + h[1][k]);
    float g = vector_tanh(x[2][k] + h[2][k]), o = vector_sigmoid(x[3][k] + h[3][k]);
    state[k] = f * before[k] + i * g;
    hidden[k] = o * vector_tanh(state[k]);
    saved[0][k] = i;
    saved[1][k] = f;
    saved[2][k] = g;
    saved[3][k] = o;
  }
}

static void step_rows(int64_t begin, int64_t end, const void *context) {
  const Recurrent *job = context;
  Run x, h, saved;
  float buffer[CHUNK], state[CHUNK], hidden[CHUNK];
  int parts = job->lstm ? 4 : 3;
  for (int64_t row = begin; row < end; row++) {
    for (int64_t first = 0; first < job->width; first += CHUNK) {
      int n = chunk_length(job->width, first);
      int64_t at = row * job->width + first;
      load_parts(job, x, job->from_input, row, parts, first, n);
      load_parts(job, h, job->from_hidden, row, parts, first, n);
      const float *before = load_floats(job->dtype, job->before, at, n, buffer);
      if (job->lstm) {
        lstm(x, h, before, state, hidden, saved, n);
        store_floats(job->dtype, job->hidden, at, n, hidden);
      } else {
        gru(x, h, before, state, saved, n);
      }
      store_floats(job->dtype, job->state, at, n, state);
      store_parts(job, job->saved, row, 4, first, n, saved);
    }
  }
}

bool cpu_recurrent_step(Tensor *hidden, Tensor *state, Tensor *saved, const RecurrentStep *step) {
  Recurrent job = {.dtype = state->dtype,
                   .lstm = hidden != NULL,
                   .width = state->size[1],
                   .from_input = tensor_data(step->from_input),
                   .from_hidden = tensor_data(step->from_hidden),
                   .before = tensor_data(step->state),
                   .hidden = hidden ? tensor_data(hidden) : NULL,
                   .state = tensor_data(state),
                   .saved = tensor_data(saved)};
  parallel_for(state->size[0], job.width * GATE_WORK, step_rows, &job);
  return true;
}

/* saved: r, z, n and hn. */
VECTORIZE static void gru_gradients(Run saved, const float *before, const float *grad, float *state, Run input,
                                    Run hidden, int n) {
  for (int i = 0; i < n; i++) {
    float r = saved[0][i], z = saved[1][i], bent = saved[2][i];
    float grad_n = grad[i] * (1.0f - z) * (1.0f - bent * bent);
    state[i] = grad[i] * z;
    input[0][i] = hidden[0][i] = grad_n * saved[3][i] * r * (1.0f - r);
    input[1][i] = hidden[1][i] = grad[i] * (before[i] - bent) * z * (1.0f - z);
    input[2][i] = grad_n;
    hidden[2][i] = grad_n * r;
  }
}

/* saved: i, f, g and o. */
VECTORIZE static void lstm_gradients(Run saved, const float *before, const float *after, const float *grad,
                                     const float *grad_after, float *state, Run gates, int n) {
  for (int k = 0; k < n; k++) {
    float i = saved[0][k], f = saved[1][k], g = saved[2][k], o = saved[3][k], bent = vector_tanh(after[k]);
    float grad_state = grad_after[k] + grad[k] * o * (1.0f - bent * bent);
    state[k] = grad_state * f;
    gates[0][k] = grad_state * g * i * (1.0f - i);
    gates[1][k] = grad_state * before[k] * f * (1.0f - f);
    gates[2][k] = grad_state * i * (1.0f - g * g);
    gates[3][k] = grad[k] * bent * o * (1.0f - o);
  }
}

static void backward_rows(int64_t begin, int64_t end, const void *context) {
  const Recurrent *job = context;
  Run saved, input, hidden;
  float buffer[4][CHUNK], state[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    for (int64_t first = 0; first < job->width; first += CHUNK) {
      int n = chunk_length(job->width, first);
      int64_t at = row * job->width + first;
      load_parts(job, saved, job->saved, row, 4, first, n);
      const float *before = load_floats(job->dtype, job->before, at, n, buffer[0]);
      const float *grad = load_floats(job->dtype, job->grad_hidden, at, n, buffer[1]);
      if (job->lstm) {
        const float *after = load_floats(job->dtype, job->after, at, n, buffer[2]);
        const float *grad_after = load_floats(job->dtype, job->grad_after, at, n, buffer[3]);
        lstm_gradients(saved, before, after, grad, grad_after, state, input, n);
      } else {
        gru_gradients(saved, before, grad, state, input, hidden, n);
        store_parts(job, job->grad_from_hidden, row, 3, first, n, hidden);
      }
      store_parts(job, job->grad_from_input, row, job->lstm ? 4 : 3, first, n, input);
      store_floats(job->dtype, job->grad_state, at, n, state);
    }
  }
}

bool cpu_recurrent_step_backward(Tensor *from_input, Tensor *from_hidden, Tensor *state,
                                 const RecurrentBackward *backward) {
  bool lstm = from_hidden == NULL;
  Recurrent job = {.dtype = state->dtype,
                   .lstm = lstm,
                   .width = state->size[1],
                   .saved = tensor_data(backward->saved),
                   .before = tensor_data(backward->state),
                   .after = lstm ? tensor_data(backward->state_after) : NULL,
                   .grad_hidden = tensor_data(backward->grad_hidden),
                   .grad_after = lstm ? tensor_data(backward->grad_state_after) : NULL,
                   .grad_from_input = tensor_data(from_input),
                   .grad_from_hidden = lstm ? NULL : tensor_data(from_hidden),
                   .grad_state = tensor_data(state)};
  parallel_for(state->size[0], job.width * GATE_WORK, backward_rows, &job);
  return true;
}
