--- A watched step as a graph (init.lua). A replay runs no Lua, so what its rows are of is kept beside the graph.
local graphs = require "fp8.graph"

local watch_graph = {}

local function pack(...) return {n = select("#", ...), ...} end

--- Captures f, which also runs once as usual.
-- @return {graph =, made = list of {entry =, record =}, the records that f made, calls = the watcher's count after it},
--   and a list of what the usual run returned, with its length n
function watch_graph.capture(watcher, f, device)
  local before, made, first = {}, {}, nil
  for i, entry in ipairs(watcher.entries) do before[i] = entry.record end
  local graph = graphs.capture(function()
    local results = pack(f())
    first = first or results
    return unpack(results, 1, results.n)
  end, device)
  for i, entry in ipairs(watcher.entries) do
    if entry.record ~= before[i] then made[#made + 1] = {entry = entry, record = entry.record} end
  end
  return {graph = graph, made = made, calls = watcher.calls}, first
end

--- Does that work again, as it was captured, whatever the layers have become since. Returns what f returned.
function watch_graph.replay(watcher, captured)
  local made = captured.made
  for i = 1, #made do made[i].entry.record = made[i].record end
  if made[1] then watcher.calls = math.max(watcher.calls, captured.calls) end
  return captured.graph()
end

return watch_graph
