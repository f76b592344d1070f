--- Random numbers, names, sizes and lists of these, right and wrong.
local lists = require "spec.support.fuzz_arguments.lists"

jit.off(true, true) -- init.lua says why

local dtypes, shapes, whole = lists.dtypes, lists.shapes, lists.whole
local numbers, integers, strings = lists.numbers, lists.integers, lists.strings

--- Adds makers to those by kind.
-- @param source what init.lua makes them with
return function(makers, source)
  local random, device, pick, make, copied = source.random, source.device, source.pick, source.make, source.copied

  function makers.format_name() return pick {"e2m1", "int4", "e3m2", "nf4", "e4m3", "e9"} end
  function makers.transform_length() return pick {16, 32, 64, 128, 16, 3, 0} end

  function makers.signs()
    local signs = {}
    for i = 1, pick {16, 32, 3} do signs[i] = pick {1, -1} end
    return pick {signs, false} or nil
  end

  function makers.number() return pick(random(8) == 1 and integers or random(3) == 1 and numbers or whole) end
  function makers.small() return random(4) end
  function makers.dimension() return random(5) - 3 end
  function makers.boolean() return random(2) == 1 end
  function makers.dtype() return pick(dtypes) end
  function makers.device() return random(3) == 1 and pick(strings) or device end
  function makers.rounding() return pick {"nearest", "stochastic"} end
  function makers.blocksize() return pick {64, 128, 4096, 1, 7, 2 ^ 53, 0, -1} end
  function makers.side() return random(3) == 1 and pick(whole) or random(5) end
  function makers.blocks() return random(2) == 1 and make "blocksize" or {make "side", make "side"} end
  function makers.scale_rounding() return pick {"none", "power_of_two", "mx"} end
  function makers.activation() return pick {"relu", "gelu", "gelu_tanh", "silu", "exp"} end
  function makers.logits_or_none() return random(2) == 1 and make "logits" or nil end
  function makers.history_or_none() return random(2) == 1 and make "history" or nil end
  function makers.string() return pick(strings) end
  function makers.none() return nil end
  function makers.size() return random(4) == 1 and pick(whole) or random(4) end

  function makers.sizes()
    local list = copied(pick(shapes))
    if random(3) == 1 then list[random(math.min(#list + 1, 9))] = make "size" end
    return list
  end

  function makers.dimensions()
    if random(3) == 1 then return nil end
    return random(2) == 1 and make "dimension" or {make "dimension", make "dimension"}
  end

  function makers.list()
    local list, x = {}, make "tensor"
    for i = 1, random(3) do list[i] = random(3) == 1 and make "tensor" or x end
    return list
  end

  function makers.vectors() return {make "vector", make(pick {"vector", "vector", "any"})} end
  function makers.bins() return random(2) == 1 and make "vector" or make "size" end

  function makers.step()
    return {lr = 0.1, momentum = make "small" - 1, step = 1, nesterov = make "boolean",
      rounding = pick {"nearest", "stochastic"}}
  end

  --- Parameters with gradients and moments, now and then without some of these, with masters, or with codes and scales.
  function makers.update_list()
    local list = {}
    for i = 1, random(3) do
      for k = 1, 7 do list[7 * i - 7 + k] = k < 5 and make "parameter" end
      if random(3) == 1 then list[7 * i - 2] = make(pick {"parameter", "tensor", "any"}) or false end
      if random(2) == 1 then list[7 * i - 3] = false end
      if random(3) == 1 then
        for k = 3, 4 do
          list[7 * i - 7 + k] = list[7 * i - 7 + k] and make(pick {"codes", "codes", "codes8", "any"}) or false
          list[7 * i - 7 + k + 3] = list[7 * i - 7 + k] and make(pick {"one_scale", "one_scale", "scale"})
        end
      end
    end
    return list
  end

  --- What core.update and core.commit take.
  function makers.batch() return make "batches"[1] end

  function makers.batches()
    local batches = {}
    for i = 1, random(2) do
      batches[i] = {
        rule = make "rule", list = make "update_list", settings = make "step",
        live = random(3) == 1 and make "live" or nil,
      }
      if random(2) == 1 then batches[i].first_format = make "moment_format" end
      if random(2) == 1 then batches[i].second_format = make "moment_format" end
    end
    return batches
  end

  function makers.field_count() return random(8) == 1 and make "number" or random(4) - 1 end

  function makers.tensor_pairs()
    local pairs_list = {}
    for i = 1, 2 * random(3) do pairs_list[i] = random(30) == 1 and make "any" or make "parameter" end
    return pairs_list
  end

  function makers.nested() return pick {{1, 2}, {{1}, {2}}, {{}, {}}, {}, {{1, 2}, {3}}, {1, "2"}, {{{1}}}} end
  function makers.fan() return pick {"fan_in", "fan_out", make "any"} end
  function makers.nonlinearity() return pick {"relu", "leaky_relu", "tanh", "selu", "linear", make "any"} end
  function makers.fraction() return pick {0, 0.5, 0.9, random(), make "number"} end
  function makers.image_sizes() return {2, 3, 5, 6} end
  function makers.five_by_six() return random(8) == 1 and make "any" or {5, 6} end
  function makers.kernel_side() return random(8) == 1 and make "side" or {2, 2} end
  function makers.zero() return 0 end
  function makers.one() return 1 end
  function makers.two() return 2 end
  function makers.pad_mode() return pick {"constant", "reflect", "replicate", "circular", make "any"} end

  function makers.amounts()
    local list = {}
    for i = 1, 2 * random(2) do list[i] = random(8) == 1 and make "side" or random(4) - 2 end
    return list
  end

  function makers.three_by_four() return {3, 4} end

  function makers.equation()
    return pick {"ij,jk->ik", "ij,jk", "...i,i...->...", "ii,jj->", "ab,cd->abcd", "i.j", "ij,kl", make "string"}
  end

  function makers.key()
    return pick {
      make "string", make "number", random(3), {random(3)}, {{}, {1, random(4)}}, {{1, random(3), random(3)}, -1},
      make "mask", make "index", make "tensor", make "sizes",
    }
  end
end
