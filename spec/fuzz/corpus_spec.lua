-- The corpus of `make fuzz`, without the fuzzer: every input loads, or is refused with the message that a line of
-- spec/fixtures/fuzz/outcomes.txt, READER/FILE: OUTCOME, has for it ("…" standing for anything). An input that has been
-- a finding belongs there, with what it should give.
local support = require "spec.support"
local check = require "spec.fuzz.check"

local names = {"safetensors", "idx", "checkpoint", "recipe", "npy", "npz", "csv"}

local outcomes = {} -- by READER/FILE
for line in support.read_file(support.fixture "fuzz/outcomes.txt"):gmatch "[^\n]+" do
  local file, outcome = line:match "^(%S+): (.*)$"
  outcomes[file] = outcome
end

-- The inputs of a reader, as READER/FILE.
local function inputs_of(name)
  local list, pipe = {}, io.popen(("ls '%s'"):format(support.fixture("fuzz/" .. name)))
  for file in pipe:lines() do list[#list + 1] = name .. "/" .. file end
  pipe:close()
  return list
end

describe("The corpus of the fuzzer", function()
  local directory = support.temporary_directory(setup, teardown)
  local listed, seen = {}, {} -- files, and kinds of messages
  for file in pairs(outcomes) do listed[file] = true end

  for _, name in ipairs(names) do
    local reader = require("spec.fuzz.readers." .. name)

    for _, file in ipairs(inputs_of(name)) do
      local expected = assert(outcomes[file], "spec/fixtures/fuzz/outcomes.txt lacks " .. file)
      listed[file] = nil
      seen[check.kind_of(reader, expected) or "loads"] = true

      it("gives what it should: " .. file, function()
        local outcome = check.input(reader, support.read_file(support.fixture("fuzz/" .. file)), directory)
        assert.equal(expected, expected:find("…", 1, true) and check.kind_of(reader, outcome) or outcome)
      end)
    end
  end

  it("has an input for every outcome that is listed", function() assert.same({}, listed) end)

  it("has an input for every message that a reader may refuse one with", function()
    for _, name in ipairs(names) do
      for _, kind in ipairs(require("spec.fuzz.readers." .. name).kinds) do
        assert.is_true(seen[kind] or false, "no input is refused with: " .. kind)
      end
    end
  end)
end)
