--- Attention of one head in double.
local reference = require "spec.support.reference"
local softmax = require "spec.support.reference.softmax"

local matmul = reference.matmul

--- y, dq, dk and dv from row-major lists: q and dy of `queries` rows, k and v of `keys`, all of `features` columns.
return function(q, k, v, dy, queries, keys, features, causal)
  local scale = 1 / math.sqrt(features)
  local scores, p, ds = matmul(q, k, queries, features, keys, false, true), {}, {}
  local dp = matmul(dy, v, queries, features, keys, false, true)
  for i = 1, queries do
    local first, last = (i - 1) * keys + 1, i * keys
    local row = softmax.forward({unpack(scores, first, last)}, scale, causal and keys - queries + i or nil)
    local slopes = softmax.backward(row, {unpack(dp, first, last)}, scale)
    for j = 1, keys do p[first + j - 1], ds[first + j - 1] = row[j], slopes[j] end
  end
  return matmul(p, v, queries, keys, features), matmul(ds, k, queries, keys, features),
    matmul(ds, q, keys, queries, features, true), matmul(p, dy, keys, queries, features, true)
end
