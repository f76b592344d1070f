--- What fuzzer.c calls: run(bytes), mutate(bytes, longest, seed), and finish(). Errors are findings.
local name, directory, is_covered, mutate_bytes = ...

local check = require "spec.fuzz.check"
local core = require "fp8.core"
local funcbc, funcinfo, funck = require("jit.util").funcbc, require("jit.util").funcinfo, require("jit.util").funck

local reader = require("spec.fuzz.readers." .. name)

local inputs, valid, inputs_between_checks = 0, 0, 512
local start = os.time()
local slack = 2 ^ 20 -- bytes that caches may grow by
local least          -- {lua =, tensors =}: bytes in use once everything has been loaded

local function bytes_in_use()
  collectgarbage()
  collectgarbage()
  return {lua = collectgarbage "count" * 1024, tensors = core.memory("cpu").in_use}
end

-- What is left of the inputs, in Lua or in tensors, is a finding.
local function check_leaks()
  local now = bytes_in_use()
  least = least or now
  for part, bytes in pairs(now) do
    if bytes > least[part] + slack then
      error(("%d inputs left %d bytes of %s behind"):format(inputs, bytes - least[part], part))
    end
  end
end

local function run(bytes)
  inputs = inputs + 1
  if check.input(reader, bytes, directory) == "loads" then valid = valid + 1 end
  if inputs % inputs_between_checks == 0 then check_leaks() end
end

local function mutate(bytes, longest, seed)
  local state = seed % 2147483646 + 1
  local function random(n)
    state = state * 48271 % 2147483647
    return math.floor((state - 1) / 2147483646 * n) + 1
  end
  return reader.mutate(bytes, longest, random, mutate_bytes)
end

-- Adds the numbers of the lines that have instructions in a function, or its prototype, and in those inside it.
local function add_lines(lines, f)
  local position = 1
  while funcbc(f, position) do
    local line = funcinfo(f, position).currentline
    if line then lines[line] = true end
    position = position + 1
  end
  local i = -1
  while true do
    local constant = funck(f, i)
    if constant == nil then break end
    if type(constant) == "proto" then add_lines(lines, constant) end
    i = i - 1
  end
  return lines
end

-- Prints how many of the lines of the reader's files have run, and which haven't.
local function finish()
  local all, covered = 0, 0
  for _, path in ipairs(reader.files) do
    local missed, lines = {}, add_lines({}, assert(loadfile(path)))
    for line in pairs(lines) do
      all = all + 1
      if is_covered("@" .. path, line) then covered = covered + 1 else missed[#missed + 1] = line end
    end
    table.sort(missed)
    if #missed > 0 then print(("not covered: %s: %s"):format(path, table.concat(missed, " "))) end
  end
  local seconds = math.max(os.time() - start, 1)
  print(("%s: %d inputs in %d s, %.0f a second, %d of them valid; %d of %d lines covered"):format(name, inputs, seconds,
    inputs / seconds, valid, covered, all))
end

return {run = run, mutate = mutate, finish = finish}
