--- Patches of images, and what is computed with windows that move over them: convolutions, pooling and padding.
local convolution = require "fp8.ops.patches.convolution"
local pad = require "fp8.ops.patches.pad"
local pool = require "fp8.ops.patches.pool"
local unfold = require "fp8.ops.patches.unfold"

local patches = {
  unfold = unfold.unfold, fold = unfold.fold, pad = pad.pad, conv1d = convolution.conv1d, conv2d = convolution.conv2d,
}
for name, operation in next, pool do patches[name] = operation end

return patches
