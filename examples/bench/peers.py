"""The shapes of linear.lua for torch, torchao and bitsandbytes, each where it is installed, or with --attention those of
attention.lua for torch: forward, backward and both in microseconds, measured as measure.lua does; or with --step gpt2 the
step of gpt2.lua (peers_gpt2.py). Options: --help."""

import argparse
import statistics
import subprocess
import time
import warnings

warnings.filterwarnings("ignore")
try:
    import torch
except ImportError:
    raise SystemExit("peers.py: torch is not installed")

import peers_gpt2

GPU_SHAPES = "32,256,256;512,1024,1024;4096,4096,4096;8192,4096,16384;8192,8192,8192"
CPU_SHAPES = "32,256,256;512,1024,1024"
ATTENTION_SHAPES = "32,12,1024,64;8,16,2048,128;4,16,4096,128"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Clock:
    """An event on a device without events: the time once its work is done."""

    def record(self):
        self.at = time.perf_counter()

    def elapsed_time(self, later):
        return (later.at - self.at) * 1000


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def event(device):
    return torch.cuda.Event(enable_timing=True) if device.type == "cuda" else Clock()


REST_SECONDS, SHORTEST_FOR_REST = 0.02, 200e-6


def measure(step, device, arguments):
    """Microseconds of one call of step(turn): see measure.lua, time."""
    turn = 0

    def run(calls):
        nonlocal turn
        for _ in range(calls):
            turn += 1
            step(turn)

    run(3)
    synchronize(device)
    start = time.perf_counter()
    run(5)
    synchronize(device)
    estimate = (time.perf_counter() - start) / 5
    batch = max(1, min(100, int(0.01 / estimate)))
    samples = min(arguments.steps, max(20, int(arguments.seconds / (batch * estimate))))
    run(batch)
    starts, stops = [event(device) for _ in range(samples)], [event(device) for _ in range(samples)]
    rests = device.type == "cuda" and not arguments.sustained and estimate >= SHORTEST_FOR_REST
    for first, last in zip(starts, stops):
        if rests:
            synchronize(device)
            time.sleep(REST_SECONDS)
        first.record()
        run(batch)
        last.record()
    synchronize(device)
    return statistics.median(a.elapsed_time(b) * 1000 / batch for a, b in zip(starts, stops))


def torch_linear(inputs, outputs, options):
    return torch.nn.Linear(inputs, outputs, **options)


def torch_compiled(inputs, outputs, options):
    return torch.compile(torch.nn.Linear(inputs, outputs, **options))


def torchao(recipe):
    def build(inputs, outputs, options):
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training

        # The layer to convert has to be a part of a module.
        model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, **options))
        convert_to_float8_training(model, config=Float8LinearConfig.from_recipe_name(recipe))
        return torch.compile(model)

    return build


def bitsandbytes(name):
    def build(inputs, outputs, options):
        import bitsandbytes
        from bitsandbytes.research import matmul_fp8_global
        from bitsandbytes.research import nn as layers

        # LinearFP8Global.forward calls this by a name that does not exist.
        if not hasattr(bitsandbytes, "matmul_fp8_global"):
            bitsandbytes.matmul_fp8_global = matmul_fp8_global
        return getattr(layers, name)(inputs, outputs).to(**options)

    return build


# By the names of the command line: what is needed, a title, and what builds the layer.
PEERS = {
    "torch": ("torch", "torch nn.Linear", torch_linear),
    "compiled": ("torch", "… compiled", torch_compiled),
    "tensorwise": ("torchao", "torchao tensorwise", torchao("tensorwise")),
    "rowwise": ("torchao", "torchao rowwise", torchao("rowwise")),
    "rowwise_gw_hp": ("torchao", "torchao rowwise_with_gw_hp", torchao("rowwise_with_gw_hp")),
    "mixed": ("bitsandbytes", "bnb LinearFP8Mixed", bitsandbytes("LinearFP8Mixed")),
    "global": ("bitsandbytes", "bnb LinearFP8Global", bitsandbytes("LinearFP8Global")),
}


CPU_PEERS = "torch,compiled"  # the others need a GPU, or emulate one for minutes


def is_installed(package):
    from importlib.util import find_spec

    return find_spec(package) is not None


def read_shapes(text):
    parts = [part.replace("x", ",").split(",") for part in text.split(";") if part.strip()]
    shapes = [tuple(int(size) for size in part) for part in parts]
    if not shapes or any(len(shape) not in (3, 4) or min(shape) < 1 for shape in shapes):
        raise argparse.ArgumentTypeError("rows,in,out;… or batch,heads,tokens,features;… expected")
    return shapes


def steps_of(layer, pool):
    """forward(turn) and both(turn), on another x and dy each turn."""
    xs, dys = pool
    parameters = list(layer.parameters())

    def forward(turn):
        return layer(xs[turn % len(xs)])

    def both(turn):
        i = turn % len(xs)
        for parameter in parameters:
            parameter.grad = None
        xs[i].grad = None
        layer(xs[i]).backward(dys[i])

    return forward, both


def make_pool(rows, inputs, outputs, options):
    """As many x and dy as exceed the L2, each a slice of one tensor."""
    element = torch.empty((), dtype=options["dtype"]).element_size()
    wanted = 32e6 if options["device"].type == "cpu" else 100e6
    count = max(2, -(-int(wanted) // (rows * (inputs + outputs) * element)))
    x = torch.randn(count, rows, inputs, **options)
    dy = torch.randn(count, rows, outputs, **options)
    return [x[i].detach().requires_grad_() for i in range(count)], [dy[i] for i in range(count)]


def allocated(device):
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def peak_memory(both, device, before):
    """The most that a step allocates at once, weight and bias included, without x and dy."""
    if device.type != "cuda":
        return None
    both(0)
    torch.cuda.reset_peak_memory_stats(device)
    both(0)
    return torch.cuda.max_memory_allocated(device) - before


def device_name(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    command = "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1"
    return f"{subprocess.getoutput(command) or 'cpu'}, {torch.get_num_threads()} threads"


def bench_shape(shape, peers, options, arguments):
    rows, inputs, outputs = shape
    device = options["device"]
    print(f"\n{rows} rows, {inputs} in, {outputs} out, {arguments.dtype}")
    print(f"{'':29}{'forward':>11}{'backward':>11}{'both':>11}{'peak MiB':>11}")
    pool = make_pool(rows, inputs, outputs, options)
    for name in peers:
        package, title, build = PEERS[name]
        if not is_installed(package):
            print(f"{title:29}  {package} is not installed")
            continue
        torch.compiler.reset()
        before = allocated(device)
        try:
            forward, both = steps_of(build(inputs, outputs, options), pool)
            peak = peak_memory(both, device, before)
            first = measure(forward, device, arguments)
            all_of_it = measure(both, device, arguments)
        except Exception as error:  # a peer that does not take this shape, dtype or device
            lines = str(error).strip().splitlines() or [""]
            print(f"{title:29}  {type(error).__name__}: {lines[0][:80]}")
            continue
        cells = [f"{first:11.1f}", f"{all_of_it - first:11.1f}", f"{all_of_it:11.1f}"]
        cells.append("" if peak is None else f"{peak / 2**20:11.1f}")
        print(f"{title:29}{''.join(cells)}", flush=True)


def attention_backends():
    from torch.nn.attention import SDPBackend

    return ("flash", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)


def bench_attention_errors(shape, options, arguments):
    """‖error‖ / ‖result‖ of y, dq, dk and dv against float64, of inputs randn × 1, 2, 4, 8."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    batch, heads, tokens, features = shape
    for size in 1, 2, 4, 8:
        inputs = [torch.randn(batch, tokens, heads, features, **options).mul_(size).transpose(1, 2) for _ in range(4)]

        def run(dtype, backend):
            q, k, v, dy = [x.to(dtype).detach() for x in inputs]
            for x in (q, k, v):
                x.requires_grad_()
            with sdpa_kernel(backend):
                y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=not arguments.full)
                y.backward(dy)
            return [x.double() for x in (y.detach(), q.grad, k.grad, v.grad)]

        expected = run(torch.float64, SDPBackend.MATH)
        for title, backend in attention_backends():
            found = run(options["dtype"], backend)
            cells = [f"{((a - b).norm() / b.norm()).item():11.2e}" for a, b in zip(found, expected)]
            print(f"{', '.join(map(str, shape))} × {size}  {title:6}{''.join(cells)}", flush=True)


def bench_attention(shape, options, arguments):
    from torch.nn.attention import sdpa_kernel

    batch, heads, tokens, features = shape
    q, k, v, dy = [torch.randn(batch, tokens, heads, features, **options).transpose(1, 2) for _ in range(4)]

    def attend():
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=not arguments.full)

    def both(turn):
        q.grad = k.grad = v.grad = None
        attend().backward(dy)

    for title, backend in attention_backends():
        with sdpa_kernel(backend):
            for x in (q, k, v):
                x.requires_grad_(False)
            first = measure(lambda turn: attend(), options["device"], arguments)
            for x in (q, k, v):
                x.requires_grad_()
            all_of_it = measure(both, options["device"], arguments)
        name = f"{', '.join(map(str, shape))}  {title}"
        print(f"{name:29}{first:11.1f}{all_of_it - first:11.1f}{all_of_it:11.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--peers", help="comma-separated, of " + ", ".join(PEERS) + " (on the CPU " + CPU_PEERS + ")")
    parser.add_argument("--shapes", type=read_shapes, help="rows,in,out;… or batch,heads,tokens,features;…")
    parser.add_argument("--attention", action="store_true", help="causal attention in place of linear layers; on a GPU")
    parser.add_argument("--errors", action="store_true", help="attention's errors in place of its times")
    parser.add_argument("--full", action="store_true", help="attention without the causal mask")
    parser.add_argument("--steps", type=int, default=50, help="samples of a measurement, whose median is printed")
    parser.add_argument("--sustained", action="store_true", help="without a rest before every sample")
    parser.add_argument("--step", choices=["gpt2"], help="a training step, of --peers " + ", ".join(peers_gpt2.FORMS))
    peers_gpt2.add_options(parser)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    known = peers_gpt2.FORMS if arguments.step else PEERS
    peers = (arguments.peers or (CPU_PEERS if device.type == "cpu" else ",".join(known))).split(",")
    for name in peers:
        if name not in known:
            parser.error(f"unknown peer {name}: one of {', '.join(known)}")

    if (arguments.full or arguments.errors) and not arguments.attention:
        parser.error("--full and --errors belong to --attention")
    if any(len(shape) != (4 if arguments.attention else 3) for shape in arguments.shapes or []):
        parser.error("--shapes: rows,in,out, or batch,heads,tokens,features with --attention")
    if arguments.step and (arguments.attention or arguments.shapes):
        parser.error("--step takes no --attention and no --shapes")
    if not arguments.step and any(getattr(arguments, name) for name in peers_gpt2.OPTIONS):
        parser.error(f"--{', --'.join(peers_gpt2.OPTIONS)} belong to --step gpt2")
    if arguments.weights == "bf16" and arguments.dtype != "bf16":
        parser.error("--weights bf16 belongs to --dtype bf16")

    if arguments.step:
        arguments.seconds = 20
        print(f"{device_name(device)}, torch {torch.__version__}; medians of up to {arguments.steps}")
        peers_gpt2.bench(device, arguments.dtype, DTYPES[arguments.dtype], peers, arguments, measure)
        return
    arguments.seconds = 0.5 if device.type == "cpu" else 3
    print(f"{device_name(device)}, torch {torch.__version__}; microseconds, medians of up to {arguments.steps}")
    if arguments.attention:
        bench = bench_attention_errors if arguments.errors else bench_attention
        for shape in arguments.shapes or read_shapes(ATTENTION_SHAPES):
            bench(shape, {"device": device, "dtype": DTYPES[arguments.dtype]}, arguments)
        return
    shapes = arguments.shapes or read_shapes(CPU_SHAPES if device.type == "cpu" else GPU_SHAPES)
    for shape in shapes:
        bench_shape(shape, peers, {"device": device, "dtype": DTYPES[arguments.dtype]}, arguments)


if __name__ == "__main__":
    main()
