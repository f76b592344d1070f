--- What the specs share: the devices to run on, files, comparisons and random numbers.
local ffi = require "ffi"
local assert = require "luassert"
local busted = require "busted"
local fp8 = require "fp8"
local seed = require "spec.support.seed"

local support = {}

local bytes_of = {f32 = 4, f16 = 2, bf16 = 2, e4m3 = 1, e5m2 = 1, u8 = 1, i32 = 4, i64 = 8}

--- Largest relative Frobenius errors against a reference, for each dtype.
support.tolerance = {f32 = 1e-5, f16 = 1e-3, bf16 = 4e-3}

support.devices = {"cpu"}
if fp8.cuda.is_available() then
  table.insert(support.devices, "cuda")
elseif os.getenv "FP8_REQUIRE_CUDA" then
  local _, reason = fp8.cuda.is_available()
  error("FP8_REQUIRE_CUDA is set, but there is no GPU: " .. tostring(reason))
end

--- Calls f(device) inside a busted block for each device present. Every test there starts from the same random state,
-- whichever tests came before it.
function support.each_device(f)
  for _, device in ipairs(support.devices) do
    busted.describe("on " .. device, function()
      busted.before_each(function() fp8.manual_seed(seed) end)
      f(device)
    end)
  end
end

--- Bytes that tensors hold on a device when all garbage is collected.
function support.in_use(device)
  collectgarbage()
  collectgarbage()
  return fp8.memory(device).in_use
end

local top = debug.getinfo(1, "S").source:sub(2):gsub("spec/support/[^/]*$", "")

--- Path of a file of the project.
function support.path(name)
  return top .. name
end

--- Path of a file in spec/fixtures.
function support.fixture(name)
  return support.path("spec/fixtures/" .. name)
end

--- Directory of the reference vectors: spec/fixtures holds a slice of them, FP8_GOLDEN names a folder with all.
function support.golden(name)
  local all = os.getenv "FP8_GOLDEN"
  return all and all .. "/" .. name or support.fixture(name)
end

--- All elements of a tensor, row-major, in one Lua table.
function support.flat(x)
  return x:contiguous():view(-1):totable()
end

--- Relative Frobenius error ‖a - b‖ / ‖b‖ of two tensors of one shape, in double; NaN if either holds a NaN.
function support.error(actual, expected)
  assert.same(expected.shape, actual.shape)
  local a, b = support.flat(actual), support.flat(expected)
  local difference, norm = 0, 0
  for i = 1, #b do
    difference = difference + (a[i] - b[i]) ^ 2
    norm = norm + b[i] ^ 2
  end
  if norm == 0 then return math.sqrt(difference) end
  return math.sqrt(difference / norm)
end

--- Asserts that a tensor is close to its reference, by the tolerance of its dtype or the one given.
function support.close(actual, expected, tolerance)
  local limit = tolerance or support.tolerance[actual.dtype]
  local found = support.error(actual, expected)
  assert.is_true(found <= limit, ("relative error %g is above %g"):format(found, limit))
end

--- Asserts that two tensors hold the same values, NaN equal to NaN and 0 to -0.
function support.equal(actual, expected)
  assert.same(expected.shape, actual.shape)
  local a, b = support.flat(actual), support.flat(expected)
  for i = 1, #b do
    if a[i] ~= b[i] and (a[i] == a[i] or b[i] == b[i]) then
      error(("element %d: expected %.9g, got %.9g"):format(i, b[i], a[i]), 2)
    end
  end
end

--- The same, but that 0 and -0 differ.
function support.equal_with_signs(actual, expected)
  support.equal(actual, expected)
  support.equal(1 / actual:to("f32"), 1 / expected:to("f32"))
end

--- Normal random numbers whose magnitudes differ between rows, and between columns.
function support.uneven_matrix(rows, columns, dtype)
  local x = fp8.randn(rows, columns) * (fp8.randn(rows, 1) * 1.5):exp() * fp8.randn(columns):exp()
  return x:to(dtype)
end

--- The bytes of a tensor's elements, row-major.
function support.bytes(x)
  x = x:detach():to("cpu"):contiguous()
  return ffi.string(x:data(), x:numel() * bytes_of[x.dtype])
end

--- Asserts that two tensors hold the same bytes of the same dtype, signs of zeros included.
function support.same_bytes(actual, expected)
  assert.same(expected.shape, actual.shape)
  assert.equal(expected.dtype, actual.dtype)
  assert.is_true(support.bytes(actual) == support.bytes(expected), "the bytes differ")
end

--- Asserts that f(…) raises an error whose message contains `text`.
function support.fails(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok, "expected an error with: " .. text)
  assert.is_truthy(tostring(message):find(text, 1, true), ("expected an error with %q, got %q"):format(text, message))
end

--- A tensor of distinct values at least 0.15 apart and 0.07 from 0, shuffled.
function support.apart(sizes)
  local count = 1
  for _, size in ipairs(sizes) do count = count * size end
  local values = {}
  for i = 1, count do values[i] = (i - math.floor(count / 2) - 0.5) * 0.15 end
  local random = support.random(count)
  for i = count, 2, -1 do
    local j = random(i)
    values[i], values[j] = values[j], values[i]
  end
  return fp8.tensor(values):view(sizes)
end

--- A generator of its own, the same everywhere: random(n) gives a whole number from 1 to n, random() one in [0, 1).
-- @param stream a whole number: generators of other numbers draw other ones
function support.random(stream)
  local state = ((seed - 1) * 69621 + stream) % 2147483646 + 1
  return function(n)
    state = state * 48271 % 2147483647
    local unit = (state - 1) / 2147483646
    return n and math.floor(unit * n) + 1 or unit
  end
end

--- The numbers from 1 to n in random order.
function support.permutation(random, n)
  local order = {}
  for i = 1, n do table.insert(order, random(i), i) end
  return order
end

--- The 8 bytes, little-endian, of a whole number from 0 up to below 2^64.
function support.u64(value)
  local bytes = {}
  for i = 1, 8 do
    bytes[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(bytes)
end

--- The bytes of a safetensors file with this header (JSON text) and these data.
function support.safetensors(header, data)
  return support.u64(#header) .. header .. (data or "")
end

function support.read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

function support.write_file(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Like pairs, in the order of the keys, which are all strings or all numbers: what tests are called and which numbers
-- they draw must not depend on how a table is stored.
function support.sorted_pairs(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  local i = 0
  return function()
    i = i + 1
    return keys[i], t[keys[i]]
  end
end

--- Calls f(path) with a file of these bytes, which is removed afterwards.
function support.with_file(text, f)
  local path = os.tmpname()
  support.write_file(path, text)
  local ok, message = pcall(f, path)
  os.remove(path)
  if not ok then error(message, 0) end
end

--- The path of an empty directory that is there between what busted calls by `begin` and `finish`: setup and teardown,
-- or before_each and after_each.
function support.temporary_directory(begin, finish)
  local path = os.tmpname()
  os.remove(path)
  begin(function() os.execute("mkdir " .. path) end)
  finish(function() os.execute("rm -r " .. path) end)
  return path
end

--- Runs `luajit ARGUMENTS` in a process with the same search paths. Returns whether it ended well, and all it printed.
-- @param environment assignments such as "NAME=value", for the process only
function support.run(arguments, environment)
  local output = os.tmpname()
  local status = os.execute(("LUA_PATH='%s' LUA_CPATH='%s' %s luajit %s >%s 2>&1"):format(package.path, package.cpath,
    environment or "", arguments, output))
  local text = support.read_file(output)
  os.remove(output)
  return status == 0 or status == true, text
end

--- `run` of Lua code.
function support.run_lua(code, environment)
  local script = os.tmpname()
  support.write_file(script, code)
  local ok, text = support.run(script, environment)
  os.remove(script)
  return ok, text
end

--- Whether a process can go on where its address space is limited: not with the address sanitizer, which ends it.
support.can_limit_memory = not (os.getenv "LD_PRELOAD" or ""):find("asan", 1, true)

--- Compiles a C file with the given flags; without the sanitizers' runtime, which would look for the compiler's leaks.
function support.compile(source, target, flags)
  local compiler = os.getenv "CC" or "cc"
  local output = os.tmpname()
  local command = "env -u LD_PRELOAD %s -std=gnu11 -Wall -Wextra -Werror -o '%s' '%s' %s >%s 2>&1"
  local status = os.execute(command:format(compiler, target, source, flags, output))
  local text = support.read_file(output)
  os.remove(output)
  assert(status == 0 or status == true, text)
end

--- Tensors of these shapes that require gradients, the same normal numbers in every call.
function support.random_parameters(shapes, dtype, device)
  fp8.manual_seed(1)
  local list = {}
  for i, shape in ipairs(shapes) do
    list[i] = fp8.randn(shape, {device = device}):to(dtype):requires_grad_()
  end
  return list
end

return support
