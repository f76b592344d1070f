--- Runs scripts of spec/fixtures/distributed in several processes.
local fp8 = require "fp8"
local support = require "spec.support"

local ranks = {}

--- What a command prints.
function ranks.output_of(command)
  local pipe = io.popen(command)
  local output = pipe:read "*a"
  pipe:close()
  return output
end

local library = package.searchpath("fp8.core", package.cpath):gsub("core(%.%w+)$", "distributed%1")

--- Whether there is the library that processes need.
function ranks.has_library()
  local file = io.open(library)
  if file then file:close() end
  return file ~= nil
end

--- How processes can be started here: "mpirun" where fp8 was built with MPI, "gpus", one on each, where there are
-- several; nil and the reason where in no way.
function ranks.launcher()
  if not ranks.has_library() then return nil, "MPI is missing: fp8 was built without it" end
  local has_mpirun = ranks.output_of("command -v mpirun") ~= ""
  if has_mpirun and ranks.output_of("ldd " .. library):find "libmpi" then return "mpirun" end
  if fp8.cuda.device_count() > 1 then return "gpus" end
  return nil, "MPI is missing: there is no mpirun, or fp8 was built without it"
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- What starts `count` processes of a command and waits for them; the exit status is 0 if all of theirs are.
local function together(launcher, count, command)
  if launcher == "mpirun" then return ("mpirun -n %d %s"):format(count, command) end
  local rendezvous, lines = os.tmpname(), {}
  os.remove(rendezvous)
  for rank = 0, count - 1 do
    local meeting = launcher == "port" and "" or "FP8_RENDEZVOUS=" .. rendezvous
    lines[#lines + 1] = ("WORLD_SIZE=%d RANK=%d LOCAL_RANK=%d %s %s & p%d=$!"):format(count, rank, rank, meeting,
      command, rank)
  end
  lines[#lines + 1] = "code=0"
  for rank = 0, count - 1 do lines[#lines + 1] = ("wait $p%d || code=$?"):format(rank) end
  lines[#lines + 1] = "exit $code"
  return "sh -c " .. quoted(table.concat(lines, "\n"))
end

--- Starts a script, on the CPU where there are fewer GPUs than ranks. Returns a function that waits for its end and
-- returns its output, errors included, and its exit status.
-- @param options {launcher = as above, or "port" for one without a file, count = of ranks, beside = of
--   ranks that it is compared with, and shares the device with, environment = {NAME = text}}
function ranks.start(script, options)
  local words = {
    "OMP_NUM_THREADS=1", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
    "OMPI_MCA_rmaps_base_oversubscribe=1", "LUA_PATH=" .. quoted(package.path), "LUA_CPATH=" .. quoted(package.cpath),
  }
  local gpus = fp8.cuda.device_count()
  if gpus > 0 and gpus < (options.beside or options.count) then words[#words + 1] = "CUDA_VISIBLE_DEVICES=" end
  for name, value in pairs(options.environment or {}) do words[#words + 1] = name .. "=" .. quoted(value) end
  local command = "luajit " .. quoted(support.fixture("distributed/" .. script))
  -- Two of Open MPI's that start at once make the same directory, and one fails, unless each has a place of its own.
  local line = "export TMPDIR=$(mktemp -d) %s; timeout -k 5 120 %s 2>&1; echo \"(status $?)\"; rm -rf $TMPDIR"
  local pipe = io.popen(line:format(table.concat(words, " "), together(options.launcher, options.count, command)))
  local text, status
  return function()
    if not text then
      text, status = pipe:read("*a"):match "^(.*)%(status (%d+)%)%s*$"
      pipe:close()
    end
    return text, tonumber(status)
  end
end

--- Runs a script and waits for its end.
function ranks.run(script, options) return ranks.start(script, options)() end

--- Calls f(launcher, count) inside of a busted block for each number of processes there can be, or skips it with the
-- reason.
function ranks.each_count(f)
  local busted = require "busted"
  local launcher, reason = ranks.launcher()
  if not launcher then
    busted.it("needs several processes", function() busted.pending(reason) end)
    return
  end
  for _, count in ipairs(launcher == "mpirun" and {2, 3, 4} or {fp8.cuda.device_count()}) do
    busted.describe(("with %d ranks by %s"):format(count, launcher), function() f(launcher, count) end)
  end
end

return ranks
