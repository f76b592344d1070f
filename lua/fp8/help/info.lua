--- fp8.info: what a bug report should say of a machine.
local ffi = require "ffi"
local core = require "fp8.core"
local fp8 = require "fp8"

-- The first capture in a file that there may be.
local function found_in(path, pattern)
  local file = io.open(path)
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text:match(pattern)
end

local processor_flags = {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve"} -- what products depend on

local function processor()
  local name = found_in("/proc/cpuinfo", "model name%s*: ([^\n]*)") or ffi.arch
  local flags = " " .. (found_in("/proc/cpuinfo", "\nflags%s*: ([^\n]*)") or
    found_in("/proc/cpuinfo", "\nFeatures%s*: ([^\n]*)") or "") .. " "
  local list = {}
  for _, flag in ipairs(processor_flags) do
    if flags:find(" " .. flag .. " ", 1, true) then list[#list + 1] = flag end
  end
  local threads = select(2, (found_in("/proc/cpuinfo", "^(.*)$") or ""):gsub("processor%s*:", ""))
  local limit = os.getenv "OMP_NUM_THREADS"
  return ("%s, %s threads%s%s"):format(name, threads > 0 and threads or "?",
    limit and (", OMP_NUM_THREADS=%s"):format(limit) or "", #list > 0 and ", " .. table.concat(list, " ") or "")
end

-- What of cuDNN is missing on a machine with a GPU, or nil; loads it where the GPU part would.
local function missing_cudnn()
  local path = os.getenv "FP8_CUDNN"
  if path == "none" then return "no cuDNN: FP8_CUDNN is none" end
  local folder = found_in("/proc/self/maps", "(/[^\n]*/)libcublasLt[^\n]*") or ""
  local loaded, reason = package.loadlib(path or "libcudnn.so.9", "*")
  if loaded or not path and package.loadlib(folder .. "libcudnn.so.9", "*") then return nil end
  return ("no cuDNN 9 (convolutions on GPUs, several times as fast): FP8_CUDNN may name its library; %s"):format(reason)
end

-- The files of the shared libraries that are in the process.
local function libraries()
  local missing = fp8.cuda.is_available() and missing_cudnn()
  local maps, list, seen = found_in("/proc/self/maps", "^(.*)$") or "", {}, {}
  for path in maps:gmatch "(/[^\n]*)" do
    local name = path:match "[^/]*$"
    for _, wanted in ipairs {"openblas", "dnnl", "gomp", "cublasLt", "libcudnn.so", "libcuda", "libluajit"} do
      if name:find(wanted, 1, true) and not seen[path] then
        seen[path] = true
        list[#list + 1] = path
      end
    end
  end
  if #list == 0 then list[1] = "not known" end
  list[#list + 1] = missing or nil
  return table.concat(list, "\n             ")
end

local function memory() return found_in("/proc/meminfo", "MemTotal:%s*(%d+)") end

ffi.cdef [[
  int cuDeviceGet(int *device, int ordinal);
  int cuDeviceGetName(char *name, int length, int device);
  int cuDeviceGetAttribute(int *value, int attribute, int device);
]]

local capability_major, capability_minor = 75, 76 -- CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR

-- What the driver calls GPU i, and its compute capability; nil where it can't be asked.
local function model(i)
  local found, driver = pcall(ffi.load, "libcuda.so.1")
  local device, name, value = ffi.new "int[1]", ffi.new "char[128]", ffi.new "int[1]"
  local known = found and driver.cuDeviceGet(device, i) == 0 and driver.cuDeviceGetName(name, 128, device[0]) == 0
  if not known then return end
  local numbers = {}
  for k, attribute in ipairs {capability_major, capability_minor} do
    if driver.cuDeviceGetAttribute(value, attribute, device[0]) ~= 0 then return ffi.string(name) end
    numbers[k] = value[0]
  end
  return ("%s, capability %d.%d"):format(ffi.string(name), numbers[1], numbers[2])
end

-- What there is of a GPU; or what is missing, and how to get it.
local function gpus()
  local available, reason = fp8.cuda.is_available()
  if not available then
    local advice
    if reason:find("built without", 1, true) then
      advice = "install the CUDA Toolkit (nvcc, cuBLASLt) and run make again; CUDA_HOME says where it is"
    elseif reason:find("cublasLt", 1, true) then
      advice = ("cuBLASLt of the CUDA Toolkit %s (NVIDIA's package libcublas) has to be where the linker looks: " ..
        "LD_LIBRARY_PATH says where"):format(reason:match "libcublasLt%.so%.(%d+)" or "")
    else
      advice = "NVIDIA's driver has to be installed, and nvidia-smi to list a GPU"
    end
    return ("none: %s\n             %s"):format(reason, advice)
  end
  local list = {}
  for i = 0, fp8.cuda.device_count() - 1 do
    local name = ("cuda:%d"):format(i)
    local ok, state = pcall(core.memory, name)
    local text = name .. (model(i) and " " .. model(i) or "")
    list[#list + 1] = ok and ("%s, %.0f bytes of tensors"):format(text, state.in_use) or text
  end
  local driver = found_in("/proc/driver/nvidia/version", "Kernel Module[%a ]-%s+(%d[%d.]*)")
  return table.concat(list, "\n             ") .. (driver and "\n             driver " .. driver or "")
end

local optional = {
  {"cjson", "lua-cjson", "fp8.save and fp8.load"}, {"zlib", "lua-zlib", ".npz, .png, compressed data sets"},
  {"readline", "lua-readline", "arrow keys and Tab at the prompt"}, {"busted", "lua-busted", "make test"},
}

local function has_command(name)
  for folder in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    local file = io.open(folder .. "/" .. name)
    if file then
      file:close()
      return true
    end
  end
  return false
end

local function packages()
  local there, missing = {}, {}
  local function note(is_there, package, use)
    if is_there then
      there[#there + 1] = package
    else
      missing[#missing + 1] = ("\n             no %s (%s): apt-get install %s"):format(package, use, package)
    end
  end
  for _, entry in ipairs(optional) do
    local name = entry[1]
    note(package.loaded[name] or package.searchpath(name, package.path) or package.searchpath(name, package.cpath),
      entry[2], entry[3])
  end
  note(has_command "gnuplot", "gnuplot", "pictures in files")
  return table.concat(there, ", ") .. table.concat(missing)
end

--- fp8.info(): a text for bug reports: versions and places of fp8 and LuaJIT, the processor, the devices, the libraries
-- in use, and what is missing, with the way to get it.
--   fp8.info():match "^fp8 %d" --> "fp8 0"
return function()
  local core_path = package.searchpath("fp8.core", package.cpath) or "?"
  local rows = {
    {"LuaJIT", ("%s, %s %s, compiler %s"):format(jit.version, jit.os, jit.arch, jit.status() and "on" or "off")},
    {"system", found_in("/etc/os-release", 'PRETTY_NAME="([^"]*)"') or jit.os},
    {"kernel", found_in("/proc/sys/kernel/osrelease", "[^\n]+") or "?"},
    {"processor", processor()},
    {"memory", memory() and ("%.1f GiB"):format(memory() / 2^20) or "?"},
    {"GPUs", gpus()},
    {"core", core_path},
    {"libraries", libraries()},
    {"packages", packages()},
  }
  local lines = {("fp8 %s in %s"):format(fp8.version, debug.getinfo(1, "S").source:match "^@(.*)help/info.lua$" or "?")}
  for _, row in ipairs(rows) do lines[#lines + 1] = ("%-11s  %s"):format(row[1], row[2]) end
  return table.concat(lines, "\n")
end
