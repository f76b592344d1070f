--- The doc comments of public functions that are written in C (src/lua), where fp8.help finds them. No code.

--- fp8.tensor(numbers [, {dtype =, device =, requires_grad =}]): a tensor of a number, or of nested tables of numbers,
-- all of one length in one dimension. Without a dtype it is f32, or what fp8.set_default_dtype says; on the CPU, or
-- where fp8.set_default_device says. The options may be in the table of numbers, too. int64_t numbers keep all bits.
--   fp8.tensor {1, 2, 3} --> {1, 2, 3}
--   fp8.tensor({{1, 2}, {3, 4}}, {dtype = "bf16"}).shape --> {2, 2}
--   fp8.tensor(7).shape --> {}
-- @param options
--   dtype          f32 f16 bf16 e4m3 e5m2 u8 i32 i64
--   device         "cpu", "cuda", "cuda:1"
--   requires_grad  whether operations on it are recorded, for backward

--- fp8.zeros(sizes… [, {dtype =, device =, requires_grad =}]): zeros; the sizes may be a list.
--   fp8.zeros(2, 2) --> {{0, 0}, {0, 0}}
--   fp8.zeros({3}, {dtype = "i64"}).dtype --> "i64"

--- fp8.ones(sizes… [, {dtype =, device =, requires_grad =}]): ones; the sizes may be a list.
--   fp8.ones(3) --> {1, 1, 1}

--- fp8.full(list of sizes, value [, {dtype =, device =, requires_grad =}]): the same number everywhere.
--   fp8.full({2}, 0.5) --> {0.5, 0.5}

--- fp8.empty(sizes… [, {dtype =, device =, requires_grad =}]): memory that is not initialised.
--   fp8.empty(2, 3).shape --> {2, 3}

--- fp8.arange([start,] stop [, step] [, {dtype =, device =, requires_grad =}]): the numbers from start (0) up to below
-- stop, at distances of step (1).
--   fp8.arange(3) --> {0, 1, 2}
--   fp8.arange(1, 2, 0.25) --> {1, 1.25, 1.5, 1.75}

--- fp8.rand(sizes… [, {dtype =, device =, requires_grad =}]): uniform random numbers of at least 0 and below 1. The
-- same seed gives the same on every device.
--   fp8.rand(2, 3).shape --> {2, 3}

--- fp8.randn(sizes… [, {dtype =, device =, requires_grad =}]): normal random numbers of mean 0 and deviation 1. The
-- same seed gives the same on every device.
--   fp8.randn(2, 3).shape --> {2, 3}

--- fp8.randint(low, high, list of sizes [, {dtype =, device =}]): random integers of at least low and below high; i64
-- unless the options say otherwise.
--   fp8.randint(5, 6, {3}) --> {5, 5, 5}

--- fp8.manual_seed(seed [, position]): starts the random numbers of all devices anew; with the position that
-- fp8.random_state gave, from there on.
--   fp8.manual_seed(3)
--   local x = fp8.rand(2)
--   fp8.manual_seed(3)
--   fp8.rand(2):equal(x) --> true

--- fp8.random_state(): seed and position of the random numbers, which fp8.manual_seed takes to have the same follow
-- again.
--   local seed, position = fp8.random_state()
--   local x = fp8.rand(2)
--   fp8.manual_seed(seed, position)
--   fp8.rand(2):equal(x) --> true

--- fp8.set_default_device(name): where tensors are made from now on that say no device: "cpu", "cuda", "cuda:1".
--   fp8.set_default_device "cpu"
--   fp8.zeros(2).device --> "cpu"

--- fp8.set_default_dtype(name): what tensors are from now on that say no dtype: f32, f16 or bf16.
--   fp8.set_default_dtype "f16"
--   fp8.zeros(2).dtype --> "f16"

--- fp8.set_deterministic(boolean): whether operations give the same bits whatever the number of the CPU's threads, and
-- in every run on a GPU. Products and the derivative of gather are slower then.
--   fp8.set_deterministic(true)
--   fp8.is_deterministic() --> true

--- fp8.is_deterministic(): what fp8.set_deterministic has set; false at first.
--   fp8.is_deterministic() --> false

--- fp8.is_tensor(value): whether it is a tensor.
--   fp8.is_tensor(fp8.zeros(1)) --> true

--- fp8.create_map([signed [, exponent_bits [, precision_bits [, total_bits]]]]): the values of a floating-point format
-- as a map: 256 ascending f32 numbers, divided by the largest. By default (true, 5, 2, 8), which is like E5M2;
-- (true, 4, 3, 8) is like E4M3. The bits, with one for the sign, add up to total_bits; fewer than 8 leave zeros.
--   fp8.create_map(true, 4, 3, 8).shape --> {256}
--   fp8.create_map(true, 4, 3, 8):max():item() --> 1

--- fp8.create_dynamic_map([signed [, max_exponent_bits [, total_bits]]]): the dynamic format of 8-bit optimizers, as a
-- map: its fraction has the more bits, the larger a number is. By default (true, 7, 8). See "8-bit approximations for
-- parallelism in deep learning" (Dettmers, 2016).
--   fp8.create_dynamic_map():max():item() --> 1

--- fp8.create_linear_map([signed [, total_bits]]): values at equal distances, as a map. By default (true, 8).
--   fp8.create_linear_map(false)[256]:item() --> 1

--- fp8.memory([device]): bytes of tensors on a device, "cpu" included: {in_use =, peak =, cached =}. cached is memory
-- that is kept for the next tensors.
--   fp8.memory("cpu").in_use >= 0 --> true

--- fp8.reset_peak_memory([device]): the peak that fp8.memory tells starts anew from what is in use.
--   fp8.reset_peak_memory "cpu" --> nil

--- x:numel(): the number of elements.
--   fp8.zeros(2, 3):numel() --> 6

--- x:dim(): the number of dimensions.
--   fp8.zeros(2, 3):dim() --> 2


--- x:is_contiguous(): whether the elements are in row-major order without gaps.
--   fp8.zeros(2, 3):t():is_contiguous() --> false

--- x:item(): the number in a tensor of one element; beyond 2^53 an int64_t. Waits for the device.
--   fp8.tensor({{4}}):item() --> 4

--- x:totable(): nested tables of numbers; a number where there are no dimensions. Waits for the device.
--   fp8.eye(2):totable() --> {{1, 0}, {0, 1}}

--- x.shape: a list of sizes.
--   fp8.zeros(2, 3).shape --> {2, 3}

--- x.dtype: the name of the type of its elements: f32 f16 bf16 e4m3 e5m2 u8 i32 i64.
--   fp8.zeros(1).dtype --> "f32"

--- x.device: the name of the device that its memory is on.
--   fp8.zeros(1, {device = "cpu"}).device --> "cpu"

--- x.grad: the gradient that backward has added up, or nil. It can be set, to a tensor or to nil.
--   fp8.zeros(1).grad --> nil

--- x.requires_grad: whether operations on it are recorded, for backward. It can be set.
--   fp8.zeros(1).requires_grad --> false

--- x.is_leaf: whether it is no result of a recorded operation; backward writes the gradients of those that are not.
--   fp8.zeros(1).is_leaf --> true

--- fp8.version: of the module, as a string.
--   type(fp8.version) --> "string"
