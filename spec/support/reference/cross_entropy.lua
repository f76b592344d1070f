--- Cross-entropy and its gradient in plain Lua, in double, written after the documentation of PyTorch's cross_entropy.

-- log softmax(x)
local function log_softmax(x)
  local largest, sum, y = -math.huge, 0, {}
  for _, value in ipairs(x) do largest = math.max(largest, value) end
  for _, value in ipairs(x) do sum = sum + math.exp(value - largest) end
  for i, value in ipairs(x) do y[i] = value - largest - math.log(sum) end
  return y
end

--- @param logits list of rows
-- @param labels  from 0
-- @param rule    {ignored =, smoothing =, weight = list, reduction = "mean", "sum" or "none"}
-- @param dloss   gradient of the loss, a number or a list; 1 if left out
-- @return the loss, a number or a list, and the gradient of the logits
return function(logits, labels, rule, dloss)
  local smoothing, reduction, total = rule.smoothing or 0, rule.reduction or "mean", 0
  local losses, grads = {}, {}
  for r, row in ipairs(logits) do
    local counts, classes = labels[r] ~= rule.ignored, #row
    local logs, target, sum = log_softmax(row), {}, 0
    losses[r], grads[r] = 0, {}
    for c = 1, classes do
      local weight = rule.weight and rule.weight[c] or 1
      target[c] = counts and weight * ((c - 1 == labels[r] and 1 - smoothing or 0) + smoothing / classes) or 0
      sum = sum + target[c]
      if target[c] ~= 0 then losses[r] = losses[r] - target[c] * logs[c] end
    end
    for c = 1, classes do grads[r][c] = counts and math.exp(logs[c]) * sum - target[c] or 0 end
    if counts then total = total + (rule.weight and rule.weight[labels[r] + 1] or 1) end
  end
  local loss = 0
  for r, row in ipairs(grads) do
    local upstream = type(dloss) == "table" and dloss[r] or dloss or 1
    if reduction == "mean" then upstream = upstream / total end
    for c = 1, #row do row[c] = row[c] * upstream end
    loss = loss + losses[r]
  end
  if reduction == "none" then return losses, grads end
  return reduction == "mean" and loss / total or loss, grads
end
