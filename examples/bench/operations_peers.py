"""The operations of operations.lua for torch, which asks for them one by one: a line "name size dtype" on standard input
is answered with one of two times in microseconds, measured as there, or with "none"."""

import argparse
import statistics
import sys
import time
import warnings

warnings.filterwarnings("ignore")
try:
    import torch
except ImportError:
    raise SystemExit("operations_peers.py: torch is not installed")

from torch.nn import functional

torch.backends.cudnn.allow_tf32 = False  # float32 is float32, as it is here, and in torch's products

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

OPERATIONS = {
    "add": lambda i: i.x + i.y,
    "add number": lambda i: i.x + 1,
    "add row": lambda i: i.x + i.row,
    "add column": lambda i: i.x + i.column,
    "mul": lambda i: i.x * i.y,
    "div": lambda i: i.x / i.y,
    "exp": lambda i: i.x.exp(),
    "log": lambda i: i.positive.log(),
    "sqrt": lambda i: i.positive.sqrt(),
    "sin": lambda i: i.x.sin(),
    "tanh": lambda i: i.x.tanh(),
    "gelu": lambda i: functional.gelu(i.x),
    "pow 3": lambda i: i.x.pow(3),
    "where": lambda i: torch.where(i.mask, i.x, i.y),
    "gt": lambda i: i.x > i.y,
    "gt number": lambda i: i.x > 0,
    "clamp": lambda i: i.x.clamp(-1, 1),
    "cast": lambda i: i.x.to(torch.bfloat16 if i.x.dtype == torch.float32 else torch.float32),
    "copy": lambda i: i.x.clone(),
    "copy transposed": lambda i: i.x.t().contiguous(),
    "cat first": lambda i: torch.cat([i.x, i.y], 0),
    "cat last": lambda i: torch.cat([i.x, i.y], 1),
    "index_select": lambda i: i.x.index_select(0, i.rows),
    "index_select last": lambda i: i.x.index_select(1, i.columns),
    "gradient of index_select": lambda i: torch.zeros_like(i.x).index_add_(0, i.rows, i.x),
    "gather": lambda i: i.x.gather(1, i.places),
    "gradient of gather": lambda i: torch.zeros_like(i.x).scatter_add_(1, i.places, i.x),
    "index_add": lambda i: i.x.index_add(0, i.rows, i.y),
    "scatter_add": lambda i: i.x.scatter_add(1, i.places, i.y),
    "softmax": lambda i: i.x.softmax(-1),
    "softmax first": lambda i: i.x.softmax(0),
    "log_softmax": lambda i: i.x.log_softmax(-1),
    "layer_norm": lambda i: functional.layer_norm(i.x, i.row.shape, i.row, i.row),
    "cumsum": lambda i: i.x.cumsum(-1),
    "cumsum first": lambda i: i.x.cumsum(0),
    "sort": lambda i: i.x.sort(-1),
    "topk": lambda i: i.x.topk(10, -1),
    "nonzero": lambda i: i.mask.nonzero(),
    "masked_select": lambda i: i.x.masked_select(i.mask),
    "conv2d 3x3": lambda i: functional.conv2d(i.images, i.filters, padding=1),
    "batch_norm": lambda i: functional.batch_norm(i.images, None, None, i.shares, i.shares, training=True),
    "gradients of batch_norm": lambda i: torch.ops.aten.native_batch_norm_backward(
        i.dy, i.images, i.shares, None, None, *i.statistics, True, 1e-5, [True, True, True]),
    "max_pool2d": lambda i: functional.max_pool2d(i.images, 2),
}
REDUCTIONS = {
    "sum": lambda x, *dim: x.sum(*dim),
    "mean": lambda x, *dim: x.mean(*dim),
    "max": lambda x, *dim: x.amax(*dim),
    "argmax": lambda x, *dim: x.argmax(*dim),
    "var": lambda x, *dim: x.var(*dim),
    "norm": lambda x, *dim: torch.linalg.vector_norm(x, 2, *dim),
}
for name, reduce in REDUCTIONS.items():
    for place, dim in ("last", (-1,)), ("first", (0,)), ("all", ()):
        OPERATIONS[f"{name} {place}"] = lambda i, reduce=reduce, dim=dim: reduce(i.x, *dim)


class Inputs:
    """Each is made when it is first asked for."""

    def __init__(self, rows, columns, dtype, device):
        def normal(*shape):
            return torch.randn(*shape, dtype=dtype, device=device)

        def integers(limit, *shape):
            return torch.randint(limit, shape, device=device)

        channels = 64
        side = min(56, max(8, int((rows * columns / channels) ** 0.5)))
        images = max(1, rows * columns // (channels * side * side))
        self.makers = {
            "x": lambda: normal(rows, columns),
            "y": lambda: normal(rows, columns),
            "positive": lambda: self.x.abs(),
            "mask": lambda: self.x > 0,
            "row": lambda: normal(columns),
            "column": lambda: normal(rows, 1),
            "rows": lambda: integers(rows, rows),
            "columns": lambda: integers(columns, columns),
            "places": lambda: integers(columns, rows, columns),
            "images": lambda: normal(images, channels, side, side),
            "shares": lambda: normal(channels),
            "dy": lambda: self.images.roll(1),
            "statistics": lambda: torch.ops.aten.native_batch_norm(
                self.images, self.shares, self.shares, None, None, True, 0.1, 1e-5)[1:],
            "filters": lambda: normal(channels, channels, 3, 3),
        }

    def __getattr__(self, name):
        value = self.makers[name]()
        setattr(self, name, value)
        return value


def time_on_cpu(call, seconds):
    call(1)
    start = time.perf_counter()
    call(2)
    batch = max(1, int(0.002 / (time.perf_counter() - start)))
    least, least_clock, samples = float("inf"), float("inf"), 0
    stop = time.perf_counter() + seconds
    while samples < 5 or time.perf_counter() < stop:
        start, clock = time.perf_counter(), time.process_time()
        for turn in range(batch):
            call(turn)
        least = min(least, (time.perf_counter() - start) / batch)
        least_clock = min(least_clock, (time.process_time() - clock) / batch)
        samples += 1
    return least * 1e6, least_clock * 1e6


def time_on_gpu(call, seconds):
    for turn in range(4):
        call(turn)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for turn in range(4):
        call(turn)
    torch.cuda.synchronize()
    estimate = (time.perf_counter() - start) / 4
    batch = max(2, min(200, int(0.005 / estimate)))
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times, hosts = [], []
    stop = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < stop:
        torch.cuda.synchronize()
        first.record()
        start = time.perf_counter()
        for turn in range(batch):
            call(turn)
        hosts.append((time.perf_counter() - start) / batch * 1e6)
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) * 1000 / batch)
    return statistics.median(times), statistics.median(hosts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--sets", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    by_name = {title.replace(" ", "_"): operation for title, operation in OPERATIONS.items()}
    sets, sets_of = [], None
    for request in sys.stdin:
        name, size, dtype = request.split()
        if sets_of != (size, dtype):
            sets.clear()
            rows, columns = map(int, size.split("x"))
            sets.extend(Inputs(rows, columns, DTYPES[dtype], arguments.device) for _ in range(arguments.sets))
            sets_of = size, dtype

        def call(turn):
            by_name[name](sets[turn % len(sets)])

        try:
            time_of = time_on_cpu if arguments.device == "cpu" else time_on_gpu
            print("%.3f %.3f" % time_of(call, arguments.seconds), flush=True)
        except RuntimeError:  # torch does not take this dtype
            print("none", flush=True)


if __name__ == "__main__":
    main()
