--- Fashion-MNIST (Xiao et al., 2017): 60,000 training and 10,000 test images of clothes, 28 x 28, in ten classes.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local read_idx = require "fp8.data.idx"
local is_file = require("fp8.files.paths").is_file
local shapes = require "fp8.shapes"

local raise = core.raise

local package_directory = "/usr/share/datasets/fashion-mnist"
local prefixes = {train = "train", test = "t10k"}

-- The path of a file of the data set, compressed or not, or nil.
local function find_file(directory, name)
  for _, ending in ipairs {".gz", ""} do
    local path = directory .. "/" .. name .. ending
    if is_file(path) ~= nil then return path end
  end
end

local function read(directory, name, options)
  local path = find_file(directory, name)
  if not path then
    raise(("fashion_mnist: there is no %s in %s; install Debian's package dataset-fashion-mnist, or set " ..
      "FASHION_MNIST to the directory that holds the data"):format(name, directory))
  end
  return read_idx(path, options), path
end

--- Images and labels of one half of the data.
-- @param split   "train" (the default) or "test"
-- @param options {device = where they go, the CPU if left out}
-- @return u8 (n, 784), grey values from 0 to 255; u8 (n), classes from 0 to 9. They are read from the directory that
--   the environment variable FASHION_MNIST names, or else where the Debian package puts them.
--   fp8.data.fashion_mnist("test").shape --> {10000, 784}
return function(split, options)
  local prefix = prefixes[split or "train"]
  if not prefix then raise(('fashion_mnist: split must be "train" or "test", got %s'):format(tostring(split))) end
  options = check_options("fashion_mnist", options, {device = "device"})
  local directory = os.getenv("FASHION_MNIST") or package_directory
  local images, path = read(directory, prefix .. "-images-idx3-ubyte", options)
  local labels = read(directory, prefix .. "-labels-idx1-ubyte", options)
  local shape, label_shape = core.shape(images), core.shape(labels)
  if #shape ~= 3 or #label_shape ~= 1 or shape[1] ~= label_shape[1] or core.dtype(images) ~= "u8" then
    raise(("fashion_mnist: %s: u8 images (n, rows, columns) and n labels are needed, got shapes %s and %s"):format(path,
      shapes.text(shape), shapes.text(label_shape)))
  end
  return core.view(images, {shape[1], shape[2] * shape[3]}), labels
end
