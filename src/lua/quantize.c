/* Quantization, and back. */
#include <float.h>
#include <string.h>

#include "lua/binding/binding.h"

/* --- quantizers: how something is quantized, checked once --- */

static Format format_field(lua_State *L, int table) {
  Format format = {0};
  int type = push_field(L, table, "format");
  if (type == LUA_TUSERDATA) {
    lua_pop(L, 1);
    format.map = tensor_field(L, table, "format");
    return format;
  }
  if (type != LUA_TSTRING) {
    argument_error(L, table, "map or name of a format expected, got %s",
                   type == LUA_TNIL ? "nothing" : luaL_typename(L, -1));
  }
  const char *name = plain_text(L, -1);
  if (name) format.small = small_format_called(name);
  if (!format.small && (!name || !dtype_parse(name, &format.hardware) || !dtype_is_float8(format.hardware))) {
    argument_error(L, table, "there is no format '%.40s'", lua_tostring(L, -1));
  }
  lua_pop(L, 1);
  return format;
}

/* A side of the tile on top of the stack. */
static int64_t tile_side(lua_State *L, int table, int position) {
  lua_rawgeti(L, -1, position);
  double side = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
  if (!number_is_whole(side) || side < 1) {
    argument_error(L, table, "a tile must be {rows, columns}, whole numbers of at least 1");
  }
  lua_pop(L, 1);
  return (int64_t)side;
}

/* A blocksize, a tile {rows, columns}, or nil for the whole tensor. */
static Blocks blocks_field(lua_State *L, int table) {
  Blocks blocks = {0};
  int type = push_field(L, table, "blocksize");
  if (type == LUA_TTABLE) {
    if (list_length(L, -1, table) != 2) argument_error(L, table, "a tile must be {rows, columns}");
    blocks = (Blocks){.rows = tile_side(L, table, 1), .columns = tile_side(L, table, 2)};
  } else if (type != LUA_TNIL) {
    check_field_type(L, table, "blocksize", LUA_TNUMBER);
    double length = lua_tonumber(L, -1);
    if (!number_is_whole(length)) argument_error(L, table, "blocksize: whole number expected, got %.14g", length);
    if (length < 1) argument_error(L, table, "blocksize must be at least 1, got %.14g", length);
    blocks.length = (int64_t)length;
  }
  lua_pop(L, 1);
  return blocks;
}

/* Pushes the metatable of quantizers. */
static void push_metatable(lua_State *L) {
  if (luaL_newmetatable(L, "fp8.Quantizer")) {
    lua_pushliteral(L, "fp8.Quantizer");
    lua_setfield(L, -2, "__metatable");
  }
  state_now()->quantizers = lua_topointer(L, -1);
}

/* A positive number, or 0 for nil. */
static float positive_field(lua_State *L, int table, const char *name) {
  float number = 0;
  if (push_field(L, table, name) != LUA_TNIL) {
    check_field_type(L, table, name, LUA_TNUMBER);
    number = (float)lua_tonumber(L, -1);
    if (!(number > 0 && number <= FLT_MAX)) argument_error(L, table, "%s must be a positive float32 number", name);
  }
  lua_pop(L, 1);
  return number;
}

/* A finite number, or 0 for nil. */
static float finite_field(lua_State *L, int table, const char *name) {
  float number = (float)number_field(L, table, name, 0);
  if (!(fabsf(number) <= FLT_MAX)) argument_error(L, table, "%s must be a float32 number", name);
  return number;
}

/* A list of positive numbers, or nil. */
static void read_candidates(lua_State *L, int table, FitRule *fit) {
  if (push_field(L, table, "candidates") != LUA_TNIL) {
    check_field_type(L, table, "candidates", LUA_TTABLE);
    int count = (int)list_length(L, -1, table);
    if (count < 1 || count > FIT_CANDIDATES_MOST) {
      argument_error(L, table, "candidates must be 1 to %d numbers", FIT_CANDIDATES_MOST);
    }
    for (int i = 0; i < count; i++) {
      lua_rawgeti(L, -1, i + 1);
      fit->factor[i] = lua_type(L, -1) == LUA_TNUMBER ? (float)lua_tonumber(L, -1) : 0;
      if (!(fit->factor[i] > 0 && fit->factor[i] <= FLT_MAX)) {
        argument_error(L, table, "candidates must be positive float32 numbers");
      }
      lua_pop(L, 1);
    }
    fit->candidates = count;
  }
  lua_pop(L, 1);
}

/* core/formats/fit.h */
static FitRule fit_fields(lua_State *L, int table) {
  FitRule fit = {.root_mean_square = finite_field(L, table, "root_mean_square"),
                 .mean_magnitude = finite_field(L, table, "mean_magnitude"),
                 .largest_scale = positive_field(L, table, "largest_scale")};
  if (fit.largest_scale > E4M3_LARGEST) {
    argument_error(L, table, "largest_scale must be at most %g", (double)E4M3_LARGEST);
  }
  read_candidates(L, table, &fit);
  return fit;
}

/* What goes with scales in E4M3 and what does not. */
static void check_levels(lua_State *L, int table, const QuantizeOptions *options) {
  bool e4m3 = options->scale_rounding == SCALE_E4M3;
  if (options->upper != UPPER_NONE && !e4m3) argument_error(L, table, "second_scale is for scales of 'e4m3'");
  if (e4m3 && (options->headroom > 0 || options->constant_scale > 0)) {
    argument_error(L, table, "scales of 'e4m3' have no headroom and are not constant");
  }
}

/* quantizer{format = a map or the name of a format, blocksize = a block length, a tile {rows, columns}, or nil for the
 * whole tensor, rounding = "nearest" or "stochastic", scale_rounding = "none", "power_of_two", "mx", "ceil", "even",
 * "rceil" or "e4m3", second_scale = "none", "tensor" or "row", headroom =, constant_scale = numbers (core/formats/scale.h),
 * root_mean_square =, mean_magnitude =, largest_scale = numbers, candidates = a list of them (core/formats/fit.h)} */
static int lfp8_quantizer(lua_State *L) {
  static const char *const roundings[] = {"nearest", "stochastic", NULL};
  static const char *const scale_roundings[] = {[SCALE_EXACT] = "none", [SCALE_POWER_OF_TWO] = "power_of_two",
                                                [SCALE_MX] = "mx",      [SCALE_CEIL] = "ceil",
                                                [SCALE_EVEN] = "even",  [SCALE_RCEIL] = "rceil",
                                                [SCALE_E4M3] = "e4m3",  NULL};
  static const char *const uppers[] = {[UPPER_NONE] = "none", [UPPER_TENSOR] = "tensor", [UPPER_ROW] = "row", NULL};
  static const char *const fields[] = {"format",         "blocksize",      "rounding",      "scale_rounding",
                                       "headroom",       "constant_scale", "second_scale",  "root_mean_square",
                                       "mean_magnitude", "candidates",     "largest_scale", NULL};
  check_fields(L, 1, fields);
  QuantizeOptions options = {
      .format = format_field(L, 1),
      .blocks = blocks_field(L, 1),
      .stochastic = choice_field(L, 1, "rounding", roundings, "rounding must be 'nearest' or 'stochastic'") == 1,
      .scale_rounding = (ScaleRounding)choice_field(L, 1, "scale_rounding", scale_roundings,
                                                    "scale rounding must be 'none', 'power_of_two', 'mx', 'ceil', "
                                                    "'even', 'rceil' or 'e4m3'"),
      .headroom = positive_field(L, 1, "headroom"),
      .constant_scale = positive_field(L, 1, "constant_scale"),
      .fit = fit_fields(L, 1),
      .upper = (UpperLevel)choice_field(L, 1, "second_scale", uppers, "second_scale must be 'none', 'tensor' or 'row'"),
  };
  check_levels(L, 1, &options);
  QuantizeOptions *quantizer = lua_newuserdata(L, sizeof *quantizer);
  *quantizer = options;
  push_metatable(L);
  lua_setmetatable(L, -2);
  lua_createtable(L, 1, 0); /* keeps the map */
  push_field(L, 1, "format");
  lua_rawseti(L, -2, 1);
  lua_setfenv(L, -2);
  return 1;
}

QuantizeOptions check_quantizer(lua_State *L, int index) {
  const QuantizeOptions *quantizer = NULL;
  if (lua_type(L, index) == LUA_TUSERDATA && lua_getmetatable(L, index)) {
    if (lua_topointer(L, -1) == state_now()->quantizers) quantizer = lua_touserdata(L, index);
    lua_pop(L, 1);
  }
  if (!quantizer) argument_error(L, index, "quantizer expected, got %s", luaL_typename(L, index));
  if (quantizer->format.map && !quantizer->format.map->storage) {
    argument_error(L, index, "its map was freed: it was made in a scope that has ended");
  }
  if (quantizer->format.map) use_tensor((Tensor *)quantizer->format.map);
  return *quantizer;
}

/* --- quantization --- */

/* Pushes a new tensor for every word of argument `index` that names an output, in their order; returns how many. */
static int push_outputs(lua_State *L, int index, QuantizeOutputs *outputs) {
  const struct {
    const char *name;
    size_t length;
    Tensor **receiver;
  } words[] = {{"codes", 5, &outputs->codes},
               {"scale", 5, &outputs->scale},
               {"values", 6, &outputs->values},
               {"transposed", 10, &outputs->transposed},
               {"sum", 3, &outputs->column_sum}};
  enum { WORDS = sizeof words / sizeof words[0] };
  int count = 0;
  for (const char *text = luaL_checkstring(L, index); *text; count++) {
    size_t length = 0, word = 0;
    while (text[length] && text[length] != ' ') length++;
    while (word < WORDS && (words[word].length != length || memcmp(words[word].name, text, length) != 0)) word++;
    if (word == WORDS || *words[word].receiver) {
      argument_error(L, index, "outputs are codes, transposed, values, scale and sum, each once, got '%.40s'", text);
    }
    *words[word].receiver = new_tensor(L);
    text += length + (text[length] == ' ');
  }
  return count;
}

/* What the options hold is held at index `held`. */
static void read_options(lua_State *L, int table, int held, QuantizeOptions *options) {
  check_table(L, table);
  const char *name;
  for (lua_pushnil(L); next_field(L, table, &name); lua_pop(L, 1)) {
    if (strcmp(name, "known") == 0) {
      options->known_scale = tensor_of_field(L, table, name);
      lua_pushvalue(L, -1);
      lua_replace(L, held);
    } else if (strcmp(name, "dtype") == 0) {
      options->dtype = read_dtype(L, -1, table);
    } else if (strcmp(name, "sum_dtype") == 0) {
      options->sum_dtype = read_dtype(L, -1, table);
    } else if (strcmp(name, "repeats") == 0) {
      check_field_type(L, table, name, LUA_TNUMBER);
      double repeats = lua_tonumber(L, -1);
      if (!number_is_whole(repeats) || repeats < 0) {
        argument_error(L, table, "the scale can't be made %.14g times", repeats);
      }
      options->scale_count = (int64_t)repeats;
    } else {
      unknown_field(L, table, name, "known, dtype, sum_dtype, repeats");
    }
  }
}

/* quantize(x, quantizer, outputs[, options]) -> the outputs, words as in "codes scale", in the order in which they are
 * named:
 *
 *   codes, transposed  codes of x, and those of the transposed matrix
 *   values             what the codes decode to, of options.dtype (x's)
 *   scale              scales, one a block; a whole tensor's options.repeats times
 *   sum                sums of x over its rows, one a column, of options.sum_dtype (f32)
 *
 * with the scales options.known, if there are any: core/formats/quantizer.h. */
static int lfp8_quantize(lua_State *L) {
  lua_settop(L, 5);
  const Tensor *x = check_tensor(L, 1);
  QuantizeOptions options = check_quantizer(L, 2);
  options.dtype = x->dtype;
  options.sum_dtype = DTYPE_F32;
  if (!lua_isnil(L, 4)) read_options(L, 4, 5, &options);
  QuantizeOutputs outputs = {0};
  int count = push_outputs(L, 3, &outputs);
  return finish(L, op_quantize(&outputs, x, &options), count);
}

static UnaryOp check_activation(lua_State *L, int index) {
  static const char *const names[] = {"relu", "gelu", "gelu_tanh", "silu", NULL};
  static const UnaryOp functions[] = {UNARY_RELU, UNARY_GELU, UNARY_GELU_TANH, UNARY_SILU};
  return functions[luaL_checkoption(L, index, NULL, names)];
}

/* quantize_activated(x, grad, activation, quantizer, outputs, options[, history, record, fields, count]) -> the outputs
 * that quantize gives of an activation function of x, "relu", "gelu", "gelu_tanh" or "silu", or, with a `grad`, of the
 * gradient of x from that of its result. With a history the scale is that of delayed_scale, with the rest of its
 * arguments. */
static int lfp8_quantize_activated(lua_State *L) {
  enum { X = 1, GRAD, ACTIVATION, QUANTIZER, OUTPUTS, OPTIONS, HISTORY, RECORD, FIELDS, COUNT, HELD };
  lua_settop(L, HELD);
  Activated source = {.op = check_activation(L, ACTIVATION), .x = check_tensor(L, X), .grad = optional_tensor(L, GRAD)};
  QuantizeOptions options = check_quantizer(L, QUANTIZER);
  options.dtype = source.x->dtype;
  options.sum_dtype = DTYPE_F32;
  if (!lua_isnil(L, OPTIONS)) read_options(L, OPTIONS, HELD, &options);
  HistoryChange history = {optional_tensor(L, HISTORY), optional_record(L, RECORD)};
  int changes = lua_isnil(L, FIELDS) ? 0 : own_field_list(L, FIELDS, COUNT);
  QuantizeOutputs outputs = {0};
  int count = push_outputs(L, OUTPUTS, &outputs);
  bool done = op_quantize_activated(&outputs, &source, &options, &history);
  if (done) set_fields(L, FIELDS, changes);
  return finish(L, done, count);
}

/* quantize_cross_entropy(logits, targets, rule or nil, gradient of the losses, quantizer, outputs, options[, history,
 * record, fields, count]) -> losses (n), f32, and the outputs that quantize gives of the gradient of cross_entropy, which
 * the logits may become; the rest is as for quantize_activated. */
static int lfp8_quantize_cross_entropy(lua_State *L) {
  enum { LOGITS = 1, TARGETS, RULE, DLOSS, QUANTIZER, OUTPUTS, OPTIONS, HISTORY, RECORD, FIELDS, COUNT, HELD };
  lua_settop(L, HELD);
  Tensor *logits = check_tensor(L, LOGITS);
  int64_t ignored;
  CrossEntropy rows = check_cross_entropy(L, RULE, &ignored);
  const Tensor *dloss = check_tensor(L, DLOSS);
  QuantizeOptions options = check_quantizer(L, QUANTIZER);
  options.dtype = logits->dtype;
  options.sum_dtype = DTYPE_F32;
  if (!lua_isnil(L, OPTIONS)) read_options(L, OPTIONS, HELD, &options);
  HistoryChange history = {optional_tensor(L, HISTORY), optional_record(L, RECORD)};
  int changes = lua_isnil(L, FIELDS) ? 0 : own_field_list(L, FIELDS, COUNT);
  QuantizeOutputs outputs = {0};
  Tensor *losses = new_tensor(L);
  int count = 1 + push_outputs(L, OUTPUTS, &outputs);
  bool done = op_quantize_cross_entropy(losses, &outputs, logits, &rows, dloss, &options, &history);
  if (done) set_fields(L, FIELDS, changes);
  return finish(L, done, count);
}

/* dequantize(codes, scales, quantizer, dtype = f32) -> tensor */
static int lfp8_dequantize(lua_State *L) {
  const Tensor *codes = check_tensor(L, 1), *scale = check_tensor(L, 2);
  QuantizeOptions options = check_quantizer(L, 3);
  options.stochastic = false;
  options.dtype = lua_isnoneornil(L, 4) ? DTYPE_F32 : check_dtype(L, 4);
  return finish(L, op_dequantize(new_tensor(L), codes, scale, &options), 1);
}

/* quantize_both_ways(x, quantizer, other quantizer[, dtype of sums]) -> codes and scales by the first; transposed codes and
 * scales by the other; and sums of x over its rows, one a column, if they have a dtype. Scales are as core.quantize gives
 * them but where each row, or column for the other, has several: in a matrix with a row for each, of any strides. */
static int lfp8_quantize_both_ways(lua_State *L) {
  lua_settop(L, 4);
  const Tensor *x = check_tensor(L, 1);
  QuantizeOptions along_rows = check_quantizer(L, 2), along_columns = check_quantizer(L, 3);
  bool summing = !lua_isnil(L, 4);
  if (summing) along_rows.sum_dtype = check_dtype(L, 4);
  BothWays outputs = {.codes = new_tensor(L)};
  outputs.scale = new_tensor(L);
  outputs.transposed = new_tensor(L);
  outputs.transposed_scale = new_tensor(L);
  if (summing) outputs.column_sum = new_tensor(L);
  return finish(L, op_quantize_both_ways(&outputs, x, &along_rows, &along_columns), summing ? 5 : 4);
}

/* Arguments `first` … : length, down, signs or nil; signs is a text of as many + and -, or what draw_signs gave. */
static HadamardRule check_hadamard(lua_State *L, int first) {
  double length = check_double(L, first);
  HadamardRule rule = {.length = (int)length, .down = lua_toboolean(L, first + 1)};
  if (length != 16 && length != 32 && length != 64 && length != 128) {
    argument_error(L, first, "16, 32, 64 or 128 expected, got %.14g", length);
  }
  if (lua_type(L, first + 2) == LUA_TNUMBER) {
    double drawn = lua_tonumber(L, first + 2);
    if (!(drawn >= 1 && drawn < 0x1p53 && number_is_whole(drawn)))
      argument_error(L, first + 2, "these are no signs: %.14g", drawn);
    rule.drawn = (uint64_t)drawn;
  } else if (!lua_isnil(L, first + 2)) {
    size_t count = 0;
    const char *signs = luaL_checklstring(L, first + 2, &count);
    if ((int64_t)count != rule.length) {
      argument_error(L, first + 2, "%d signs expected, got %d", rule.length, (int)count);
    }
    for (int i = 0; i < rule.length; i++) rule.negative[i / 32] |= (uint32_t)(signs[i] == '-') << (i % 32);
  }
  return rule;
}

/* hadamard(x, length, down, signs or nil): x transformed in groups of `length`, of its rows or, if `down`, of its columns
 * as a matrix (core/formats/hadamard.h) */
static int lfp8_hadamard(lua_State *L) {
  lua_settop(L, 4);
  const Tensor *x = check_tensor(L, 1);
  HadamardRule rule = check_hadamard(L, 2);
  return finish(L, op_hadamard(new_tensor(L), x, &rule), 1);
}

/* draw_signs(length) -> signs of a transform, drawn at random: a text, or while a graph is captured, in which they are drawn
 * at every replay, a number that names them there */
static int lfp8_draw_signs(lua_State *L) {
  char text[HADAMARD_MOST];
  double length = check_double(L, 1);
  if (!(length >= 1 && length <= HADAMARD_MOST && number_is_whole(length))) {
    argument_error(L, 1, "a length of at most %d expected, got %.14g", HADAMARD_MOST, length);
  }
  HadamardRule rule = {0};
  if (!op_draw_signs(&rule)) return finish(L, false, 0);
  if (rule.drawn > 0) {
    lua_pushnumber(L, (double)rule.drawn);
    return 1;
  }
  for (int i = 0; i < (int)length; i++) text[i] = rule.negative[i / 32] >> (i % 32) & 1 ? '-' : '+';
  lua_pushlstring(L, text, (size_t)length);
  return 1;
}

/* quantize_values(x, dtype or nil, dtype of sums or nil, quantizer, length or nil, down, signs[, quantizer, length, down,
 * signs]) -> what the codes of x decode to, of a dtype (x's), or those of its Hadamard transform, whose arguments are those
 * of hadamard; the same by the second quantizer, if there is one; and sums of x over its rows, one a column, if they have a
 * dtype. The same as `hadamard` and `quantize` make it. */
static int lfp8_quantize_values(lua_State *L) {
  enum { X = 1, DTYPE, SUM_DTYPE, FIRST, EACH = 4 };
  lua_settop(L, FIRST + QUANTIZE_WAYS * EACH - 1);
  const Tensor *x = check_tensor(L, X);
  int count = lua_isnil(L, FIRST + EACH) ? 1 : QUANTIZE_WAYS;
  ValuesOptions options[QUANTIZE_WAYS];
  memset(options, 0, sizeof options);
  for (int i = 0; i < count; i++) {
    int first = FIRST + i * EACH;
    options[i].quantize = check_quantizer(L, first);
    options[i].quantize.dtype = lua_isnil(L, DTYPE) ? x->dtype : check_dtype(L, DTYPE);
    if (!lua_isnil(L, first + 1)) options[i].hadamard = check_hadamard(L, first + 1);
  }
  bool summing = !lua_isnil(L, SUM_DTYPE);
  if (summing) options[0].quantize.sum_dtype = check_dtype(L, SUM_DTYPE);
  Tensor *values[QUANTIZE_WAYS] = {NULL};
  for (int i = 0; i < count; i++) values[i] = new_tensor(L);
  Tensor *sum = summing ? new_tensor(L) : NULL;
  return finish(L, op_quantize_values(values, sum, x, options, count), count + summing);
}

const luaL_Reg quantize_functions[] = {
    {"quantizer", lfp8_quantizer},
    {"quantize", lfp8_quantize},
    {"quantize_activated", lfp8_quantize_activated},
    {"quantize_cross_entropy", lfp8_quantize_cross_entropy},
    {"dequantize", lfp8_dequantize},
    {"quantize_both_ways", lfp8_quantize_both_ways},
    {"quantize_values", lfp8_quantize_values},
    {"draw_signs", lfp8_draw_signs},
    {"hadamard", lfp8_hadamard},
    {NULL, NULL},
};
