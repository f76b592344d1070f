-- busted's output handler for `make test`: busted's own report, then the seed of the random numbers if anything failed,
-- and one line of counts that every CI system can read.
local busted = require "busted"
local seed = require "spec.support.seed"

return function(options)
  local handler = require("busted.outputHandlers." .. options.defaultOutput)(options)

  -- Subscribed after busted's handler did, so it prints last.
  busted.subscribe({"suite", "end"}, function()
    local failed = handler.failuresCount + handler.errorsCount
    if failed > 0 then print(("\nFP8_SEED=%.17g repeats the random numbers of this run."):format(seed)) end
    print(("\n%d passed, %d failed, %d skipped"):format(handler.successesCount, failed, handler.pendingsCount))
    return nil, true
  end)
  return handler
end
