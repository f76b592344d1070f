--- What the terminal is and can do.
local ffi = require "ffi"

ffi.cdef [[
  int isatty(int descriptor);
  struct fp8_window { unsigned short rows, columns, width, height; };
  int ioctl(int descriptor, unsigned long request, ...);
]]

local window_size = 0x5413 -- TIOCGWINSZ of Linux

local terminal = {}

--- Whether standard input and standard output both are a terminal.
function terminal.is_interactive() return ffi.C.isatty(0) == 1 and ffi.C.isatty(1) == 1 end

--- Whether to write in colours: on a terminal, unless NO_COLOR is set (no-color.org).
function terminal.has_colours()
  local none = os.getenv "NO_COLOR"
  return ffi.C.isatty(1) == 1 and (none == nil or none == "") and os.getenv "TERM" ~= "dumb"
end

--- The number of characters in a line of the terminal, or nil.
function terminal.width()
  local window = ffi.new "struct fp8_window"
  if ffi.C.isatty(1) == 1 and ffi.C.ioctl(1, window_size, window) == 0 and window.columns > 0 then
    return window.columns
  end
  return tonumber(os.getenv "COLUMNS")
end

local codes = {red = "31", green = "32", grey = "90", bold = "1"}

--- The text in a colour, or as it is where there are no colours.
function terminal.colour(name, text)
  if not terminal.has_colours() then return text end
  return ("\27[%sm%s\27[0m"):format(codes[name], text)
end

return terminal
