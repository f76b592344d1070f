--- What was typed before, in this session and in earlier ones: a file with one entry a line. Line breaks in an entry
-- are written as \n, backslashes as \\. What comes through a pipe is not kept.
local history = {entries = {}, is_kept = false}

local most = 1000

-- FP8_HISTORY names another file, or none if it is empty.
local function path()
  local chosen, home = os.getenv "FP8_HISTORY", os.getenv "HOME"
  if chosen then return chosen ~= "" and chosen or nil end
  return home and home .. "/.fp8_history"
end

local function encoded(entry) return (entry:gsub("[\\\n]", {["\\"] = "\\\\", ["\n"] = "\\n"})) end
local function decoded(line) return (line:gsub("\\(.)", {n = "\n", ["\\"] = "\\"})) end

local function append(mode, lines)
  local file = path() and io.open(path(), mode)
  if not file then return end
  for _, line in ipairs(lines) do file:write(line, "\n") end
  file:close()
end

--- Reads the file, to which entries go from now on; one that has grown long is cut to its end.
function history.load()
  local entries, lines = {}, {}
  local file = path() and io.open(path())
  if file then
    for line in file:lines() do lines[#lines + 1] = line end
    file:close()
  end
  local first = math.max(1, #lines - most + 1)
  for i = first, #lines do entries[#entries + 1] = decoded(lines[i]) end
  if #lines > 2 * most then append("w", {unpack(lines, first)}) end
  history.entries, history.is_kept = entries, true
  return entries
end

--- Adds an entry, here and in the file, unless it repeats the last one. Returns whether it did.
function history.add(entry)
  local entries = history.entries
  if not entry:find "%S" or entry == entries[#entries] then return false end
  entries[#entries + 1] = entry
  if history.is_kept then append("a", {encoded(entry)}) end
  return true
end

return history
