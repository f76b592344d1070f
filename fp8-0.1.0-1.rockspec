rockspec_format = "3.0"
package = "fp8"
version = "0.1.0-1"
description = {
  summary = "8-bit floating-point training from LuaJIT, on the CPU and on NVIDIA GPUs",
  license = "MIT",
}
-- `luarocks make` builds the clone it is run in; nothing is fetched.
source = {url = "file://."}
-- LuaJIT. The C libraries (OpenBLAS, oneDNN, LuaJIT's headers) are found by the Makefile, which names what is missing.
-- lua-cjson and lua-zlib may be Debian's, which luarocks does not know of: it would fetch them again. fp8 names them where
-- they are missing, with the packages.
dependencies = {"lua == 5.1"}
build = {
  type = "make",
  build_variables = {CFLAGS = "$(CFLAGS) -O3"},
  install_variables = {LUADIR = "$(LUADIR)", LIBDIR = "$(LIBDIR)", BINDIR = "$(BINDIR)"},
}
