--- The known name that a misspelt one is nearest to, for errors.
local nearest = {}

local longest = 40 -- names beyond that are no slips of the finger

-- Changes of one letter, and swaps of two neighbours, that turn a into b (optimal string alignment: Boytsov, "Indexing
-- methods for approximate dictionary searching", 2011, section 2.1).
local function distance(a, b)
  local before, last = nil, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = {[0] = i}
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, last = last, row
  end
  return last[#b]
end

-- Of equally near names, that of the same length, and then the first in the alphabet.
local function is_nearer(name, difference, other, best, best_difference)
  if not best then return true end
  if difference ~= best_difference then return difference < best_difference end
  local length, best_length = math.abs(#name - #other), math.abs(#name - #best)
  if length ~= best_length then return length < best_length end
  return other < best
end

--- The key of one of the tables that is nearest to `name`, not counting upper and lower case: at most `limit` changes
-- of a letter away, a third of the letters but at least one if left out. nil if there is none, or if `name` is no
-- string.
--   require("fp8.nearest").name("sofmax", nil, {softmax = true, sum = true}) --> "softmax"
function nearest.name(name, limit, ...)
  if type(name) ~= "string" or #name > longest then return nil end
  limit = limit or math.max(1, math.floor(#name / 3))
  local best, best_difference
  for _, known in ipairs {...} do
    for other in next, known do
      if type(other) == "string" and math.abs(#name - #other) <= limit then
        local difference = distance(name:lower(), other:lower())
        if difference <= limit and is_nearer(name, difference, other, best, best_difference) then
          best, best_difference = other, difference
        end
      end
    end
  end
  return best
end

-- What names of PyTorch's and Torch7's are here, and what a table has in which they are looked for.
local translations = {
  betas = {"beta1 and beta2", "beta1"}, eps = {"epsilon", "epsilon"},
  tolist = {"totable", "totable"}, numpy = {"totable, or data for a pointer", "totable"},
  nelement = {"numel", "numel"}, nElement = {"numel", "numel"}, mm = {"matmul", "matmul"}, clip = {"clamp", "clamp"},
  cmul = {"mul", "mul"}, cdiv = {"div", "div"}, resize = {"view or reshape", "view"},
  double = {"float (there is no f64)", "float"}, long = {'to "i64"', "to"}, int = {'to "i32"', "to"},
  byte = {'to "u8"', "to"}, bool = {'to "u8"', "to"}, type = {"dtype", "dtype"},
  functional = {"fp8 itself, fp8.relu", "Linear"}, Parameter = {"fp8.tensor(…, {requires_grad = true})", "Linear"},
  CrossEntropyLoss = {"fp8.cross_entropy", "Linear"}, MSELoss = {"fp8.mse_loss", "Linear"},
  L1Loss = {"fp8.l1_loss", "Linear"}, SmoothL1Loss = {"fp8.smooth_l1_loss", "Linear"},
  HuberLoss = {"fp8.huber_loss", "Linear"}, NLLLoss = {"fp8.nll_loss", "Linear"}, KLDivLoss = {"fp8.kl_div", "Linear"},
  ClassNLLCriterion = {"fp8.nll_loss", "Linear"}, CrossEntropyCriterion = {"fp8.cross_entropy", "Linear"},
  MSECriterion = {"fp8.mse_loss", "Linear"}, SpatialConvolution = {"Conv2d", "Linear"},
  getParameters = {"parameters", "zero_grad"}, zeroGradParameters = {"zero_grad", "zero_grad"},
  evaluate = {"eval", "zero_grad"}, sgd = {"SGD", "SGD"}, adam = {"Adam", "Adam"},
  BCEWithLogitsLoss = {"fp8.binary_cross_entropy_with_logits", "Linear"},
  float32 = {'"f32"', "tensor"}, float16 = {'"f16"', "tensor"}, bfloat16 = {'"bf16"', "tensor"},
  float8_e4m3fn = {'"e4m3"', "tensor"}, float8_e5m2 = {'"e5m2"', "tensor"}, uint8 = {'"u8"', "tensor"},
  int32 = {'"i32"', "tensor"}, int64 = {'"i64"', "tensor"},
}

--- What is called `name` in PyTorch or Torch7 is called here, if one of the tables is of its kind.
function nearest.translated(name, ...)
  local translation = translations[name]
  if not translation then return nil end
  for _, known in ipairs {...} do
    if rawget(known, translation[2]) ~= nil then return translation[1] end
  end
end

--- What an error about an unknown name ends in: "; did you mean softmax?", or nothing.
function nearest.hint(name, ...)
  local translated = nearest.translated(name, ...)
  if translated then return ("; it is called %s here"):format(translated) end
  local found = nearest.name(name, nil, ...)
  return found and ("; did you mean %s?"):format(found) or ""
end

return nearest
