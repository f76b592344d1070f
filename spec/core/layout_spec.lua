-- The source tree keeps its rules: one subject has one name in every layer, the tables of the backends have one order,
-- folders stay small, and a switch lists its cases.
local support = require "spec.support"

-- What only helps the subjects of its folder, and is none itself.
local helpers = {
  ["src/cpu"] = {
    convert = "elements of any dtype to and from float32 and int64, which all kernels of the CPU compute in",
    dnnl = "how products and convolutions call oneDNN",
    parallel = "loops on all cores: the GPU's are launches",
    stream = "walks through tensors of any strides: the GPU computes addresses",
    vectors = "what several kernels of the CPU do with runs of float32",
  },
  ["src/cuda"] = {
    beside = "the streams that src/distributed works on: the CPU has none",
    map = "copies of maps on a device: the CPU reads the map itself",
    measure = "absmax in two passes, for reductions and scales of large tensors, and what is noted of it",
  },
  ["src/ops"] = {
    support = "checks and outputs that the operations share",
  },
}

-- What one backend lacks, and why.
local one_sided = {
  ["src/cuda"] = {
    device = "there is nothing to choose, open or wait for on the CPU",
    graph = "the CPU has no graphs",
  },
}

-- The fields of struct Backend before its entries.
local header = {version = true, size = true, kind = true, allocator = true}

-- Entries that a backend may leave out, since src/ops asks before it calls them.
local optional_entries = {
  attends = true, attention = true, attention_backward = true, compares_quantized = true, compare_quantized = true,
  quantizes_activated = true, quantize_activated = true, quantizes_cross_entropy = true,
  quantize_cross_entropy = true,
  scaled_matmul_add = true, quantizes_both_ways = true, quantize_both_ways = true, scales_runs = true,
  softmax_columns = true, sums_rows = true, convolve = true, copy_parts = true,
  quantizes_ways = true, quantize_ways = true,
  capture_prepare = true, capture_begin = true, capture_end = true, graph_launch = true, graph_release = true,
}

local largest_folder = 25

--- The lines that a shell command prints, in order.
local function lines_of(command)
  local list, pipe = {}, io.popen(command)
  for line in pipe:lines() do table.insert(list, line) end
  pipe:close()
  table.sort(list)
  return list
end

--- The subjects of a folder, as a set: X for X.c (or whatever `extension` says) and for a folder X.
local function subjects_of(folder, extension)
  local set = {}
  for _, path in ipairs(lines_of(("find %s -mindepth 1 -maxdepth 1 -type d"):format(folder))) do
    set[path:match "[^/]*$"] = true
  end
  for _, path in ipairs(lines_of(("find %s -maxdepth 1 -name '*.%s'"):format(folder, extension or "c"))) do
    set[path:match "([^/]*)%.[^.]*$"] = true
  end
  return set
end

--- Asserts that a list of complaints is empty.
local function none(complaints)
  assert.equal("", table.concat(complaints, "\n"))
end

local function source_files(folders)
  return lines_of(("find %s -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh'"):format(folders))
end

--- Text without comments.
local function code_of(path)
  return (support.read_file(path):gsub("/%*.-%*/", ""):gsub("//[^\n]*", ""))
end

local function in_any(name, ...)
  for _, set in ipairs {...} do
    if set[name] then return true end
  end
  return false
end

describe("The source tree", function()
  local cpu, cuda = subjects_of "src/cpu", subjects_of "src/cuda"
  local ops, core = subjects_of "src/ops", subjects_of "src/core"

  for _, case in ipairs {{"src/cpu", cpu, "src/cuda", cuda}, {"src/cuda", cuda, "src/cpu", cpu}} do
    local folder, own, other_folder, other = unpack(case)

    it("has in " .. other_folder .. " what it has in " .. folder, function()
      local complaints = {}
      for name in support.sorted_pairs(own) do
        if not in_any(name, other, helpers[folder], one_sided[folder] or {}) then
          table.insert(complaints, ("%s/%s has no counterpart in %s"):format(folder, name, other_folder))
        end
      end
      none(complaints)
    end)

    it("has an operation, or something in src/core, for all in " .. folder, function()
      local complaints = {}
      for name in support.sorted_pairs(own) do
        if not in_any(name, ops, core, helpers[folder]) and name ~= "backend" then
          table.insert(complaints, ("%s/%s: neither src/ops nor src/core has %s"):format(folder, name, name))
        end
      end
      none(complaints)
    end)
  end

  it("has host code for every kernel, by the same name", function()
    local complaints = {}
    for name in support.sorted_pairs(subjects_of("kernels", "cu")) do
      if not cuda[name] then table.insert(complaints, ("kernels/%s: src/cuda has no %s"):format(name, name)) end
    end
    none(complaints)
  end)

  it("has a binding for every operation, by the same name", function()
    local complaints, bindings = {}, subjects_of "src/lua"
    for name in support.sorted_pairs(ops) do
      if not in_any(name, bindings, helpers["src/ops"]) then
        table.insert(complaints, ("src/ops/%s: src/lua has no %s"):format(name, name))
      end
    end
    none(complaints)
  end)

  it("needs every exception that is listed here", function()
    local complaints = {}
    for _, exceptions in ipairs {helpers, one_sided} do
      for folder, reasons in support.sorted_pairs(exceptions) do
        local there = subjects_of(folder)
        for name in support.sorted_pairs(reasons) do
          if not there[name] then table.insert(complaints, ("there is no %s/%s"):format(folder, name)) end
        end
      end
    end
    for name in support.sorted_pairs(one_sided["src/cuda"]) do
      if cpu[name] then table.insert(complaints, ("src/cpu has %s"):format(name)) end
    end
    none(complaints)
  end)

  it("lists a backend's entries in the order of struct Backend", function()
    local order, complaints = {}, {}
    local struct = code_of("src/backend.h"):match "typedef struct Backend (%b{})"
    for name in struct:gmatch "%(%*([%w_]+)%)%(" do table.insert(order, name) end
    assert.is_true(#order > 40)
    for _, folder in ipairs {"src/cpu", "src/cuda"} do
      local given, found = {}, {}
      local entries = code_of(folder .. "/backend.c"):match "const Backend [%w_]+ = (%b{})"
      for name, value in entries:gmatch "%.([%w_]+) = ([%w_]+)" do
        given[name] = value ~= "NULL"
        if not header[name] then table.insert(found, name) end
      end
      local expected = {}
      for _, name in ipairs(order) do
        if given[name] ~= nil then table.insert(expected, name) end
        if not given[name] and not optional_entries[name] then
          table.insert(complaints, ("%s/backend.c lacks %s"):format(folder, name))
        end
      end
      for i = 1, math.max(#expected, #found) do
        if expected[i] ~= found[i] then
          local text = "%s/backend.c: entry %d should be %s, is %s"
          table.insert(complaints, text:format(folder, i, tostring(expected[i]), tostring(found[i])))
          break
        end
      end
    end
    none(complaints)
  end)

  it(("has no folder of more than %d files"):format(largest_folder), function()
    local complaints = {}
    for _, folder in ipairs(lines_of "find src kernels lua spec -type d ! -path '*/fixtures*'") do
      local count = #lines_of(("find %s -maxdepth 1 -type f"):format(folder))
      if count > largest_folder then table.insert(complaints, ("%s holds %d files"):format(folder, count)) end
    end
    none(complaints)
  end)

  it("has no default: in a switch, where a new case would be computed as another one", function()
    local complaints = {}
    for _, path in ipairs(source_files "src kernels") do
      local _, count = code_of(path):gsub("%f[%w_]default%s*:", "")
      if count > 0 then table.insert(complaints, ("%s: %d"):format(path, count)) end
    end
    none(complaints)
  end)
end)
