--- fp8.watch: what quantization does to the tensors of a model's linear layers and attention while it is trained.
local blocks = require "fp8.watch.blocks"
local changes = require "fp8.changes"
local core = require "fp8.core"
local check_options = require "fp8.check_options"
local comparison = require "fp8.watch.compare"
local delayed = require("fp8.linear.operands").delayed
local find = require "fp8.watch.find"
local takes_recipes = require("fp8.nn.product_layer").takes_recipes
local is_whole = require "fp8.is_whole"
local Module = require "fp8.nn.module"
local planning = require "fp8.linear.plan"
local published = require "fp8.linear.published"
local ranks = require "fp8.watch.ranks"
local report = require "fp8.watch.report"
local watch_graph = require "fp8.watch.graph"

local raise = core.raise
local dtype_of, shape_of = core.dtype, core.shape

local Watcher = setmetatable({}, {__index = report})
Watcher.__index = Watcher
Watcher.__tostring = report.text

-- What is recorded of a layer: its tensors, and those again that a second product takes in another form.
local kinds = {"weight", "input", "grad_output"}
local second_products = {weight = "dx", input = "dW", grad_output = "dW"}
local attention_kinds = {"q", "k", "v", "probabilities"}
local room = 64 -- recorded steps that the device holds before they are fetched

local watchers = setmetatable({}, {__mode = "kv"}) -- by layer

-- --- what is watched ---

local own_options = {every = true, recipe = true, blocks = "boolean"}

local function read_options(options)
  options = check_options("watch", options, own_options)
  local every, recipe = options.every == nil and 10 or options.every, options.recipe
  if not is_whole(every, 1) then
    raise("watch: option every must be a whole number of at least 1, got " .. tostring(every))
  end
  if type(recipe) == "string" then
    recipe = published.find("watch", recipe)
  elseif type(recipe) == "table" then
    published.check("watch", recipe)
  end
  return every, recipe, options.blocks
end

-- Replaces entry.record, what its row is of; a record itself never changes, since recorded steps share it.
local function write_row(self, layer, entry, x, operand)
  self.calls = self.calls + 1
  entry.record = {order = self.calls, shape = shape_of(x), operand = operand}
  if entry.blocks then blocks.write(entry.blocks, x, operand) end
  if not operand then return core.compare(entry.row, x) end
  local known = layer[operand.history_field] and delayed(x, operand, {tensors = layer, record = false})
  comparison.quantize(entry.row, x, operand, dtype_of(x), known)
  if known then core.free(known) end
end

-- The operand, nil for one that is left alone.
local function quantizing(operand) return operand and not operand.full and operand or nil end

-- What a layer shows its tensors to while a step is recorded (linear/state.lua). The last call in a step counts. The
-- layer does not keep its watcher alive.
local function observer_of(layer, entries, seconds, plan)
  return function(kind, x, first, second)
    local self = watchers[layer]
    if not self then return end
    if not layer.plan and plan and not (first or second) then first = plan[kind] end
    first, second = quantizing(first), quantizing(second)
    if first or not second then write_row(self, layer, entries[kind], x, first or nil) end
    if second and second ~= first then
      local usual = layer.plan and second == layer.plan[kind] -- no plan: converted since the forward pass
      write_row(self, layer, (usual and entries or seconds)[kind], x, second)
    end
  end
end

-- The same of attention, which shows what it quantizes.
local function observer_of_attention(layer, entries)
  return function(kind, x, operand)
    local self = watchers[layer]
    if self then write_row(self, layer, entries[kind], x, quantizing(operand)) end
  end
end

local function check_unwatched(name, layer)
  if watchers[layer] then collectgarbage() end -- nobody may have that watcher any more
  if watchers[layer] then raise(("watch: layer %s is watched already; close that watcher first"):format(name)) end
end

local function add_entry(self, to, kind, name, tensor)
  to[kind] = {layer = name, tensor = tensor, record = {order = 0, shape = {}}}
  self.entries[#self.entries + 1] = to[kind]
end

local function add_attention(self, name, layer)
  check_unwatched(name, layer)
  local entries = {}
  for _, kind in ipairs(attention_kinds) do add_entry(self, entries, kind, name, kind) end
  self.layers[#self.layers + 1] = {
    layer = layer, name = name, holder = layer.in_proj, observer = observer_of_attention(layer, entries),
  }
end

local function add_layer(self, name, layer, recipe)
  check_unwatched(name, layer)
  local entries, seconds = {}, {}
  for _, kind in ipairs(kinds) do add_entry(self, entries, kind, name, kind) end
  for _, kind in ipairs(kinds) do
    add_entry(self, seconds, kind, name, ("%s for %s"):format(kind, second_products[kind]))
  end
  local plan = recipe and planning.make("watch", recipe, layer.in_features, layer.out_features)
  self.layers[#self.layers + 1] = {
    layer = layer, name = name, holder = layer, observer = observer_of(layer, entries, seconds, plan),
  }
end

-- --- recording ---

-- Makes `rows` those of the steps that are held.
local function add_chunk(self, rows)
  changes.set(self.chunks, #self.chunks + 1, {held = self.held, rows = rows})
  changes.set(self, "held", {})
end

-- Brings what the device holds to the CPU, of all ranks. Waits for the device.
local function fetch(self)
  local count = #self.held
  if count == 0 then return end
  local rows = core.clone(core.to(core.narrow(self.history, 1, 1, count), {device = "cpu"}))
  if self.distributed then rows = ranks.merge(self.distributed, rows, self.entries) end
  core.keep(rows)
  changes.together(add_chunk, self, rows)
end

-- The functions from here to `step` change the watcher at the end of changes.together.

-- Rows on the layers' device: one for each entry of the step under way, which are returned, and of the steps recorded
-- since the last fetch.
local function make_rows(self)
  local device
  for _, part in ipairs(self.layers) do
    local own = core.device(part.holder.weight)
    device = device or own
    if own ~= device then
      raise(("watch: the layers must be on one device, and are on %s and %s"):format(device, own))
    end
  end
  if device == self.device then return self.current end
  if self.device then add_chunk(self, self.history) end -- the layers were moved
  local current = blocks.new_rows(device, self.blocks, #self.entries)
  local history = blocks.new_rows(device, self.blocks, room, #self.entries)
  core.keep(current)
  core.keep(history)
  changes.set(self, "device", device)
  changes.set(self, "current", current)
  changes.set(self, "history", history)
  for i, entry in ipairs(self.entries) do
    local row, part = blocks.parts(core.select(current, 1, i))
    core.keep(row)
    if part then core.keep(part) end
    changes.set(entry, "row", row)
    changes.set(entry, "blocks", part)
  end
  return current
end

local function start_recording(self, current)
  changes.copy(current, core.zeros({}, {dtype = core.dtype(current), device = core.device(current)}))
  changes.set(self, "calls", 0)
  changes.set(self, "recording", true)
  for _, part in ipairs(self.layers) do changes.set(part.layer.state, "observer", part.observer) end
end

local function stop_recording(self)
  changes.set(self, "recording", false)
  for _, part in ipairs(self.layers) do changes.set(part.layer.state, "observer", nil) end
end

local function same_record(a, b)
  if a.operand ~= b.operand or #a.shape ~= #b.shape then return false end
  for i = 1, #a.shape do
    if a.shape[i] ~= b.shape[i] then return false end
  end
  return true
end

-- Whether a list of records says of the entries what their own say. An evaluation before the step shifts the order of
-- all that the step writes by as much.
local function still_true(records, entries)
  local shift
  for i, entry in ipairs(entries) do
    local known, record = records[i], entry.record
    if not known then return false end
    if record ~= known then
      shift = shift or record.order - known.order
      if record.order - known.order ~= shift or not same_record(known, record) then return false end
    end
  end
  return true
end

-- The entries' records; the list of the step recorded before if they say the same, so that a long run holds one.
local function current_records(self)
  if not still_true(self.records, self.entries) then
    local records = {}
    for i, entry in ipairs(self.entries) do records[i] = entry.record end
    self.records = records
  end
  return self.records
end

local function keep_step(self, step)
  if self.calls == 0 then return end
  local place = #self.held + 1
  changes.set(self.held, place, {step = step, records = current_records(self)})
  changes.copy(core.select(self.history, 1, place), self.current)
end

local function end_step(self)
  local step = self.steps + 1
  changes.set(self, "steps", step)
  if self.closed then return end
  if self.recording then keep_step(self, step) end
  if (step + 1) % self.every == 0 then
    start_recording(self, make_rows(self))
  elseif self.recording then
    stop_recording(self)
  end
end

--- Ends a training step: call it once after each. The steps numbered every, 2 · every, … are recorded.
function Watcher:step()
  if #self.held == room then fetch(self) end
  changes.together(end_step, self)
end

--- Whether the step under way is recorded.
function Watcher:due() return self.recording end

--- fp8.cuda.graph for a watched training step: a function that does f's work, as a graph. It keeps two of them, each
-- captured when first needed: one for usual steps, and one, with memory of its own, for those that are recorded.
--
--   local step = watcher:graph(function() … return loss end)
--   for images, labels in batches do
--     x:copy_(images)
--     local loss = step()
--     watcher:step()
--   end
--
-- A script that has to save that memory runs recorded steps without a graph: `(watcher:due() and f or graph)()`.
-- @param f      as for fp8.cuda.graph
-- @param device that of the layers if left out
function Watcher:graph(f, device)
  if type(f) ~= "function" then raise("graph: a function is needed, got " .. type(f)) end
  local captured = {}
  return function()
    local known = captured[self.recording]
    if known then return watch_graph.replay(self, known) end
    local results
    captured[self.recording], results = watch_graph.capture(self, f, device or self.device)
    return unpack(results, 1, results.n)
  end
end

local function close(self)
  stop_recording(self)
  for _, part in ipairs(self.layers) do changes.set(watchers, part.layer, nil) end
  for _, entry in ipairs(self.entries) do
    changes.set(entry, "row", nil)
    changes.set(entry, "blocks", nil)
  end
  changes.set(self, "closed", true)
  changes.set(self, "current", nil)
  changes.set(self, "history", nil)
  changes.set(self, "layers", {})
end

--- Takes the watcher off the model. What it has recorded stays readable.
function Watcher:close()
  if self.closed then return end
  fetch(self)
  local rows = {self.current, self.history}
  for _, entry in ipairs(self.entries) do
    rows[#rows + 1] = entry.row
    rows[#rows + 1] = entry.blocks
  end
  changes.together(close, self)
  for i = 1, #rows do core.free(rows[i]) end
end

--- A list of all that was recorded, oldest step first: tables with `step`, `layer`, `tensor` ("weight", "input" or
-- "grad_output"; "weight for dx", "input for dW" or "grad_output for dW" where these take another form; "q", "k", "v"
-- or "probabilities" of attention), `format` and
-- `scale` (names as fp8.analyze has them; nil if it was not quantized at that step) and the statistics of
-- compare.lua. Waits for the device.
function Watcher:rows()
  local list = {}
  self:each_row(function(row) list[#list + 1] = row end)
  return list
end

-- Calls visit(row, record, entry) for what was recorded, record being {order =, shape =, operand =}, entry {layer =,
-- tensor =}; at the last recorded step only, if `last`.
function Watcher:each_row(visit, last)
  fetch(self)
  for c = last and math.max(#self.chunks, 1) or 1, #self.chunks do
    local chunk = self.chunks[c]
    local rows = core.to(chunk.rows, {device = "cpu"})
    for s = last and #chunk.held or 1, #chunk.held do
      local held = chunk.held[s]
      for e, entry in ipairs(self.entries) do
        local row, record = blocks.read(rows, (s - 1) * #self.entries + e - 1, self.blocks), held.records[e]
        if row.count > 0 then
          row.step, row.layer, row.tensor = held.step, entry.layer, entry.tensor
          if record.operand then
            row.format = comparison.format_name(record.operand.format or record.operand.quantize)
            row.scale = comparison.scale_name(record.operand)
          end
          visit(row, record, entry)
        end
      end
    end
  end
end

local function begin(self)
  local current = make_rows(self)
  for _, part in ipairs(self.layers) do changes.set(watchers, part.layer, self) end
  if self.every == 1 then start_recording(self, current) end
end

--- Watches the linear layers of a model: at every `every`-th training step it records what their input, weight and the
-- gradient of their output are like, and what the layer's recipe makes of them; and of attention with a recipe what is
-- quantized: q, k, v and the probabilities.
--
--   local watcher = fp8.watch(model, {every = 10})
--   for step = 1, steps do
--     … forward, backward, optimizer:step() …
--     watcher:step()
--   end
--   watcher:print()
--
-- Steps in between cost nothing, and a recorded one never waits for the device: a row of numbers for each tensor stays
-- there until it is asked for, or 64 steps are recorded. watcher:graph is for steps captured as graphs. Close a
-- watcher before another takes its place; one that nothing refers to any more is gone. fp8.watch.find looks for the
-- origin of a NaN.
--
-- What quantizing does is worked out beside the layer, rounding to nearest, so that a watched run stays the same.
--
-- Of several processes (fp8.distributed) all watch, each its share of the batches, and call the same methods: what is
-- read is of all of them, and print prints on the first one. Scales are each rank's own, and so is the loss that
-- gradients are of.
-- @param model   a module with linear layers
-- @param options {every = 10, recipe = for layers without one: what this recipe, a table or a name in fp8.recipes,
--                would do to their tensors, blocks = true: to record what the blocks are like that share a scale, too
--                (blocks.lua), of what is quantized}
-- @return a watcher: step(), due(), graph(f), print(count), rows(), save(path), first_bad(), close(), tostring
--   local model = fp8.nn.Sequential(fp8.LinearMixed(8, 4))
--   local watcher = fp8.watch(model, {every = 1})
--   model(fp8.randn(2, 8)):sum():backward()
--   watcher:step()
--   watcher:rows()[1].layer --> "1"
local function watch(model, options)
  if not Module.is_module(model) then raise("watch: a module is needed, got " .. type(model)) end
  local every, recipe, of_blocks = read_options(options)
  local self = setmetatable({every = every, blocks = of_blocks, steps = 0, calls = 0, recording = false, layers = {},
    entries = {}, held = {}, chunks = {}, records = {}, distributed = ranks.joined()}, Watcher)
  for name, module in model:named_modules() do
    local shown = name == "" and module.class_name or name
    if takes_recipes(module) then
      add_layer(self, shown, module, recipe)
    elseif module.recipe_kind == "attention" then
      add_attention(self, shown, module)
    end
  end
  if #self.layers == 0 then raise "watch: the model has no linear layers" end
  changes.together(begin, self)
  return self
end

watch = require("fp8.public").plain("watch", watch)

return setmetatable({find = find}, {__call = function(_, ...) return watch(...) end})
