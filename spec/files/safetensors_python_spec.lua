-- Files of fp8.save, read by Python's safetensors where that is installed. The other way is safetensors_spec.lua, with
-- a file that Python has written.
local fp8 = require "fp8"
local support = require "spec.support"

describe("A safetensors file of fp8.save", function()
  it("has for Python what it has here, of every dtype", function()
    local status = os.execute "python3 -c 'import torch, safetensors' >/dev/null 2>&1"
    if status ~= 0 and status ~= true then return pending "python3 has no torch or no safetensors" end
    local path, output = os.tmpname(), os.tmpname()
    finally(function()
      os.remove(path)
      os.remove(output)
    end)
    local tensors = {bool = fp8.load(support.fixture "dtypes.safetensors", {f64 = "f32"}).bool}
    for dtype in pairs {f32 = 0, f16 = 0, bf16 = 0, e4m3 = 0, e5m2 = 0, u8 = 0, i32 = 0, i64 = 0} do
      tensors[dtype] = fp8.tensor({{1, 2, 3}, {4, 0, 6}}, {dtype = dtype}):t()
    end
    tensors.scalar, tensors.empty = fp8.tensor(-2.5), fp8.zeros(0, 4)
    fp8.save(path, tensors, {note = "naïve"})
    assert(os.execute(("python3 '%s' '%s' >'%s' 2>&1"):format(support.fixture "read_safetensors.py", path, output)))
    local numbers = "[3, 2] [1.0, 4.0, 2.0, 0.0, 3.0, 6.0]"
    assert.equal(([[
bf16 torch.bfloat16 N
bool torch.bool [2] [1.0, 0.0]
e4m3 torch.float8_e4m3fn N
e5m2 torch.float8_e5m2 N
empty torch.float32 [0, 4] []
f16 torch.float16 N
f32 torch.float32 N
i32 torch.int32 N
i64 torch.int64 N
scalar torch.float32 [] [-2.5]
u8 torch.uint8 N
{'note': 'naïve'}
]]):gsub("N\n", numbers .. "\n"), support.read_file(output))
  end)
end)
