-- The convolutional network of examples/tasks, in a tiny size.
local support = require "spec.support"
local with_images = require "spec.support.images"

support.each_device(function(device)
  describe("examples/tasks/cnn.lua", function()
    local directory = with_images()

    for _, options in ipairs {"", "--recipe mixed", "--recipe rowwise"} do
      it("learns the place of a bar " .. options, function()
        local ok, output = support.run(("%s --device %s --width 4 --batch 50 --epochs 3 %s"):format(
          support.path "examples/tasks/cnn.lua", device, options), "FASHION_MNIST=" .. directory)
        assert.is_true(ok, output)
        assert.is_true(tonumber(output:match "epoch 3: test accuracy ([%d.]+)%%") > 90, output)
      end)
    end
  end)
end)
