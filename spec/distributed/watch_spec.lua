-- What fp8.watch reads of several ranks is what it reads of one process with the whole batches:
-- spec/fixtures/distributed/watching.lua.
local ranks = require "spec.support.ranks"

local function words_of(text)
  local words = {}
  for word in text:gmatch "%S+" do words[#words + 1] = word end
  return words
end

-- Products of other numbers of rows are rounded otherwise.
local function is_close(a, b)
  local one, other = tonumber(a), tonumber(b)
  if not (one and other) then return a == b end
  return a == b or math.abs(one - other) <= 0.01 * math.abs(one) + 1e-7
end

describe("fp8.watch", function()
  local expected
  ranks.each_count(function(launcher, count)
    it("tells of all ranks' batches, and prints once", function()
      local alone = launcher == "mpirun" and launcher or "gpus"
      expected = expected or ranks.run("watching.lua", {launcher = alone, count = 1, beside = count})
      local output, status = ranks.run("watching.lua", {launcher = launcher, count = count})
      assert.equal(0, status)
      assert.is_truthy(output:find("first at (31, 5) of shape (48, 64)", 1, true), output)
      assert.equal(1, select(2, output:gsub("worst first", "")))
      local found, words = words_of(output:match "^(.*)step 70, worst"), words_of(expected:match "^(.*)step 70, worst")
      assert.equal(#words, #found)
      for i, word in ipairs(words) do
        assert.is_true(is_close(word, found[i]), ("%s %s, not %s"):format(found[i - 1], found[i], word))
      end
    end)
  end)
end)
