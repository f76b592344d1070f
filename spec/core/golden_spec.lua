-- Reference vectors computed by bitsandbytes and PyTorch: spec/fixtures holds a slice of them, FP8_GOLDEN names a
-- folder with all.
local fp8 = require "fp8"
local support = require "spec.support"

local map_makers = {
  e4m3 = function() return fp8.create_map(true, 4, 3, 8) end,
  e5m2 = function() return fp8.create_map(true, 5, 2, 8) end,
  dynamic = function() return fp8.create_dynamic_map() end,
}

--- The distinct prefixes of keys that end in ".x", with what the other endings hold.
local function cases(tensors)
  local found = {}
  for key in pairs(tensors) do
    local case = key:match "^(.*)%.x$"
    if case then table.insert(found, case) end
  end
  table.sort(found)
  return found
end

describe("golden maps", function()
  local maps = fp8.load(support.golden "maps.safetensors")

  local function create(name)
    local prefix, exponent_bits, precision_bits, total_bits = name:match "^(%l+)%.e(%d)%.p(%d)%.bits(%d)$"
    if prefix then
      return fp8.create_map(prefix == "signed", tonumber(exponent_bits), tonumber(precision_bits), tonumber(total_bits))
    end
    local kind, signedness = name:match "^(%l+)%.(%l+)"
    local make = kind == "dynamic" and fp8.create_dynamic_map or fp8.create_linear_map
    return make(signedness == "signed")
  end

  it("are equal to the last bit", function()
    local count = 0
    for name, expected in support.sorted_pairs(maps) do
      assert.same(expected:totable(), create(name):totable(), name)
      count = count + 1
    end
    assert.equal(66, count)
  end)

  -- bitsandbytes overflows here: the largest entry is 2^128 before all are divided by it.
  it("have a neighbour that divides numbers beyond float32", function()
    local map = fp8.create_map(false, 8, 0, 8):totable()
    for i = 0, 149 do assert.equal(2 ^ -i, map[256 - i]) end
    for i = 1, 106 do assert.equal(0, map[i]) end
  end)
end)

describe("golden quantization", function()
  local tensors = fp8.load(support.golden "quantize.safetensors")

  --- Codes agree except where the map holds the value twice or the block is all zeros.
  local function check_codes(expected, actual, map, absmax, blocksize, name)
    local values, scales = map:totable(), absmax:totable()
    local a, b = actual:totable(), expected:totable()
    for i = 1, #b do
      local scale = scales[math.floor((i - 1) / blocksize) + 1]
      if a[i] ~= b[i] and scale ~= 0 then
        assert.equal(values[b[i] + 1], values[a[i] + 1], ("%s, element %d"):format(name, i))
      end
    end
  end

  support.each_device(function(device)
    it("gives bitsandbytes' codes, absmax and values", function()
      local count = 0
      for _, case in ipairs(cases(tensors)) do
        local kind, map_name = case:match "^(%w+)%..*%.(%w+)$"
        local map = map_makers[map_name]()
        local x = tensors[case .. ".x"]
        local codes, state, values, blocksize
        if kind == "blockwise" then
          blocksize = tonumber(case:match "^blockwise%.(%d+)")
          codes, state = fp8.quantize_blockwise(x:to(device), map, blocksize)
          values = fp8.dequantize_blockwise(codes, state)
        else
          blocksize = x:numel()
          codes, state = fp8.quantize(x:to(device), map)
          values = fp8.dequantize(codes, state)
        end
        assert.same(support.flat(tensors[case .. ".absmax"]), support.flat(state.absmax), case)
        local expected = tensors[case .. ".codes"]
        check_codes(expected:view(-1), codes:to("cpu"):view(-1), map, state.absmax:to("cpu"), blocksize, case)
        assert.equal(tensors[case .. ".dequantized"].dtype, values.dtype)
        support.equal(values, tensors[case .. ".dequantized"])
        count = count + 1
      end
      assert.is_true(count >= 25)
    end)
  end)
end)

describe("golden layers", function()
  local tensors = fp8.load(support.golden "linear.safetensors")
  local layers = {LinearFP8Mixed = "LinearMixed", LinearFP8Global = "LinearGlobal"}

  support.each_device(function(device)
    for _, case in ipairs(cases(tensors)) do
      it(case, function()
        local function get(name)
          local tensor = tensors[case .. "." .. name]
          return tensor and tensor:to(device)
        end
        local x, weight, bias = get "x", get "weight", get "bias"
        local layer = fp8[layers[case:match "^%w+"]](weight:size(2), weight:size(1),
          {bias = bias ~= nil, dtype = x.dtype, device = device})
        layer:load_state_dict {weight = weight, bias = bias}
        x = x:detach():requires_grad_()
        local y = layer(x)
        y:backward(get "dy")
        local tolerance = support.tolerance[x.dtype]
        support.close(y, get "y", tolerance)
        support.close(x.grad, get "dx", tolerance)
        support.close(layer.weight.grad, get "dweight", tolerance)
        if bias then support.close(layer.bias.grad, get "dbias", tolerance) end
      end)
    end
  end)
end)

describe("golden casts", function()
  local tensors = fp8.load(support.golden "casts.safetensors")

  support.each_device(function(device)
    for _, source in ipairs {"bf16", "f16"} do
      for _, target in ipairs {"e4m3", "e5m2"} do
        it(source .. " to " .. target, function()
          local patterns = fp8.empty(65536, {dtype = source})
          local bits = patterns:data()
          for i = 0, 65535 do bits[i] = i end
          local cast = patterns:to(device):to {dtype = target, saturate = false}:to("cpu")
          local actual, expected = cast:data(), tensors[source .. "." .. target]:data()
          for i = 0, 65535 do
            if actual[i] ~= expected[i] then
              error(("pattern 0x%04x: expected 0x%02x, got 0x%02x"):format(i, expected[i], actual[i]))
            end
          end
        end)
      end
    end

    for _, format in ipairs {"e4m3", "e5m2"} do
      it("decodes " .. format, function()
        local codes = fp8.empty(256, {dtype = format})
        local bits = codes:data()
        for i = 0, 255 do bits[i] = i end
        support.equal(codes:to(device):to("f32"), tensors["decode." .. format])
      end)
    end
  end)
end)
