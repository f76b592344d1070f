--- A clock, and a line of progress that a terminal draws over.
local ffi = require "ffi"

ffi.cdef [[
int isatty(int descriptor);
int clock_gettime(int clock, void *time);
]]

local terminal = {is_terminal = ffi.C.isatty(1) == 1}

-- Once: a type without a name is a new one each time, and there is room for 65536.
local Time = ffi.typeof "struct { long seconds, nanoseconds; }"

--- Seconds of a clock that only goes forward, which all processes share.
function terminal.now()
  local monotonic, time = 1, Time()
  ffi.C.clock_gettime(monotonic, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) * 1e-9
end

-- Where there is no terminal, this many lines a run.
local plain_lines = 10

--- A function for one run: progress(done, total, text) with `done` of `total` steps. On a terminal it draws a bar;
-- elsewhere it prints ten lines in all.
function terminal.progress(title)
  local last_part = 0
  return function(done, total, text)
    local part = math.floor(done / total * plain_lines)
    if terminal.is_terminal then
      local filled = math.floor(done / total * 30)
      io.write(("\r%s [%s%s] %3d%%  %s\27[K"):format(title, ("="):rep(filled), (" "):rep(30 - filled),
        done / total * 100, text))
      if done == total then io.write "\n" end
      io.flush()
    elseif part > last_part then
      print(("%s  %3d%%  %s"):format(title, done / total * 100, text))
    end
    last_part = part
  end
end

--- Ends a line that progress has drawn and not finished, before other text is printed.
function terminal.finish_line()
  if terminal.is_terminal then io.write "\n" end
end

return terminal
