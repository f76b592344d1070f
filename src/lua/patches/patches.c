/* Windows over images: patches, pooling and convolutions. A window is ten arguments, a pair for the last two dimensions of
 * each: kernel, stride, dilation, padding before and after. */
#include <string.h>

#include "lua/binding/binding.h"

enum { WINDOW_ARGUMENTS = 10 };

static int64_t check_below(lua_State *L, int index, int64_t least) {
  int64_t value = check_whole(L, index);
  if (value < least || value >= WINDOW_LIMIT)
    argument_error(L, index, "a whole number from %d to 2^29 - 1 expected, got %f", (int)least, (double)value);
  return value;
}

static WindowAxis check_axis(lua_State *L, int index) {
  return (WindowAxis){.kernel = check_below(L, index, 1),
                      .stride = check_below(L, index + 2, 1),
                      .dilation = check_below(L, index + 4, 1),
                      .before = check_below(L, index + 6, 0),
                      .after = check_below(L, index + 8, 0)};
}

static Window check_window(lua_State *L, int index) {
  return (Window){.y = check_axis(L, index), .x = check_axis(L, index + 1)};
}

/* Four sizes of images. */
static Sizes check_image_sizes(lua_State *L, int index) {
  int next;
  if (!lua_istable(L, index)) argument_error(L, index, "table of sizes expected, got %s", luaL_typename(L, index));
  Sizes sizes = check_sizes(L, index, &next, NULL);
  if (sizes.rank != 4) argument_error(L, index, "4 sizes expected, got %d", sizes.rank);
  return sizes;
}

/* unfold_patches(x, by_rows, window…): patches of x (images, channels, height, width) as columns (images, channels · kernel
 * sides, patches), or as rows (images, patches, channels · kernel sides) */
static int lfp8_unfold_patches(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  bool by_rows = optional_boolean(L, 2, false);
  Window window = check_window(L, 3);
  return finish(L, op_unfold(new_tensor(L), x, window, by_rows), 1);
}

/* fold_patches(columns, sizes, window…): the sum of such columns as images of these sizes */
static int lfp8_fold_patches(lua_State *L) {
  const Tensor *patches = check_tensor(L, 1);
  Sizes sizes = check_image_sizes(L, 2);
  Window window = check_window(L, 3);
  return finish(L, op_fold(new_tensor(L), patches, sizes.size, window), 1);
}

/* The rule of pooling at `index`: "max", "max_alone", "mean" (of all positions) or "padded_mean", or a number for what sums
 * are divided by; then whether a last window may end outside; then a window, or for adaptive pooling the two sizes of its
 * result. */
static PoolRule check_pool_rule(lua_State *L, int index, bool *ceil) {
  PoolRule rule = {0};
  if (lua_type(L, index) == LUA_TNUMBER) {
    rule.divisor = check_whole(L, index);
    if (rule.divisor == 0) argument_error(L, index, "a divisor other than 0 expected");
  } else {
    const char *name = plain_text(L, index);
    rule.largest = name && (strcmp(name, "max") == 0 || strcmp(name, "max_alone") == 0);
    rule.padded = name && strcmp(name, "padded_mean") == 0;
    if (!rule.largest && !rule.padded && !(name && strcmp(name, "mean") == 0))
      argument_error(L, index, "max, max_alone, mean, padded_mean or a number expected");
  }
  *ceil = optional_boolean(L, index + 1, false);
  if (lua_gettop(L) > index + 3) {
    rule.window = check_window(L, index + 2);
  } else {
    rule.window.y = (WindowAxis){.adaptive = true, .output = check_below(L, index + 2, 0)};
    rule.window.x = (WindowAxis){.adaptive = true, .output = check_below(L, index + 3, 0)};
  }
  return rule;
}

/* pool(x, rule, ceil, window… or sizes…): and by "max" the positions of the largest elements in height · width, from 0 */
static int lfp8_pool(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  bool ceil;
  PoolRule rule = check_pool_rule(L, 2, &ceil);
  Tensor *out = new_tensor(L), *index = NULL;
  if (rule.largest && strcmp(plain_text(L, 2), "max") == 0) index = new_tensor(L);
  return finish(L, op_pool(out, index, x, rule, ceil), index ? 2 : 1);
}

/* pool_backward(dy, positions or nil, sizes of x, rule, ceil, window… or sizes…) */
static int lfp8_pool_backward(lua_State *L) {
  const Tensor *dy = check_tensor(L, 1), *index = optional_tensor(L, 2);
  Sizes sizes = check_image_sizes(L, 3);
  bool ceil;
  PoolRule rule = check_pool_rule(L, 4, &ceil);
  return finish(L, op_pool_backward(new_tensor(L), dy, index, sizes.size, rule, ceil), 1);
}

/* convolution(x, weight, bias or nil, groups, window…): weight (outputs, channels / groups, kernel_y, kernel_x) */
static int lfp8_convolution(lua_State *L) {
  Convolution convolution = {.x = check_tensor(L, 1),
                             .weight = check_tensor(L, 2),
                             .bias = optional_tensor(L, 3),
                             .groups = check_below(L, 4, 1),
                             .window = check_window(L, 5)};
  return finish(L, op_convolution(new_tensor(L), &convolution), 1);
}

/* convolution_backward(dy, x, weight, groups, want_x, dtype of the weight's gradient or nil, window…) -> dx or nil, dweight
 * or nil */
static int lfp8_convolution_backward(lua_State *L) {
  const Tensor *dy = check_tensor(L, 1);
  Convolution convolution = {.x = check_tensor(L, 2),
                             .weight = check_tensor(L, 3),
                             .groups = check_below(L, 4, 1),
                             .window = check_window(L, 7)};
  bool want_x = optional_boolean(L, 5, false), want_weight = !lua_isnoneornil(L, 6);
  DType dtype = want_weight ? check_dtype(L, 6) : DTYPE_F32;
  Tensor *dx = NULL, *dweight = NULL;
  if (want_x) {
    dx = new_tensor(L);
  } else {
    lua_pushnil(L);
  }
  if (want_weight) {
    dweight = new_tensor(L);
  } else {
    lua_pushnil(L);
  }
  return finish(L, op_convolution_backward(dx, dweight, &convolution, dy, dtype), 2);
}

const luaL_Reg patches_functions[] = {
    {"unfold_patches", lfp8_unfold_patches},
    {"fold_patches", lfp8_fold_patches},
    {"pool", lfp8_pool},
    {"pool_backward", lfp8_pool_backward},
    {"convolution", lfp8_convolution},
    {"convolution_backward", lfp8_convolution_backward},
    {NULL, NULL},
};
