"""Measures `jaxrepro.layers` convolutions against XLA's own and, where it is installed, PyTorch.

    python benchmarks/conv.py [--quick] [--only=3x3] [--out=benchmarks/results/conv-cpu.json]

Every shape is timed forward and forward + backward, called step by step ("outside") and inside `lax.scan`
("inside"), because XLA's CPU backend picks other layouts there. A step feeds its results into the next one,
so nothing can be hoisted or dropped. All variants of a shape are interleaved and the table shows the fastest
of the repetitions in ms, which a busy machine disturbs least; the JSON has the medians too. XLA's gradients
inside a scan can take minutes: they are first timed on 16 images, and only extrapolated ("~") when slow.
"""

import argparse
import functools
import json
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

try:
    import torch
except ImportError:
    torch = None

SCAN_STEPS = 2
PROBE_BATCH = 16
SLOW_S = 3.0


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

    def __str__(self) -> str:
        stride = f" /{self.strides}" if self.strides > 1 else ""
        kind = " T" if self.transposed else ""
        return f"{self.kernel}x{self.kernel}{stride}{kind}, {self.size}², {self.num_in}→{self.num_out}, b{self.batch}"


SHAPES = (
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
QUICK = tuple(s for s in SHAPES if s.kernel < 15 and s.num_in < 128)


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
    """Returns a function without arguments that runs SCAN_STEPS steps and waits for them."""
    step = make_step(conv, shape, backward)
    x, kernel = inputs(shape)
    y = jnp.zeros(jax.eval_shape(lambda x, w: conv(x, w, shape.strides), x, kernel).shape)
    if inside:
        run = jax.jit(lambda state: lax.scan(lambda s, _: (step(*s), None), state, None, length=SCAN_STEPS)[0])
    else:
        jitted = jax.jit(step)

        def run(state):
            for _ in range(SCAN_STEPS):
                state = jitted(*state)
            return state

    return lambda: jax.block_until_ready(run((x, kernel, y)))


def inputs(shape: Shape) -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(0)
    draw = functools.partial(generator.standard_normal, dtype=np.float32)
    x = draw((shape.batch, shape.size, shape.size, shape.num_in))
    kernel = draw((shape.kernel, shape.kernel, shape.num_in, shape.num_out)) * 0.01
    return jnp.asarray(x), jnp.asarray(kernel)


def torch_variant(shape: Shape, backward: bool, channels_last: bool):
    """The same steps in PyTorch, on two threads."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, kernel = (torch.from_numpy(np.array(a)) for a in inputs(shape))
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=layout).requires_grad_(shape.needs_dx)
    order = (2, 3, 0, 1) if shape.transposed else (3, 2, 0, 1)
    kernel = kernel.permute(*order).contiguous(memory_format=layout).requires_grad_()
    even = (shape.kernel - shape.strides) % 2
    options = {"stride": shape.strides, "padding": (shape.kernel - shape.strides + even) // 2}
    if shape.transposed:
        conv, options["output_padding"] = torch.nn.functional.conv_transpose2d, even
    else:
        conv = torch.nn.functional.conv2d
    leaves = [x, kernel] if shape.needs_dx else [kernel]

    def run():
        for _ in range(SCAN_STEPS):
            if backward:
                y = conv(x, kernel, **options)
                torch.autograd.grad(y, leaves, y.detach())
            else:
                with torch.no_grad():
                    conv(x, kernel, **options)

    return run


def variants(shape: Shape) -> tuple[dict, dict]:
    """Returns {name: callable} to time, and {name: ms per step} of what was extrapolated instead."""
    ours, theirs = (conv_transpose2d, xla_conv_transpose) if shape.transposed else (conv2d, xla_conv)
    timed, extrapolated = {}, {}
    for direction in ("fwd", "fwd+bwd"):
        backward = direction == "fwd+bwd"
        for place in ("outside", "inside"):
            timed[f"ours {place} {direction}"] = jax_variant(ours, shape, backward, place == "inside")
        timed[f"xla outside {direction}"] = jax_variant(theirs, shape, backward, False)
        name = f"xla inside {direction}"
        probe = jax_variant(theirs, shape._replace(batch=PROBE_BATCH), backward, True)
        probe()
        estimate = seconds(probe) * shape.batch / PROBE_BATCH
        if estimate > SLOW_S:
            extrapolated[name] = 1e3 * estimate / SCAN_STEPS
        else:
            timed[name] = jax_variant(theirs, shape, backward, True)
        if torch is not None:
            timed[f"torch nchw {direction}"] = torch_variant(shape, backward, False)
            timed[f"torch nhwc {direction}"] = torch_variant(shape, backward, True)
    return timed, extrapolated


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(shape: Shape, repetitions: int, budget_s: float) -> dict:
    """Times every variant of one shape in turn, `repetitions` times or until it used its budget."""
    timed, extrapolated = variants(shape)
    spent = {name: [] for name in timed}
    for name, function in timed.items():
        first = seconds(function)  # compiles
        if first > budget_s:
            spent[name].append(seconds(function))
    for _ in range(repetitions):
        for name, function in timed.items():
            if sum(spent[name]) < budget_s:
                spent[name].append(seconds(function))
    per_step = 1e3 / SCAN_STEPS
    return {
        "shape": shape._asdict(),
        "min_ms": {name: per_step * min(times) for name, times in spent.items()} | extrapolated,
        "median_ms": {name: per_step * statistics.median(times) for name, times in spent.items()},
        "extrapolated": sorted(extrapolated),
    } | {"ratios": ratios({name: per_step * min(times) for name, times in spent.items()} | extrapolated)}


def ratios(ms: dict[str, float]) -> dict[str, float]:
    """Our times over the better of XLA's two, and over the better of PyTorch's two layouts."""
    result = {}
    for direction in ("fwd", "fwd+bwd"):
        xla = min(ms[f"xla {place} {direction}"] for place in ("outside", "inside"))
        for place in ("outside", "inside"):
            ours = ms[f"ours {place} {direction}"]
            result[f"{place}/xla {direction}"] = ours / xla
            if torch is not None:
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
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    if torch is not None:
        torch.set_num_threads(2)
    shapes = [s for s in (QUICK if args.quick else SHAPES) if args.only in str(s)]
    report = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "torch": getattr(torch, "__version__", None),
        },
        "scan_steps": SCAN_STEPS,
        "results": {},
    }
    print("ms per step, fastest repetition; ratios of ours to the better of XLA's and of PyTorch's two columns")
    print(
        f"| {'shape':31} | pass    | ours out | ours in | xla out | xla in | torch nchw | nhwc | "
        "out/xla | in/xla | out/torch | in/torch |"
    )
    for shape in shapes:
        result = measure(shape, 5 if args.quick else 15, 1.0 if args.quick else 4.0)
        report["results"][str(shape)] = result
        print_row(shape, result)
        jax.clear_caches()
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
