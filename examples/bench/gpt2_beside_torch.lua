--- The step of gpt2.lua on the CPU and torch's (peers.py --step gpt2), each in processes of its own that take turns, so
-- that whatever else the machine does meets all alike: medians over the rounds, and torch's as multiples of ours.
-- Options: --help.
local here = arg[0]:gsub("[^/\\]*$", "")
package.path = here .. "?.lua;" .. here .. "../lib/?.lua;" .. package.path

local measure = require "measure"
local options = require "options"

local usage = [[
usage: luajit examples/bench/gpt2_beside_torch.lua [options]
  --compare LIST   f32, f16 or bf16 (default f32,bf16)
  --rounds N       how often each is run (default 5)
  --steps N        steps that are timed in each run (default 40)
  --python NAME    an interpreter that has torch (default python3)
  --layers N       transformer blocks (default 4)
  --width N        features (default 256)
  --heads N        of attention (default 4)
  --context N      tokens of a sequence (default 128)
  --vocabulary N   different tokens (default 512)
  --batch N        sequences in a step (default 8)
  --keep-environment   with OPENBLAS_CORETYPE as it is, which may keep OpenBLAS from the processor's own instructions
  --help           this text

OMP_NUM_THREADS says how many threads all of them have.
]]

local kinds = options.kinds
local size_names = {"layers", "width", "heads", "context", "vocabulary", "batch"}

local readers = {
  compare = {options.names(), "a list of names"}, rounds = kinds.whole, steps = kinds.whole,
  python = {function(text) return text end, "a name"},
}
for _, name in ipairs(size_names) do readers[name] = kinds.whole end

local dtypes = {f32 = true, f16 = true, bf16 = true}

-- The figures, {ms a step, CPU ms}, of the line that begins with `title` in what a command prints.
local function figures_of(command, title)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local output = pipe:read "*a"
  pipe:close()
  for line in output:gmatch "[^\n]+" do
    if line:sub(1, #title + 1) == title .. " " then
      local milliseconds, processor = line:sub(#title + 1):match "^%s+([%d.]+)%s+([%d.]+)"
      if milliseconds then return {tonumber(milliseconds), tonumber(processor)} end
    end
  end
  error(("%s printed no figures of '%s':\n%s"):format(command, title, output), 0)
end

-- {title =, command =, line = how its figures begin} of what is compared in one precision.
local function competitors(precision, settings)
  local sizes = {}
  for _, name in ipairs(size_names) do table.insert(sizes, ("--%s %d"):format(name, settings[name])) end
  sizes = table.concat(sizes, " ") .. " --device cpu --steps " .. settings.steps
  local prefix = settings.keep_environment and "" or "env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE "
  local function peer(form)
    return ("%s%s %speers.py --step gpt2 --peers %s --dtype %s %s"):format(prefix, settings.python, here, form,
      precision, sizes)
  end
  return {
    {title = "fp8", line = precision,
      command = ("%sluajit %sgpt2.lua --compare %s %s"):format(prefix, here, precision, sizes)},
    {title = "torch", line = "torch " .. precision, command = peer "torch"},
    {title = "torch, compiled", line = "compiled " .. precision, command = peer "compiled"},
  }
end

local function column(runs, i)
  local values = {}
  for _, run in ipairs(runs) do table.insert(values, run[i]) end
  return measure.median(values)
end

measure.main(function()
  local settings = options.read("gpt2_beside_torch", usage, readers, {
    compare = {"f32", "bf16"}, rounds = 5, steps = 40, python = "python3", layers = 4, width = 256, heads = 4,
    context = 128, vocabulary = 512, batch = 8, keep_environment = false,
  })
  local lists = {}
  for _, precision in ipairs(settings.compare) do
    if not dtypes[precision] then error(("there is no precision '%s'"):format(precision), 0) end
    for _, competitor in ipairs(competitors(precision, settings)) do
      competitor.precision, competitor.runs = precision, {}
      table.insert(lists, competitor)
    end
  end
  for _ = 1, settings.rounds do
    for _, competitor in ipairs(lists) do
      table.insert(competitor.runs, figures_of(competitor.command, competitor.line))
    end
  end
  print(("%s; %d layers of width %d, %d heads, context %d, vocabulary %d, batch %d; medians of %d runs"):format(
    measure.device_name "cpu", settings.layers, settings.width, settings.heads, settings.context, settings.vocabulary,
    settings.batch, settings.rounds))
  print(("%-22s %9s %7s %9s %7s"):format("", "ms a step", "of fp8", "CPU ms", "of fp8"))
  local ours
  for _, competitor in ipairs(lists) do
    local time, processor = column(competitor.runs, 1), column(competitor.runs, 2)
    if competitor.title == "fp8" then ours = {time, processor} end
    print(("%-22s %9.2f %7.2f %9.2f %7.2f"):format(competitor.precision .. ", " .. competitor.title, time,
      time / ours[1], processor, processor / ours[2]))
  end
end)
