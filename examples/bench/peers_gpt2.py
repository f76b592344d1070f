"""The step of gpt2.lua for torch, which peers.py --step gpt2 measures: GPT-2 with learned positions, normalization before
attention and MLP, GELU in its tanh form, the embedding as the last layer's weight, clipping, and fused AdamW.

bf16 is torch's usual form of it, autocast with float32 weights: products and attention in bf16, norms, residual sums and the
loss in float32. With --weights bf16 there is no autocast: weights, gradients, the optimizer's moments and all activations
are bf16, and no float32 copies are kept. gpt2.lua has bf16 weights with float32 copies in the optimizer, between the two.
TF32 is off."""

import gc
import time

import torch
from torch import nn
from torch.nn import functional

GPU_SIZES = {"layers": 12, "width": 768, "heads": 12, "context": 1024, "vocabulary": 50304, "batch": 32}
CPU_SIZES = {"layers": 4, "width": 256, "heads": 4, "context": 128, "vocabulary": 512, "batch": 8}
FORMS = ("torch", "compiled", "torchao")
WEIGHTS = {"f32": torch.float32, "bf16": torch.bfloat16}


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Tokens and targets (batch, context) to the mean cross-entropy."""

    def __init__(self, sizes):
        super().__init__()
        width, layers = sizes["width"], sizes["layers"]
        self.tokens = nn.Embedding(sizes["vocabulary"], width)
        self.positions = nn.Parameter(torch.zeros(sizes["context"], width))
        self.blocks = nn.ModuleList(Block(width, sizes["heads"]) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                ends_branch = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if ends_branch else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def make_optimizer(model):
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=True)


def convert_blocks(model):
    """The linear layers of the blocks multiply in float8, with one scale a tensor, computed anew in each step."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    config = Float8LinearConfig.from_recipe_name("tensorwise")
    convert_to_float8_training(model, config=config, module_filter_fn=lambda _, name: name.startswith("blocks."))


def make_step(form, dtype, weights, device, sizes):
    """step(turn), which takes one and returns its loss: gradients to none, forward, backward, clipping, optimizer."""
    torch.manual_seed(1)
    model = GPT(sizes).to(device, weights)
    if form == "torchao":
        convert_blocks(model)
    optimizer = make_optimizer(model)
    loss_of = model if form == "torch" else torch.compile(model)
    shape = sizes["batch"], sizes["context"]

    def step(_):
        tokens = torch.randint(sizes["vocabulary"], shape, device=device)
        targets = torch.randint(sizes["vocabulary"], shape, device=device)
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != weights):
            loss = loss_of(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def add_options(parser):
    for name, size in CPU_SIZES.items():
        parser.add_argument(f"--{name}", type=int, help=f"of --step gpt2 ({GPU_SIZES[name]}, {size} on the CPU)")
    parser.add_argument("--weights", choices=WEIGHTS, help="of --step gpt2: f32 (the default) or bf16, of --dtype bf16")


OPTIONS = (*CPU_SIZES, "weights")


def bench_form(form, dtype, weights, device, sizes, arguments, measure):
    """The cells of a form's line: milliseconds, CPU milliseconds, tokens a second, peak GiB and the first loss."""
    torch.compiler.reset()
    gc.collect()  # an optimizer can be in a cycle, which keeps the parameters of the form before
    step = make_step(form, dtype, weights, device, sizes)
    loss = step(0).item()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    steps, start = 0, time.process_time()

    def counted(turn):
        nonlocal steps
        steps += 1
        step(turn)

    milliseconds = measure(counted, device, arguments) / 1000
    cpu = (time.process_time() - start) / steps * 1000
    peak = f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f}" if device.type == "cuda" else ""
    tokens = sizes["batch"] * sizes["context"] / milliseconds * 1000
    return f"{milliseconds:10.2f}{cpu:10.2f}{tokens:13.0f}{peak:>10}   {loss:.3f}"


def bench(device, name, dtype, forms, arguments, measure):
    """Prints a line for each of `forms`, of the dtype called `name`; measure(step, device, arguments) in microseconds."""
    defaults = CPU_SIZES if device.type == "cpu" else GPU_SIZES
    sizes = {key: getattr(arguments, key) or defaults[key] for key in defaults}
    weights = arguments.weights or "f32"
    print(", ".join(f"{key} {size}" for key, size in sizes.items()) + f", weights {weights}")
    print(f"{'precision':<20}{'ms a step':>10}{'CPU ms':>10}{'tokens/s':>13}{'peak GiB':>10}   first loss")
    for form in forms:
        title = f"{form} {name}"
        try:
            cells = bench_form(form, dtype, WEIGHTS[weights], device, sizes, arguments, measure)
        except ModuleNotFoundError as error:
            cells = f"  {error.name} is not installed"
        except Exception as error:  # a form that does not take these sizes, this dtype or this device
            lines = str(error).strip().splitlines() or [""]
            cells = f"  {type(error).__name__}: {lines[0][:80]}"
        print(f"{title:<20}{cells}", flush=True)
