-- state_dict and load_state_dict of optimizers, through files and with anything wrong.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

local shapes = {{3, 4}, {5}, {}, {2, 0}}

support.each_device(function(device)
  describe("The state of an optimizer", function()
    local function parameters(dtype) return support.random_parameters(shapes, dtype, device) end

    --- Gradients of step number `step`; the second parameter has none in the first steps.
    local function set_gradients(list, step)
      fp8.manual_seed(100 + step)
      for i, parameter in ipairs(list) do
        local grad = fp8.randn(parameter.shape, {device = device}):to(parameter.dtype)
        parameter.grad = (i ~= 2 or step > 2) and grad or nil
      end
    end

    it("is kept for hundreds of groups with settings of their own", function()
      local list, many = {}, {}
      for i = 1, 300 do
        list[i] = fp8.zeros(2, {device = device}):requires_grad_()
        many[i] = {parameters = {list[i]}, lr = i / 7, weight_decay = i / 11}
      end
      local optimizer = fp8.optim.AdamW(many)
      local dict = optimizer:state_dict()
      for _, group in ipairs(many) do group.lr = 1 end
      local other = fp8.optim.AdamW(many)
      other:load_state_dict(dict)
      assert.equal(300 / 7, other.groups[300].lr)
    end)

    local function groups(list, lr)
      return {{parameters = {list[1], list[2]}}, {parameters = {list[3], list[4]}, lr = lr, weight_decay = 0}}
    end

    local kinds = {
      {"SGD", {lr = 0.1, momentum = 0.9}}, {"SGD", {lr = 0.1}}, {"AdamW", {lr = 0.1, beta2 = 0.95}},
      {"StableAdamW", {lr = 1 / 3}}, {"Adam", {lr = 0.1, weight_decay = 0.1}}, {"Lion", {lr = 0.1}},
    }
    for i, kind in ipairs(kinds) do
      for _, dtype in ipairs {"f32", "bf16"} do
        it(("goes through a file with the model's: %s %d in %s"):format(kind[1], i, dtype), function()
          local name, settings = unpack(kind)
          settings.master_weights = true
          local list = parameters(dtype)
          local optimizer = fp8.optim[name](groups(list, 0.03), settings)
          for step = 1, 4 do
            set_gradients(list, step)
            optimizer:step()
          end
          local tensors = {}
          for k, parameter in ipairs(list) do tensors["model." .. k] = parameter:detach() end
          for key, tensor in pairs(optimizer:state_dict()) do tensors["optimizer." .. key] = tensor end
          local path = os.tmpname()
          fp8.save(path, tensors)
          local loaded = fp8.load(path)
          os.remove(path)

          local other, state = parameters(dtype), {}
          local wrong = {lr = 77, momentum = settings.momentum, master_weights = true}
          local resumed = fp8.optim[name](groups(other, 7), wrong)
          resumed.groups[1].lr = 55
          for key, tensor in pairs(loaded) do state[key:match "^optimizer%.(.+)$" or key] = tensor end
          for k, parameter in ipairs(other) do
            fp8.no_grad(function() parameter:copy_(loaded["model." .. k]) end)
            state["model." .. k] = nil
          end
          resumed:load_state_dict(state)
          assert.equal(settings.lr, resumed.lr)
          assert.equal(0.03, resumed.groups[2].lr)
          assert.is_nil(resumed.groups[1].lr)
          for step = 5, 8 do
            set_gradients(list, step)
            optimizer:step()
            set_gradients(other, step)
            resumed:step()
          end
          for k = 1, #list do
            support.equal(other[k]:detach(), list[k]:detach())
            assert.equal(optimizer.state[k].steps, resumed.state[k].steps)
          end
        end)
      end
    end

    it("that does not fit is refused, and changes nothing", function()
      local list = parameters "bf16"
      local settings = {lr = 0.5, master_weights = true}
      local optimizer = fp8.optim.AdamW(groups(list, 0.25), settings)
      set_gradients(list, 3)
      optimizer:step()
      local function state() return fp8.optim.AdamW(groups(parameters "bf16", 0.125), settings):state_dict() end
      local function text(letters) return fp8.tensor({letters:byte(1, -1)}, {dtype = "u8"}) end
      local line = "optimizer=AdamW beta1=0.9 beta2=0.999 epsilon=1e-8 lr=0.5 master_weights=true weight_decay=0\n"
      local cases = {
        {nil, nil, "a table is needed, got nil"}, {"steps", nil, "steps must be a tensor, got nil"},
        {"steps", fp8.zeros(4), "steps must be i64, got f32"},
        {"steps", fp8.zeros(3, {dtype = "i64"}), "steps has shape (4) in the optimizer, (3) in the table"},
        {"steps", fp8.full({4}, -1, {dtype = "i64"}), "parameter 1 has -1 steps"},
        {"steps", fp8.full({4}, 2 ^ 60, {dtype = "i64"}), "parameter 1 has 1152921504606846976LL steps"},
        {"2.first_moment", nil, "2.first_moment must be a tensor, got nil"},
        {"2.first_moment", fp8.zeros(6), "2.first_moment has shape (5) in the optimizer, (6) in the table"},
        {"4.master", fp8.zeros(2, 0, {dtype = "bf16"}), "4.master must be f32, got bf16"},
        {"1.other", fp8.zeros(1), "the optimizer keeps no tensor 1.other"},
        {"settings", 3, "settings must be a tensor, got number"},
        {"settings", text("lr"), "settings of 0 groups, the optimizer has 2"},
        {"settings", text(line .. "\n"), "settings of 1 groups, the optimizer has 2"},
        {"settings", text(line .. "lr\n\n"), "settings are not what state_dict writes"},
        {"settings", text(line .. "lr=x\n\n"), "option lr must be"},
        {"settings", text(line .. "rate=1\n\n"), "unknown option rate"},
        {"settings", text(line .. "lr=-1\n\n"), "option lr must be"},
        {"settings", text(line .. "lr=nan\n\n"), "option lr must be"},
        {"settings", text("optimizer=AdamW lr=1\n\n\n"), "the settings lack"},
        {"settings", text("lr=1\n\n\n"), "the state is that of an unknown optimizer, not of AdamW"},
        {"settings", fp8.optim.StableAdamW(groups(parameters "bf16", 0.125), settings):state_dict().settings,
          "the state is that of StableAdamW, not of AdamW"},
        {"settings", fp8.zeros(2, 2, {dtype = "u8"}), "settings are not what state_dict writes"},
      }
      local before = optimizer:state_dict()
      for key, tensor in pairs(before) do before[key] = tensor:clone() end
      for _, case in ipairs(cases) do
        local dict = state()
        if case[1] then dict[case[1]] = case[2] else dict = nil end
        fails("load_state_dict: " .. case[3], optimizer.load_state_dict, optimizer, dict)
      end
      local plain = fp8.optim.AdamW(groups(parameters "bf16", 1))
      fails("load_state_dict: 1.master must be", optimizer.load_state_dict, optimizer, plain:state_dict())
      fails("load_state_dict: the optimizer keeps no tensor", plain.load_state_dict, plain, optimizer:state_dict())
      local after = optimizer:state_dict()
      for key, tensor in pairs(before) do support.equal(after[key], tensor) end
      assert.equal(0.25, optimizer.groups[2].lr)
    end)
  end)
end)
