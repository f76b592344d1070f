-- busted's output handler for `make test`: busted's own report, then one line of counts that every CI system can read.
local busted = require "busted"

return function(options)
  local handler = require("busted.outputHandlers." .. options.defaultOutput)(options)

  -- Subscribed after busted's handler did, so it prints last.
  busted.subscribe({"suite", "end"}, function()
    local failed = handler.failuresCount + handler.errorsCount
    print(("\n%d passed, %d failed, %d skipped"):format(handler.successesCount, failed, handler.pendingsCount))
    return nil, true
  end)
  return handler
end
