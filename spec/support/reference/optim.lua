--- The formulas of optimizers in double, by the optimizer's name: one step of a list of parameters p with gradients g.
-- `state` starts as {}, s has the settings, and round rounds to the parameters' dtype.
local optim = {}

function optim.SGD(p, g, state, s, round)
  local first = not state.buffer
  state.buffer = state.buffer or {}
  for i = 1, #p do
    local d = g[i] + (s.weight_decay or 0) * p[i]
    if (s.momentum or 0) ~= 0 then
      state.buffer[i] = first and d or s.momentum * state.buffer[i] + (1 - (s.dampening or 0)) * d
      d = s.nesterov and d + s.momentum * state.buffer[i] or state.buffer[i]
    end
    p[i] = round(p[i] - s.lr * d)
  end
end

function optim.Adam(p, g, state, s, round)
  local decayed = {}
  for i = 1, #p do decayed[i] = g[i] + (s.weight_decay or 0) * p[i] end
  local settings = setmetatable({weight_decay = 0}, {__index = s})
  optim.AdamW(p, decayed, state, settings, round)
end

--- Algorithm 2 of Chen et al. (2023).
function optim.Lion(p, g, state, s, round)
  state.m = state.m or {}
  local beta1, beta2 = s.beta1 or 0.9, s.beta2 or 0.99
  for i = 1, #p do
    local m = state.m[i] or 0
    local c = beta1 * m + (1 - beta1) * g[i]
    local sign = c > 0 and 1 or c < 0 and -1 or 0
    p[i] = round(p[i] - s.lr * (sign + (s.weight_decay or 0) * p[i]))
    state.m[i] = beta2 * m + (1 - beta2) * g[i]
  end
end

function optim.AdamW(p, g, state, s, round)
  state.t = (state.t or 0) + 1
  state.m, state.v = state.m or {}, state.v or {}
  local beta1, beta2 = s.beta1 or 0.9, s.beta2 or 0.999
  for i = 1, #p do
    local decayed = p[i] * (1 - s.lr * (s.weight_decay or 0.01))
    state.m[i] = beta1 * (state.m[i] or 0) + (1 - beta1) * g[i]
    state.v[i] = beta2 * (state.v[i] or 0) + (1 - beta2) * g[i] ^ 2
    local m, v = state.m[i] / (1 - beta1 ^ state.t), state.v[i] / (1 - beta2 ^ state.t)
    p[i] = round(decayed - s.lr * m / (math.sqrt(v) + (s.epsilon or 1e-8)))
  end
end

--- Algorithm 2 of Wortsman et al. (2023); the paper's v is the first moment here, and its u the second.
function optim.StableAdamW(p, g, state, s, round)
  local t, n = (state.t or 0) + 1, #p
  state.t, state.m, state.v = t, state.m or {}, state.v or {}
  local beta1, beta2, epsilon = s.beta1 or 0.9, s.beta2 or 0.99, s.epsilon or 1e-8
  local hat1 = beta1 * (1 - beta1 ^ (t - 1)) / (1 - beta1 ^ t)
  local hat2 = beta2 * (1 - beta2 ^ (t - 1)) / (1 - beta2 ^ t)
  local sum = 0
  for i = 1, n do
    state.m[i] = hat1 * (state.m[i] or 0) + (1 - hat1) * g[i]
    state.v[i] = hat2 * (state.v[i] or 0) + (1 - hat2) * g[i] ^ 2
    sum = sum + g[i] ^ 2 / math.max(state.v[i], epsilon ^ 2)
  end
  local rate = s.lr / math.max(1, math.sqrt(sum / n))
  for i = 1, n do
    local decay = rate * (s.weight_decay or 0.01) * p[i]
    p[i] = round(p[i] - decay - rate * state.m[i] / (math.sqrt(state.v[i]) + epsilon))
  end
end

return optim
