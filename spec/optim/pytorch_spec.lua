-- Optimizers, clipping and schedules against PyTorch (spec/fixtures/optim.py made the numbers).
local cjson = require "cjson"
local fp8 = require "fp8"
local support = require "spec.support"

local steps, matrices = 10, 5
local tensors, cases = fp8.load(support.fixture "optim.safetensors")

--- A list of fresh parameters with the start values; a case has four, and of Muon one more.
local function parameters(device, dtype, count)
  local list = {}
  for i = 1, count do list[i] = tensors["start." .. i]:to {device = device, dtype = dtype}:clone():requires_grad_() end
  return list
end

local function optimizer_of(case, list)
  local source = list
  if case.groups then
    source = {}
    for i, group in ipairs(case.groups) do
      source[i] = {lr = group.lr, weight_decay = group.weight_decay, use_muon = group.use_muon, parameters = {}}
      for k, position in ipairs(group.parameters) do source[i].parameters[k] = list[position] end
    end
  end
  case.settings.master_weights = case.rounded
  return fp8.optim[case.optimizer](source, case.settings)
end

support.each_device(function(device)
  describe("Ten steps agree with PyTorch:", function()
    for name, text in support.sorted_pairs(cases) do
      it(name, function()
        local case = cjson.decode(text)
        local dtype = case.rounded and "bf16" or "f32"
        local list = parameters(device, dtype, case.optimizer == "Muon" and matrices or 4)
        local optimizer = optimizer_of(case, list)
        local schedule = case.schedule
        local rate = schedule and fp8.optim[schedule.kind .. "_schedule"] {
          lr = schedule.lr, warmup = schedule.warmup, steps = schedule.steps, final = schedule.final,
        }
        local norms = {}
        for step = 1, steps do
          optimizer:zero_grad()
          for i, parameter in ipairs(list) do
            if not case.missing or case.missing[1] ~= i or case.missing[2] ~= step then
              parameter.grad = tensors[("grad.%d.%d"):format(step, i)]:to {device = device, dtype = dtype}:clone()
            end
          end
          if case.clip then norms[step] = fp8.optim.clip_grad_norm(list, case.clip):item() end
          if rate then optimizer.lr = rate(step) end
          optimizer:step()
        end
        for i, parameter in ipairs(list) do
          local expected = tensors[("%s.%d"):format(name, i)]
          support.close(case.rounded and optimizer.state[i].master or parameter:detach(), expected,
            case.tolerance or 1e-6)
          if case.rounded then support.equal(parameter:detach(), optimizer.state[i].master:to "bf16") end
        end
        if case.clip then support.close(fp8.tensor(norms), tensors[name .. ".norms"], 1e-6) end
      end)
    end
  end)
end)
