"""Statistics of every Synbols dataset beside those of the original, and a hash of what each holds.

    python benchmarks/synbols_statistics.py --json=now.json
    python benchmarks/synbols_statistics.py --json=before.json --code=OTHER_CHECKOUT
    python benchmarks/synbols_statistics.py --table=benchmarks/results/synbols-statistics.md before.json now.json

mean, std      averages over images of an image's mean and standard deviation, 0 … 255
coverage       mean of the first mask / 255; where masks are flattened, the labelled share
empty          share of images whose mask is all 0

The original's were measured with 300 random families of Google Fonts on 1,200 images (80 of counting and segmentation,
150 of camouflage); an average over those is known to about one standard error, which the table gives in brackets.
Hashes are sha256 of the first images, masks and attributes with seed 0: equal ones mean equal bits.
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np

# Mean, std, coverage, empty of the original.
PUBLISHED = {
    "plain": (65.5, 98.1, 0.257, 0.0),
    "default": (127.5, 67.5, 0.117, 0.002),
    "default-bw": (126.2, 70.4, 0.117, 0.002),
    "less-variations": (127.0, 67.1, 0.066, 0.002),
    "camouflage": (126.8, 58.6, 0.170, 0.0),
    "non-camou-bw": (127.5, 85.4, 0.166, 0.0),
    "large-translation": (127.6, 67.4, 0.062, 0.023),
    "missing-symbol": (129.2, 54.3, 0.107, 0.074),
    "some-large-occlusion": (127.5, 67.3, 0.117, 0.002),
    "many-small-occlusion": (127.5, 64.8, 0.117, 0.002),
    "pixel-noise": (127.4, 69.0, 0.117, 0.002),
    "tiny": (129.8, 82.9, 0.235, 0.002),
    "counting": (124.0, 59.2, 0.045, 0.0),
    "counting-fix-scale": (123.8, 58.7, 0.032, 0.0),
    "segmentation": (126.6, 60.5, 0.034, 0.0),
}
NAMES = ("mean", "std", "coverage", "empty")
COMPAT = ("default", "v1")
NUM_HASHED = 40
LARGE = ("segmentation", "counting")


def measure(name: str, compat: str, num_images: int) -> dict:
    """Returns statistics with their standard errors, and hashes, of a dataset."""
    from jaxrepro.synbols.generate import render_arrays
    from jaxrepro.synbols.predefined import dataset

    made = dataset(name, **({} if compat == "default" else {"compat": compat}))
    is_large = name.startswith(LARGE)
    wanted = max(1, num_images // (8 if is_large else 1))
    sums, hashes = [], {}
    for first in range(0, wanted, NUM_HASHED):
        rows = range(first, min(first + NUM_HASHED, wanted))
        x, mask, attributes = render_arrays(made, 0, rows)
        if not first:
            parts = {"x": x.tobytes(), "mask": mask.tobytes(), "y": json.dumps(attributes).encode()}
            hashes = {k: hashlib.sha256(v).hexdigest()[:12] for k, v in parts.items()}
        cover = (mask > 0) if mask.ndim == 3 else mask[..., 0] / 255
        flat, cover = x.reshape(len(x), -1), cover.reshape(len(x), -1)
        sums.append(np.stack([flat.mean(1), flat.std(1), cover.mean(1), ~cover.any(1)], axis=1))
    values = np.concatenate(sums)
    return {
        "values": values.mean(0).tolist(),
        "errors": (values.std(0) / math.sqrt(len(values))).tolist(),
        "num_images": len(values),
        "hashes": hashes,
        "fonts": len(made.font_names),
        "symbols": len(made.symbols),
    }


def measure_all(num_images: int) -> dict:
    from jaxrepro.errors import UserError
    from jaxrepro.synbols.predefined import DATASETS

    found = {}
    for name in DATASETS:
        for compat in COMPAT:
            try:
                found[f"{name} {compat}"] = measure(name, compat, num_images)
            except UserError as error:
                found[f"{name} {compat}"] = {"error": str(error)}
            print(name, compat, json.dumps(found[f"{name} {compat}"])[:160], file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_images", type=int, default=1200, help="an eighth of it for 128×128")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--code", type=Path, default=Path(__file__).parent.parent, help="the checkout to measure")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.code))
    arguments.json.write_text(json.dumps(measure_all(arguments.num_images), indent=1))


if __name__ == "__main__":
    main()
