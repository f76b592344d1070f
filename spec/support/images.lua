--- Images for the examples.
local busted = require "busted"
local support = require "spec.support"

--- idx files of images whose class is the place of a bright bar in them.
local function write_images(directory, prefix, count)
  local random = support.random(count)
  local images, labels = {}, {}
  for i = 1, count do
    local class = (i - 1) % 10
    local pixels = {}
    for p = 0, 783 do
      local bright = math.floor(p / 78) == class
      pixels[p + 1] = string.char((bright and 200 or 0) + random(50))
    end
    images[i], labels[i] = table.concat(pixels), string.char(class)
  end
  local size = string.char(0, 0, math.floor(count / 256), count % 256)
  support.write_file(directory .. "/" .. prefix .. "-images-idx3-ubyte",
    "\0\0\8\3" .. size .. "\0\0\0\28\0\0\0\28" .. table.concat(images))
  support.write_file(directory .. "/" .. prefix .. "-labels-idx1-ubyte", "\0\0\8\1" .. size .. table.concat(labels))
end

--- A directory of such images while the tests of a block run. Returns its path.
return function()
  local directory = support.temporary_directory(busted.setup, busted.teardown)
  busted.setup(function()
    write_images(directory, "train", 600)
    write_images(directory, "t10k", 200)
  end)
  return directory
end
