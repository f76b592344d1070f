--- state_dict and load_state_dict of optimizers: everything as tensors by name.
local ffi = require "ffi"
local changes = require "fp8.changes"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local shapes = require "fp8.shapes"

local raise = core.raise

local state = {}

-- A line for the optimizer and one for each group: "optimizer=SGD lr=0.001 nesterov=false …", "lr=0.003".
local function settings_text(self)
  local lines = {}
  for i = 0, #self.groups do
    local source, words = i == 0 and self or self.groups[i], {i == 0 and "optimizer=" .. self.name or nil}
    for key in pairs(self.defaults) do
      local value = rawget(source, key)
      if value ~= nil then
        words[#words + 1] = key .. "=" .. (type(value) == "number" and ("%.17g"):format(value) or tostring(value))
      end
    end
    table.sort(words)
    lines[#lines + 1] = table.concat(words, " ") .. "\n"
  end
  return table.concat(lines)
end

-- Moments of one kind of optimizer mean something else to another.
local function check_name(self, name)
  if name == self.name then return end
  raise(("load_state_dict: the state is that of %s, not of %s"):format(name or "an unknown optimizer", self.name))
end

-- The settings that a text holds: the optimizer's, then each group's.
local function read_settings(self, text)
  local list = {}
  for line in text:gmatch "([^\n]*)\n" do
    local settings = {}
    for word in line:gmatch "%S+" do
      local key, value = word:match "^([%w_]+)=(.+)$"
      if not key then raise "load_state_dict: settings are not what state_dict writes" end
      if value == "true" or value == "false" then value = value == "true" end
      settings[key] = tonumber(value) or value
    end
    if #list == 0 then
      check_name(self, settings.optimizer)
      settings.optimizer = nil
    end
    self.check_settings("load_state_dict", settings)
    list[#list + 1] = settings
  end
  if #list ~= #self.groups + 1 then
    raise(("load_state_dict: settings of %d groups, the optimizer has %d"):format(math.max(#list - 1, 0), #self.groups))
  end
  if list[1].rounding == nil then list[1].rounding = "nearest" end -- of before there was another one
  for i = 2, #list do self.check_together("load_state_dict", list[i], list[1]) end
  for key in pairs(self.defaults) do
    if list[1][key] == nil then raise("load_state_dict: the settings lack " .. key) end
  end
  return list
end

-- All tensors that are kept: their names, and in the same order they and the shapes that they have as a whole. (Lists
-- and no function that is called for each: nn/module.lua says why.)
local function list_tensors(entries, shard)
  local names, tensors, whole = {}, {}, {}
  for i, entry in ipairs(entries) do
    for key, value in pairs(entry) do
      if core.is_tensor(value) then
        local count = #names + 1
        names[count], tensors[count] = ("%d.%s"):format(i, key), value
        whole[count] = shard and shard:whole_shape(i, key, value) or core.shape(value)
      end
    end
  end
  return names, tensors, whole
end

local function text_tensor(text)
  local tensor = core.zeros({#text}, {dtype = "u8", device = "cpu"})
  ffi.copy(core.data(tensor), text, #text)
  return tensor
end

--- optimizer:state_dict(), see optimizer.lua.
function state.save(self)
  local steps, entries = {}, self.state
  if self.shard then
    self.shard:gather_weights() -- for the model's own state_dict
    entries = self.shard:gather(entries, function(position) return self:fresh_entry(position) end)
  end
  for i, entry in ipairs(entries) do steps[i] = entry.steps end
  local dict = {
    steps = core.tensor(steps, {dtype = "i64", device = "cpu"}),
    settings = text_tensor(settings_text(self)),
  }
  local names, tensors = list_tensors(entries)
  for i, name in ipairs(names) do dict[name] = core.share(tensors[i]) end
  return dict
end

local function check_tensor(dict, name, shape, dtype)
  local tensor = dict[name]
  if not core.is_tensor(tensor) then
    raise(("load_state_dict: %s must be a tensor, got %s"):format(name, type(tensor)))
  end
  local have, need = shapes.text(core.shape(tensor)), shape and shapes.text(shape)
  if need and have ~= need then
    raise(("load_state_dict: %s has shape %s in the optimizer, %s in the table"):format(name, need, have))
  elseif core.dtype(tensor) ~= dtype then
    raise(("load_state_dict: %s must be %s, got %s"):format(name, dtype, core.dtype(tensor)))
  end
  return tensor
end

-- An error that says so where the table has moments of other formats than the optimizer.
local function check_formats(self, dict)
  for _, group in ipairs(self.groups) do
    for i = group.first, group.first + #group.parameters - 1 do
      for _, moment in ipairs(group.moments) do
        local name, kept = ("%d.%s"):format(i, moment), self.state[i][moment]
        local own = kept and core.dtype(kept) -- nothing of what another rank keeps
        local found = own and core.is_tensor(dict[name]) and core.dtype(dict[name]) or own
        if found ~= own then
          raise(("load_state_dict: %s is %s in the optimizer, %s in the table: the option state of both must be the " ..
            "same"):format(name, own, found))
        end
      end
    end
  end
end

-- Codes mean something under their own map only.
local function check_map(dict, name, map)
  local own, found = core.totable(map), core.totable(dict[name])
  for i = 1, #own do
    if own[i] ~= found[i] then
      raise(("load_state_dict: %s is another map than the optimizer's: the option state of both must be the same")
        :format(name))
    end
  end
end

local function is_map(name) return name:find "_map$" ~= nil end

local function read_text(tensor)
  if core.rank(tensor) ~= 1 or core.numel(tensor) > 2 ^ 20 then
    raise "load_state_dict: settings are not what state_dict writes"
  end
  local bytes = core.totable(tensor)
  for i, byte in ipairs(bytes) do bytes[i] = string.char(byte) end
  return table.concat(bytes)
end

local function read_steps(self, dict)
  local steps = core.totable(check_tensor(dict, "steps", {#self.state}, "i64"))
  for i, count in ipairs(steps) do
    if not is_whole(count, 0) then raise(("load_state_dict: parameter %d has %s steps"):format(i, tostring(count))) end
  end
  return steps
end

-- Whether a name is one of what another rank keeps.
local function is_elsewhere(self, name)
  local position = self.shard and tonumber(tostring(name):match "^(%d+)%.")
  return position and self.shard.owners[position] and not self.shard:kept_of(position)
end

-- What is kept here of a tensor that is the whole.
local function part_of(self, name, tensor)
  return self.shard and self.shard:part_of(tonumber(name:match "^%d+"), tensor) or tensor
end

local function load(self, dict)
  if type(dict) ~= "table" then raise("load_state_dict: a table is needed, got " .. type(dict)) end
  local known = {steps = true, settings = true}
  local steps = read_steps(self, dict)
  local names, tensors, whole = list_tensors(self.state, self.shard)
  check_formats(self, dict)
  for i, name in ipairs(names) do
    known[name] = true
    check_tensor(dict, name, whole[i], core.dtype(tensors[i]))
    if is_map(name) then check_map(dict, name, tensors[i]) end
  end
  for name in pairs(dict) do
    if not known[name] and not is_elsewhere(self, name) then
      raise(("load_state_dict: the optimizer keeps no tensor %s"):format(tostring(name)))
    end
  end
  local settings = read_settings(self, read_text(check_tensor(dict, "settings", nil, "u8")))
  for i, name in ipairs(names) do
    if not is_map(name) then changes.copy(tensors[i], part_of(self, name, dict[name])) end
  end
  for i, entry in ipairs(self.state) do changes.set(entry, "steps", steps[i]) end
  for key in pairs(self.defaults) do
    changes.set(self, key, settings[1][key])
    for i, group in ipairs(self.groups) do changes.set(group, key, settings[i + 1][key]) end
  end
end

--- optimizer:load_state_dict(dict), see optimizer.lua.
function state.load(self, dict) changes.together(load, self, dict) end

return state
