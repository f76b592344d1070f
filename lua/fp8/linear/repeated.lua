--- The scales of delayed scaling in what fp8.recompute runs twice: the first run enters the histories and keeps the
-- scales, and the second one takes those instead of entering the histories again.
local core = require "fp8.core"

local repeated = {}

-- {run = false, or {repeats = whether it is the second one, lists = by the table that holds the histories and by
-- history_field a list of scales, taken = how many of each have been taken, outer = the run around this one}}
local now = {run = false}

local function list_of(table, histories, field, empty)
  local lists = table[histories] or {}
  table[histories] = lists
  lists[field] = lists[field] or empty
  return lists
end

--- The scales that a first run keeps, for `first` and `second`.
function repeated.new() return {} end

--- Calls f(…) as a first run, which keeps scales in `scales`, or as a second one, which takes them.
-- @return what f returns
function repeated.first(scales, f, ...)
  return core.with(now, "run", {repeats = false, lists = scales, outer = now.run}, f, ...)
end

function repeated.second(scales, f, ...)
  return core.with(now, "run", {repeats = true, lists = scales, taken = {}, outer = now.run}, f, ...)
end

--- Whether there is a first or a second run at the moment.
function repeated.is_running() return now.run ~= false end

-- The next scale of the innermost second run, nil where there is none.
local function take(histories, field)
  local run = now.run
  while run and not run.repeats do run = run.outer end
  local scales = run and run.lists[histories] and run.lists[histories][field]
  if not scales then return nil end
  local taken = list_of(run.taken, histories, field, 0)
  taken[field] = taken[field] + 1
  return scales[taken[field]] and core.share(scales[taken[field]])
end

local function keep(histories, field, scale)
  local run = now.run
  while run and not run.repeats do
    local scales = list_of(run.lists, histories, field, {})[field]
    scales[#scales + 1] = core.share(scale)
    run = run.outer
  end
end

--- The scale of a quantization that enters a history: compute(…), or in a second run what that gave in the first.
-- @param histories the table that holds the history, and `field` its name there
function repeated.scale(histories, field, compute, ...)
  if not now.run then return compute(...) end
  local scale = take(histories, field) or compute(...)
  keep(histories, field, scale)
  return scale
end

--- Calls visit(scale) for all that are kept.
function repeated.each(scales, visit)
  for _, fields in next, scales do
    for _, list in next, fields do
      for i = 1, #list do visit(list[i]) end
    end
  end
end

jit.off(repeated.each) -- nn/module.lua says why

return repeated
