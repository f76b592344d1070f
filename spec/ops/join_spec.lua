-- Joining tensors along a dimension.
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local options = {device = device}
  local function on(dtype) return {dtype = dtype, device = device} end
  local function positions(values, dtype) return fp8.tensor(values, {dtype = dtype or "i64", device = device}) end

  describe("cat and stack", function()
    it("join along any dimension, from any strides", function()
      local a = fp8.arange(6, options):view(2, 3)
      local b = fp8.arange(9, options):view(3, 3):t():narrow(1, 1, 2)
      assert.same({{0, 1, 2, 0, 3, 6}, {3, 4, 5, 1, 4, 7}}, fp8.cat({a, b}, 2):totable())
      assert.same({{0, 1, 2}, {3, 4, 5}, {0, 3, 6}, {1, 4, 7}}, fp8.cat({a, b}, 1):totable())
      assert.same({{{0, 1, 2}, {3, 4, 5}}, {{0, 3, 6}, {1, 4, 7}}}, fp8.stack({a, b}, 1):totable())
      assert.same({{{0, 0}, {1, 3}, {2, 6}}, {{3, 1}, {4, 4}, {5, 7}}}, fp8.stack({a, b}, -1):totable())
    end)

    it("join any number of parts of any size, alignment and dtype", function()
      fp8.manual_seed(1)
      for i, dtype in ipairs {"f32", "bf16", "u8", "i64", "e4m3"} do
        for _, count in ipairs {1, 2, 29, 64} do
          for dimension = 1, 3 do
            local list, starts, total = {}, {}, 0
            for k = 1, count do
              local size = {2, 3, 8}
              size[dimension] = (k * 5 + i) % 17
              local part = fp8.randint(0, 100, size, on "f32"):to(dtype)
              -- All of one of four memory orders: its own, off its alignment, turned, and with gaps.
              if k % 4 == 1 then
                local room = fp8.zeros(part:numel() + 1, on(dtype))
                part = room:narrow(1, 2, part:numel()):copy_(part:view(-1)):view(size)
              elseif k % 4 == 2 then
                part = part:transpose(1, 3):contiguous():transpose(1, 3)
              elseif k % 4 == 3 then
                part = fp8.cat({part, part}, 2):narrow(2, 1, size[2])
              end
              list[k], starts[k], total = part, total, total + size[dimension]
            end
            local whole = fp8.cat(list, dimension)
            assert.equal(total, whole:size(dimension))
            for k, part in ipairs(list) do
              if part:size(dimension) > 0 then
                support.same_bytes(whole:narrow(dimension, starts[k] + 1, part:size(dimension)), part)
              end
            end
          end
        end
      end
    end)

    it("stack views of many dimensions", function()
      local x = fp8.arange(2 ^ 7, options):view(2, 2, 2, 2, 2, 2, 2)
      local turned = x:permute(7, 2, 5, 4, 3, 6, 1)
      for dimension = 1, 8 do
        local whole = fp8.stack({x, turned, x:flip(1)}, dimension)
        support.equal(whole:select(dimension, 1), x)
        support.equal(whole:select(dimension, 2), turned)
        support.equal(whole:select(dimension, 3), x:flip(1))
      end
    end)

    it("name what does not fit", function()
      support.fails("(2, 3)", function() fp8.cat({fp8.zeros(2, 3, options), fp8.zeros(3, 2, options)}, 1) end)
      support.fails("dtypes f32 and i64", function() fp8.cat({fp8.zeros(2, options), positions {1}}, 1) end)
      support.fails("empty", function() fp8.cat({}, 1) end)
    end)
  end)
end)
