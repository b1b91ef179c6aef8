"""Measures `jaxrepro.layers` convolutions against XLA's own and, where it is installed, PyTorch.

    python benchmarks/conv.py [--quick] [--only=3x3] [--no_xla] [--out=benchmarks/results/conv-cpu.json]

Every shape is timed forward and forward + backward, called step by step ("outside") and inside `lax.scan` ("inside"),
because XLA's CPU backend picks other layouts there. A step feeds its results into the next one, so nothing can be
hoisted or dropped, and gives its arrays to it (they are donated, as in the training loop). A sample is two steps, of
smaller shapes up to sixty-four: beside them the call that starts a loop would count, which takes new memory for what is
computed on the way (slow on some virtual machines). All variants of a shape are interleaved and the table shows the
fastest of the repetitions in ms, which a busy machine disturbs least; the JSON has the medians too. XLA's gradients
inside a scan can take minutes: they are first timed on 16 images, and only extrapolated ("~") when slow.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.path.insert(0, str(Path(__file__).parents[1]))
from jaxrepro.layers import conv2d, conv_transpose2d

HAS_TORCH = importlib.util.find_spec("torch") is not None
PROBE_BATCH = 16
SLOW_S = 3.0
SAMPLE_MACS, MOST_STEPS = 1e10, 64


class Shape(NamedTuple):
    """One convolution; `needs_dx` is False for a first layer, whose input gradient nobody asks for."""

    kernel: int
    size: int
    num_in: int
    num_out: int
    strides: int = 1
    batch: int = 128
    transposed: bool = False
    needs_dx: bool = True

    @property
    def steps(self) -> int:
        """Steps in a sample."""
        places = self.size**2 * self.batch // (1 if self.transposed else self.strides**2)
        macs = places * self.kernel**2 * self.num_in * self.num_out
        return max(2, min(MOST_STEPS, round(SAMPLE_MACS / macs)))

    def __str__(self) -> str:
        stride = f" /{self.strides}" if self.strides > 1 else ""
        kind = " T" if self.transposed else ""
        return f"{self.kernel}x{self.kernel}{stride}{kind}, {self.size}², {self.num_in}→{self.num_out}, b{self.batch}"


SHAPES = (
    Shape(3, 32, 3, 64, batch=64, needs_dx=False),
    Shape(3, 32, 64, 64, batch=64),
    Shape(3, 16, 64, 128, batch=64),
    Shape(3, 16, 128, 128, batch=64),
    Shape(3, 8, 128, 256, batch=64),
    Shape(3, 4, 256, 512, batch=64),
    Shape(3, 4, 512, 512, batch=64),
    Shape(3, 2, 512, 512, batch=64),
    Shape(3, 32, 16, 64, batch=64),
    Shape(3, 32, 32, 64, strides=2, batch=64),
    Shape(3, 16, 128, 256, strides=2, batch=64),
    Shape(7, 14, 32, 63),
    Shape(7, 28, 1, 32, needs_dx=False),
    Shape(3, 32, 64, 64),
    Shape(3, 16, 128, 128),
    Shape(15, 28, 1, 128, needs_dx=False),
    Shape(15, 14, 32, 63),
    Shape(3, 32, 16, 16),
    Shape(3, 8, 256, 256, batch=64),
    Shape(1, 16, 64, 128),
    Shape(3, 32, 3, 16, strides=2, needs_dx=False),
    Shape(3, 16, 16, 32, strides=2),
    Shape(3, 8, 32, 64, strides=2),
    Shape(4, 64, 3, 64, strides=2, batch=64),
    Shape(4, 32, 64, 128, strides=2, batch=64),
    Shape(4, 8, 256, 512, strides=2, batch=64),
    Shape(3, 8, 64, 32, strides=2, transposed=True),
    Shape(3, 16, 16, 8, strides=2, transposed=True),
    Shape(4, 16, 128, 64, strides=2, batch=64, transposed=True),
    Shape(4, 32, 64, 3, strides=2, batch=64, transposed=True),
)
QUICK = tuple(s for s in SHAPES if s.kernel < 15)


def xla_conv(x: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (strides, strides), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def xla_conv_transpose(x: jax.Array, kernel: jax.Array, strides: int) -> jax.Array:
    return lax.conv_transpose(x, kernel, (strides, strides), "SAME")


def make_step(conv, shape: Shape, backward: bool):
    """One step (x, kernel, y) -> (x, kernel, y) that uses everything it computes."""

    def forward(x, kernel, y):
        kernel = kernel + 1e-9 * y[0, 0, 0]
        return x, kernel, conv(x, kernel, shape.strides)

    def train(x, kernel, y):
        kernel = kernel + 1e-9 * y[0, 0, 0]
        if shape.needs_dx:
            y, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, shape.strides), x, kernel)
            dx, dw = vjp(y)
            return x - 1e-9 * dx, kernel - 1e-9 * dw, y
        y, vjp = jax.vjp(lambda kernel: conv(x, kernel, shape.strides), kernel)
        return x, kernel - 1e-9 * vjp(y)[0], y

    return train if backward else forward


def jax_variant(conv, shape: Shape, backward: bool, inside: bool):
    """Returns a function without arguments that runs `shape.steps` steps and waits for them."""
    step = make_step(conv, shape, backward)
    x, kernel = (jnp.asarray(a) for a in inputs(shape))
    y = jnp.zeros(jax.eval_shape(lambda x, w: conv(x, w, shape.strides), x, kernel).shape)
    if inside:
        scan = functools.partial(lax.scan, lambda state, _: (step(*state), None), length=shape.steps)
        steps = jax.jit(lambda *state: scan(state, None)[0], donate_argnums=(0, 1, 2))
    else:
        one_step = jax.jit(step, donate_argnums=(0, 1, 2))

        def steps(*state):
            for _ in range(shape.steps):
                state = one_step(*state)
            return state

    state = (x, kernel, y)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(steps(*state))

    return run


def inputs(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    draw = functools.partial(generator.standard_normal, dtype=np.float32)
    x = draw((shape.batch, shape.size, shape.size, shape.num_in))
    kernel = draw((shape.kernel, shape.kernel, shape.num_in, shape.num_out)) * 0.01
    return x, kernel


class TorchPeer:
    """PyTorch in a process of its own: the threads of the two libraries would otherwise spin at each other."""

    def __init__(self):
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        context.Process(target=serve_torch, args=(other,), daemon=True).start()

    def variant(self, shape: Shape, backward: bool, channels_last: bool):
        """Returns a function without arguments that runs the steps there and returns their seconds."""

        def run() -> float:
            self._pipe.send((tuple(shape), backward, channels_last))
            return self._pipe.recv()

        return run


def serve_torch(pipe) -> None:
    """The loop of the peer's process: times whatever steps it is asked for."""
    import torch

    torch.set_num_threads(2)
    make = functools.cache(functools.partial(torch_steps, torch))
    while True:
        try:
            shape, backward, channels_last = pipe.recv()
        except EOFError:
            return
        pipe.send(seconds(make(Shape(*shape), backward, channels_last)))


def torch_steps(torch, shape: Shape, backward: bool, channels_last: bool):
    """The same steps as `jax_variant` in PyTorch."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, kernel = (torch.from_numpy(a) for a in inputs(shape))
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=layout).requires_grad_(shape.needs_dx)
    order = (2, 3, 0, 1) if shape.transposed else (3, 2, 0, 1)
    kernel = kernel.permute(*order).contiguous(memory_format=layout).requires_grad_()
    odd = (shape.kernel - shape.strides) % 2
    options = {"stride": shape.strides, "padding": (shape.kernel - shape.strides + odd) // 2}
    if shape.transposed:
        conv, options["output_padding"] = torch.nn.functional.conv_transpose2d, odd
    else:
        conv = torch.nn.functional.conv2d
    leaves = [x, kernel] if shape.needs_dx else [kernel]

    def run():
        for _ in range(shape.steps):
            if backward:
                y = conv(x, kernel, **options)
                torch.autograd.grad(y, leaves, y.detach())
            else:
                with torch.no_grad():
                    conv(x, kernel, **options)

    return run


def variants(shape: Shape, peer: TorchPeer | None, with_xla: bool) -> tuple[dict, dict]:
    """Returns {name: callable} to time, and {name: ms per step} of what was extrapolated instead."""
    ours, theirs = (conv_transpose2d, xla_conv_transpose) if shape.transposed else (conv2d, xla_conv)
    timed, extrapolated = {}, {}
    for direction in ("fwd", "fwd+bwd"):
        backward = direction == "fwd+bwd"
        for place in ("outside", "inside"):
            timed[f"ours {place} {direction}"] = jax_variant(ours, shape, backward, place == "inside")
        if with_xla:
            timed[f"xla outside {direction}"] = jax_variant(theirs, shape, backward, False)
            name = f"xla inside {direction}"
            small = shape._replace(batch=PROBE_BATCH)
            probe = jax_variant(theirs, small, backward, True)
            probe()
            step_s = seconds(probe) / small.steps * shape.batch / PROBE_BATCH
            if step_s * shape.steps > SLOW_S:
                extrapolated[name] = 1e3 * step_s
            else:
                timed[name] = jax_variant(theirs, shape, backward, True)
        if peer is not None:
            timed[f"torch nchw {direction}"] = peer.variant(shape, backward, False)
            timed[f"torch nhwc {direction}"] = peer.variant(shape, backward, True)
    return timed, extrapolated


def seconds(function) -> float:
    start = time.perf_counter()
    measured = function()  # the peer measures itself
    return measured if isinstance(measured, float) else time.perf_counter() - start


def sample(function, once_s: float, patience_s: float) -> float:
    """Mean seconds of enough calls to last 20 ms, begun when the machine has nothing else to do."""
    deadline = time.perf_counter() + patience_s
    while True:
        before = busy_seconds()
        time.sleep(0.03)  # also lets the threads of the previous variant stop spinning
        if busy_seconds() - before < 0.02 or time.perf_counter() > deadline:
            break
    calls = max(1, math.ceil(0.02 / once_s))
    return sum(seconds(function) for _ in range(calls)) / calls


def busy_seconds() -> float:
    """CPU time that all processes of this machine have used; 0 where /proc does not tell."""
    try:
        ticks = [int(t) for t in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def measure(shape: Shape, variants: tuple[dict, dict], repetitions: int, budget_s: float, patience_s: float) -> dict:
    """Times every variant of one shape in turn, `repetitions` times or until it used its budget."""
    timed, extrapolated = variants
    spent = {name: [] for name in timed}
    for function in timed.values():
        function()  # compiles
    once = {name: seconds(function) for name, function in timed.items()}
    for _ in range(repetitions):
        for name, function in timed.items():
            if not spent[name] or sum(spent[name]) + once[name] < budget_s:
                spent[name].append(sample(function, once[name], patience_s))
    per_step = 1e3 / shape.steps
    fastest = {name: per_step * min(times) for name, times in spent.items()} | extrapolated
    return {
        "shape": shape._asdict(),
        "steps": shape.steps,
        "min_ms": fastest,
        "median_ms": {name: per_step * statistics.median(times) for name, times in spent.items()},
        "extrapolated": sorted(extrapolated),
        "ratios": ratios(fastest),
    }


def ratios(ms: dict[str, float]) -> dict[str, float]:
    """Our times over the better of XLA's two, and over the better of PyTorch's two layouts."""
    result = {}
    for direction in ("fwd", "fwd+bwd"):
        xla = [ms[name] for place in ("outside", "inside") if (name := f"xla {place} {direction}") in ms]
        for place in ("outside", "inside"):
            ours = ms[f"ours {place} {direction}"]
            if xla:
                result[f"{place}/xla {direction}"] = ours / min(xla)
            if HAS_TORCH:
                peer = min(ms[f"torch {layout} {direction}"] for layout in ("nchw", "nhwc"))
                result[f"{place}/torch {direction}"] = ours / peer
                result[f"{place}/torch-nchw {direction}"] = ours / ms[f"torch nchw {direction}"]
    return result


def print_row(shape: Shape, result: dict) -> None:
    for direction in ("fwd", "fwd+bwd"):
        ms, cells = result["min_ms"], []
        for name in ("ours outside", "ours inside", "xla outside", "xla inside", "torch nchw", "torch nhwc"):
            key = f"{name} {direction}"
            text = f"{ms[key]:.4g}" if key in ms else "-"
            cells.append(f"{'~' if key in result['extrapolated'] else ''}{text}".rjust(8))
        for peer in ("xla", "torch"):
            for place in ("outside", "inside"):
                value = result["ratios"].get(f"{place}/{peer} {direction}")
                cells.append(("-" if value is None else f"{value:.2f}").rjust(6))
        title = str(shape) if direction == "fwd" else ""
        print(f"| {title:31} | {direction:7} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer shapes and repetitions")
    parser.add_argument("--only", default="", help="only shapes whose name contains this")
    parser.add_argument("--no_xla", action="store_true", help="leave XLA's own convolutions out, which take longest")
    parser.add_argument("--patience", type=float, default=1.0, help="seconds to wait for an idle machine")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    peer = TorchPeer() if HAS_TORCH else None
    shapes = [s for s in (QUICK if args.quick else SHAPES) if args.only in str(s)]
    report = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "torch": importlib.metadata.version("torch") if HAS_TORCH else None,
        },
        "results": {},
    }
    print("ms per step, fastest repetition; ratios of ours to the better of XLA's and of PyTorch's two columns")
    print(
        f"| {'shape':31} | pass    | ours out | ours in | xla out | xla in | torch nchw | nhwc | "
        "out/xla | in/xla | out/torch | in/torch |"
    )
    for shape in shapes:
        repetitions, budget_s = (4, 1.0) if args.quick else (6, 1.5)
        result = measure(shape, variants(shape, peer, not args.no_xla), repetitions, budget_s, args.patience)
        report["results"][str(shape)] = result
        print_row(shape, result)
        jax.clear_caches()
        write(args.out, report)


def write(path: Path | None, report: dict) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
