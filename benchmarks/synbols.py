"""How fast the Synbols generator is, and where the time goes.

    python benchmarks/synbols.py [--rounds=5] [--share=1.0] [--out=benchmarks/results/synbols-cpu.json]

Four ways to make the same images, in turn within each round; the figures are medians over rounds:

  render    draw latent values, render, aggregate masks; arrays in memory; one process
  1 worker  the same into an HDF5 file with all attributes and splits
  2 workers the same file from two processes
  2 files   two files of half the images, from two processes that know nothing of each other: what the machine's two
            cores give at best

A round also times what rendering consists of, each part alone and in one process. `render` and the parts are in CPU
seconds, which other programs disturb less; files are in seconds by the clock. A fixed piece of NumPy work, `yardstick`,
tells machines and their load apart. The first round fills the cache of outlines and is dropped. Numbers of images are
such that a file takes some two seconds; `--share=3` takes more, so that the start of processes counts for less.

First of all, what a piece takes: bytes of the samples that a worker holds, at most, and of the largest process that
writes a file of images of 1,024 pixels.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # "per core" means one core
sys.path.insert(0, str(Path(__file__).parent.parent))

import cairo
import numpy as np

from jaxrepro.synbols import drawing, generate
from jaxrepro.synbols.blocks import MOST_ROWS, layout_of
from jaxrepro.synbols.fonts import find_fonts, fingerprint
from jaxrepro.synbols.postprocess import finish, pixel_noise
from jaxrepro.synbols.symbols import attributes_of

CASES = {  # dataset, options, images
    "default 32": ("default", {}, 10_000),
    "default 64": ("default", {"resolution": (64, 64)}, 6_000),
    "camouflage 32": ("camouflage", {}, 3_000),
    "counting 128": ("counting", {}, 3_000),
}
LARGE, NUM_LARGE = 1024, 48  # pixels and images of the last measurement
GOALS = {"default 32": 5000, "camouflage 32": 1500, "counting 128": 1500}  # images/s of one core


def seconds(work, clock=time.process_time) -> float:
    start = clock()
    work()
    return clock() - start


def yardstick() -> None:
    values = np.arange(200_000, dtype=np.float64)
    for _ in range(20):
        np.sort(np.sin(values))


def make_file(recipe: generate.Recipe, num_images: int, workers: int, folder: str) -> None:
    path = Path(folder) / "images.h5"
    path.unlink(missing_ok=True)
    generate.generate_file(recipe, num_images, path, workers=workers)


def make_two_files(recipe: generate.Recipe, num_images: int, folder: str) -> None:
    context, halves = multiprocessing.get_context("spawn"), [tempfile.mkdtemp(dir=folder) for _ in range(2)]
    processes = [context.Process(target=make_file, args=(recipe, num_images // 2, 1, half)) for half in halves]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit(f"a process ended with {process.exitcode}")


def render(made, num_images: int) -> None:
    """Makes the images in pieces, as the workers of a file do."""
    for first in range(0, num_images, MOST_ROWS):
        generate.render_arrays(made, 0, range(first, min(first + MOST_ROWS, num_images)))


def profile(made, num_images: int) -> dict[str, float]:
    """Returns seconds for each part of rendering, on the images 0 … num_images - 1."""
    images, found, parts = [], [], {}

    def measure(function, items) -> float:
        """Returns the seconds of calling a function on each item; results are dropped at once."""

        def calls() -> None:
            for item in items:
                function(item)

        return seconds(calls)

    parts["latent values"] = measure(lambda i: images.append(made.sampler(generate.generator(0, i))), range(num_images))
    width, height = images[0].resolution
    canvas = np.zeros((4, height, width, 4), np.uint8)
    parts["colours of background"] = measure(lambda i: i.background.source(i.resolution), images)
    parts["colours of symbols"] = measure(lambda i: [s.foreground.source(i.resolution) for s in i.symbols], images)
    parts["coverage (masks)"] = measure(drawing.draw_masks, images)
    drawn = measure(lambda i: drawing._draw(i, canvas[0]), images)
    parts["painting and compositing"] = drawn - sum(v for k, v in parts.items() if k != "latent values")
    parts["noise"] = measure(lambda i: pixel_noise(i.seed, (3, height, width), 1.0), images)
    groups = [images[k : k + 4] for k in range(0, num_images - 3, 4)]
    parts["contrast, rounding"] = measure(lambda group: finish(canvas, group), groups) - parts["noise"]
    found.extend(map(drawing.draw_masks, images))
    parts["aggregated masks"] = measure(made.mask_aggregator, found) if made.mask_aggregator else 0.0
    parts["attributes"] = measure(lambda i: json.dumps(attributes_of(i)), images)
    return parts


def bench(name: str, share: float, rounds: int, folder: str) -> dict:
    key, options, num_images = CASES[name]
    num_images = round(share * num_images)
    recipe = generate.Recipe(key, seed=0, options=options)
    made = recipe.load()
    variants = {
        "render": lambda: render(made, num_images),
        "1 worker": lambda: make_file(recipe, num_images, 1, folder),
        "2 workers": lambda: make_file(recipe, num_images, 2, folder),
        "2 files": lambda: make_two_files(recipe, num_images, folder),
        "yardstick": yardstick,
    }
    times = {k: [] for k in variants}
    parts = []
    for _ in range(rounds + 1):
        for variant, run in variants.items():
            clock = time.perf_counter if variant[0].isdigit() else time.process_time
            times[variant].append(seconds(run, clock))
        parts.append(profile(made, min(num_images, 2000)))

    def ratio(slow: str, fast: str) -> float:
        return statistics.median(a / b for a, b in zip(times[slow][1:], times[fast][1:]))

    rate = {k: num_images / statistics.median(v[1:]) for k, v in times.items()}
    each = {k: statistics.median(p[k] for p in parts[1:]) / min(num_images, 2000) * 1e6 for k in parts[0]}
    result = {
        "images": num_images,
        "images_per_s_render": rate["render"],
        "images_per_s_render_rounds": [num_images / t for t in times["render"][1:]],
        "images_per_s_file_1_worker": rate["1 worker"],
        "images_per_s_file_2_workers": rate["2 workers"],
        "two_workers_over_one": ratio("1 worker", "2 workers"),
        "two_workers_over_two_files": ratio("2 files", "2 workers"),
        "goal_images_per_s": GOALS.get(name),
        "bytes_per_image": (Path(folder) / "images.h5").stat().st_size / num_images,
        "microseconds_per_image": each,
        "yardstick_s": statistics.median(times["yardstick"][1:]),
        "alphabet": {"fonts": len(made.font_names), "symbols": len(made.symbols)},
    }
    print(
        f"{name:14} render {rate['render']:7.0f}/s   file {rate['1 worker']:7.0f}/s   two workers "
        f"{rate['2 workers']:7.0f}/s ({result['two_workers_over_one']:.2f} times one, "
        f"{result['two_workers_over_two_files']:.2f} times two files)"
        f"   {result['bytes_per_image']:8.0f} bytes/image"
    )
    print("   " + "   ".join(f"{k} {v:.0f} us" for k, v in each.items()))
    return result


def large_images(folder: str) -> dict:
    """Returns bytes of a piece at 1,024 pixels, and of the largest process that writes a file of such images."""
    shape = (LARGE, LARGE)
    layout = layout_of((*shape, 3), (*shape, 1), NUM_LARGE)
    command = [sys.executable, "-m", "jaxrepro.synbols", "generate", f"--resolution={LARGE}", "--no_preview"]
    command += [f"--num_samples={NUM_LARGE}", "--workers=2", f"--out={Path(folder) / 'large.h5'}"]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent, stderr=subprocess.DEVNULL)
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result = {
        "pixels": LARGE,
        "images_of_a_piece": layout.group,
        "bytes_of_a_piece": layout.group * LARGE * LARGE * 4,
        "bytes_of_the_largest_process": 1024 * kilobytes,
    }
    print(
        f"a piece of {LARGE} pixels: {result['bytes_of_a_piece'] / 2**20:.0f} MiB, process {kilobytes / 1024:.0f} MiB"
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the numbers of images")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    fonts = find_fonts()
    results = {
        "command": " ".join(["python", *sys.argv]),
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cairo": cairo.cairo_version_string(),
        "generator": drawing.GENERATOR_VERSION,
        "fonts": {"families": len(fonts), "fingerprint": fingerprint(fonts)},
    }
    with tempfile.TemporaryDirectory() as folder:
        results["large images"] = large_images(folder)  # first: the workers of the others are children, too
        for name in arguments.only:
            results[name] = bench(name, arguments.share, arguments.rounds, folder)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
