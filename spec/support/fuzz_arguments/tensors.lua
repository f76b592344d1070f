--- Random tensors of the shapes and dtypes that functions take, and what else is on a device.
local core = require "fp8.core"
local fp8 = require "fp8"
local lists = require "spec.support.fuzz_arguments.lists"

jit.off(true, true) -- init.lua says why

local shapes = lists.shapes

--- Adds makers to those by kind.
-- @param source what init.lua makes them with
return function(makers, source)
  local random, device, pick, make, copied = source.random, source.device, source.pick, source.make, source.copied

  function makers.matrix()
    return fp8.randn(random(4), 4, {device = device})
  end

  function makers.index()
    local last = random(10) == 1 and 9 or 2
    local shape = random(2) == 1 and {random(4)} or copied(pick(shapes))
    return fp8.randint(0, last, shape, {device = device, dtype = pick {"i64", "i32", "u8"}})
  end

  function makers.map()
    return pick {
      fp8.create_map(), fp8.create_map(true, 4, 3, 8), fp8.create_dynamic_map(), "e4m3", "e5m2", fp8.randn(256),
      fp8.zeros(256), "e2m1", "int8", "nf4",
    }
  end

  function makers.history() return fp8.rand(random(4), {device = device}) end
  function makers.vector() return fp8.randn(4, {device = device, requires_grad = random(2) == 1}) end
  function makers.square() return fp8.randn(4, 4, {device = device, requires_grad = random(2) == 1}) end
  function makers.row() return fp8.zeros(11, {dtype = "i64", device = device}) end
  function makers.live() return random(8) == 1 and make "tensor" or core.new_live_step(device) end
  function makers.one_scale() return fp8.rand(1, {device = device}) end

  function makers.moment_format()
    if random(8) == 1 then return make(pick {"any", "planned_operand"}) end
    return core.quantizer {format = pick {"e4m3", "e5m2", fp8.create_dynamic_map()}, blocksize = pick {64, 256, 3}}
  end

  function makers.event() return random(8) == 1 and make "any" or fp8.event(device):record() end

  function makers.quantized_state()
    local _, state = fp8.quantize_blockwise(fp8.randn(3, 4, {device = device}), fp8.create_map(), 64)
    if random(2) == 1 then state[pick {"absmax", "map", "blocksize", "dtype"}] = make "any" end
    return state
  end

  --- Operands of scaled_matmul and of the optimizer steps.
  function makers.codes_sum() return fp8.zeros(random(3), random(3), {device = device}) end
  function makers.codes8() return fp8.randn(random(3), 4, {device = device}):to(pick {"e4m3", "e5m2"}) end
  function makers.scale() return fp8.rand(random(2), {device = device}) end
  function makers.parameter() return fp8.rand(3, 4, {device = device}) end
  function makers.logits() return fp8.randn(3, 4, {device = device}) end

  function makers.targets()
    return random(4) == 1 and make(pick {"index", "logits"}) or fp8.randint(0, 4, {3}, {device = device})
  end

  function makers.losses() return fp8.rand(3, {device = device}) end
  function makers.statistics() return fp8.rand(3, 2, {device = device}) end
  function makers.features() return random(3) == 1 and make "none" or fp8.rand(4, {device = device}) end
  function makers.across() return fp8.randn(2, 4, 5, {device = device, requires_grad = random(2) == 1}) end
  function makers.heads() return fp8.randn(2, 3, 4, {device = device, requires_grad = random(2) == 1}) end
  function makers.fused_heads() return fp8.randn(2, pick {1, 2}, 3, 32, {device = device}) end
  function makers.turned_heads() return fp8.randn(2, 4, 3, {device = device}) end
  function makers.packed() return fp8.randn(2, 3, 12, {device = device, requires_grad = random(2) == 1}) end

  function makers.score_mask()
    local shape = pick {{3}, {3, 3}, {1, 3}, {2, 1, 3}, {2, 1, 3, 3}, copied(pick(shapes))}
    local options = {device = device, requires_grad = random(2) == 1}
    return random(2) == 1 and fp8.randint(0, 2, shape, {dtype = "u8", device = device}) or fp8.randn(shape, options)
  end

  function makers.gates() return fp8.randn(2, pick {12, 12, 16, 16, 9}, {device = device}) end
  function makers.hidden_state() return random(6) == 1 and make "any" or fp8.randn(2, 4, {device = device}) end

  --- Images, patches and what goes with them.
  function makers.images4() return fp8.randn(2, 3, 5, 6, {device = device, requires_grad = random(2) == 1}) end
  function makers.images() return random(2) == 1 and make "images4" or fp8.randn(3, 5, 6, {device = device}) end
  function makers.signals() return fp8.randn(2, 3, 5, {device = device, requires_grad = random(2) == 1}) end
  function makers.kernel() return fp8.randn(4, 3, 2, 2, {device = device, requires_grad = random(2) == 1}) end
  function makers.signal_kernel() return fp8.randn(4, 3, 2, {device = device, requires_grad = random(2) == 1}) end
  function makers.columns() return fp8.randn(2, 12, 20, {device = device}) end
  function makers.convolved() return fp8.randn(2, 4, 4, 5, {device = device}) end
  function makers.pooled() return fp8.randn(2, 3, 2, 3, {device = device}) end

  function makers.pooled_positions()
    local last = random(8) == 1 and 99 or 30
    return random(4) > 1 and fp8.randint(0, last, {2, 3, 2, 3}, {device = device, dtype = "i64"}) or nil
  end

  function makers.positions() return random(4) == 1 and make "index" or fp8.randint(0, 3, {3, 4}, {device = device}) end
  function makers.mask() return fp8.randint(0, 2, {3, 4}, {dtype = "u8", device = device}) end

  function makers.index_list()
    local list = {}
    for i = 1, random(2) do list[i] = random(4) == 1 and make "index" or fp8.randint(0, 3, {2}, {device = device}) end
    return list
  end

  function makers.codes() return fp8.randint(0, 256, {3, 4}, {dtype = "u8", device = device}) end
end
