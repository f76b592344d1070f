/* A C program with LuaJIT and fp8 inside: a network that is described in Lua is applied to an array of C's, and its
 * outputs go to another one, without a copy. README.md, beside this, says how it is built. */
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

enum { ROWS = 3, INPUTS = 4, OUTPUTS = 2 };

static const char script[] = "local ffi = require 'ffi'\n"
                             "local fp8 = require 'fp8'\n"
                             "fp8.manual_seed(1)\n"
                             "local layer = fp8.LinearMixed(4, 2)\n"
                             "return function(inputs, outputs, rows)\n"
                             "  local x = fp8.from_data(ffi.cast('float *', inputs), {rows, 4}, 'f32')\n"
                             "  local y = fp8.from_data(ffi.cast('float *', outputs), {rows, 2}, 'f32')\n"
                             "  fp8.no_grad(function() y:copy_(layer(x):softmax(-1)) end)\n"
                             "end\n";

/* Ends the program with the message of an error; fp8's are strings with the line of the script in front. */
static void check(lua_State *L, int status) {
  if (status == 0) return;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  exit(1);
}

int main(void) {
  lua_State *L = luaL_newstate();
  if (!L) return 1;
  luaL_openlibs(L);
  check(L, luaL_loadstring(L, script));
  check(L, lua_pcall(L, 0, 1, 0)); /* leaves the function on the stack */

  static float inputs[ROWS][INPUTS] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 1}};
  static float outputs[ROWS][OUTPUTS];
  lua_pushvalue(L, -1);
  lua_pushlightuserdata(L, inputs);
  lua_pushlightuserdata(L, outputs);
  lua_pushinteger(L, ROWS);
  check(L, lua_pcall(L, 3, 0, 0));
  for (int row = 0; row < ROWS; row++) printf("%.3f %.3f\n", outputs[row][0], outputs[row][1]);

  lua_close(L); /* frees all that fp8 has allocated for this state */
  return 0;
}
