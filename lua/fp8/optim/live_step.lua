--- An optimizer's update in a graph that is being captured: it reads its numbers from the device when it runs. They are
-- written there before every replay, which counts as a step, takes the settings of the moment and draws random numbers
-- of its own.
local core = require "fp8.core"
local graph = require "fp8.graph"
local replaced = require "fp8.replaced"

--- @param optimizer its method `settings_at(batch, step)` gives the settings of the moment
-- @param batch      what is updated: {rule =, device =, list =, parameters =, states =, …}: list as core.update takes
--   it, parameters those that it has, or parts of which it has, states a list of tables with a count `steps`
-- @param device     of the graph
-- @return the tensor that the update reads
return function(optimizer, batch, device)
  if batch.device ~= device then
    core.raise(("step: a parameter is on %s, and the graph is captured on %s"):format(batch.device, device))
  end
  local live, parameters, states, settings = core.new_live_step(device), batch.parameters, batch.states, nil
  local words = core.update_words(batch) -- that a stochastic step draws
  graph.on_replay {
    prepare = function()
      local steps = states[1].steps
      for i = 1, #states do
        if replaced[parameters[i]] then
          core.raise("graph: a parameter was replaced when its module was converted or moved since the graph was " ..
            "captured: make an optimizer of the module as it is, and capture it again")
        end
        if states[i].steps ~= steps then
          core.raise "graph: its parameters have had different numbers of steps since it was captured; capture it again"
        end
      end
      settings = optimizer:settings_at(batch, steps + 1)
    end,
    commit = function(fields, count)
      core.store_step(live, batch.rule, settings, words)
      for i = 1, #states do
        fields[3 * count + 1], fields[3 * count + 2], fields[3 * count + 3] = states[i], "steps", settings.step
        count = count + 1
      end
      return count
    end,
  }
  return live
end
