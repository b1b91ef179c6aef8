"""Statistics of every Synbols dataset beside the original's, and which bits changed since an earlier version.

    python benchmarks/synbols_statistics.py measure --out=now.json
    python benchmarks/synbols_statistics.py measure --out=same_fonts.json --fonts=regular
    python benchmarks/synbols_statistics.py measure --out=before.json --code=CHECKOUT_OF_THE_EARLIER_VERSION
    python benchmarks/synbols_statistics.py table before.json same_fonts.json now.json > synbols-statistics.md

mean, std   averages over images of an image's mean and standard deviation, 0 … 255
coverage    mean of the first mask / 255; where masks are flattened, the labelled share
empty       share of images whose mask is all 0

The original's were measured with 300 random families of Google Fonts on 1,200 images (80 of counting and segmentation,
150 of camouflage). Its families are others than ours, so coverage is also measured as the original would draw the same
letters of our fonts: with cairo's toy text, hinted. Hashes are sha256 of the first 40 images (`x`), masks and
attributes (`y`) with seed 0. `--fonts=regular` takes the fonts of the first edition: Regular for Medium, and
near-duplicates too.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

# mean, std, coverage, empty of the original
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
COMPAT = {"default": {}, "v1": {"compat": "v1"}}
LARGE = ("segmentation", "counting")  # 128 × 128 pixels: fewer images
BATCH = 40


def measure(name: str, compat: str, num_images: int, fonts, with_original: bool) -> dict:
    """Returns statistics with their standard errors, and hashes, of a dataset."""
    from jaxrepro.synbols.generate import render_arrays
    from jaxrepro.synbols.predefined import dataset

    made = dataset(name, fonts=fonts, **COMPAT[compat])
    sums, hashes = [], {}
    for first in range(0, num_images, BATCH):
        x, mask, attributes = render_arrays(made, 0, range(first, min(first + BATCH, num_images)))
        parts = {"x": x.tobytes(), "mask": mask.tobytes(), "y": json.dumps(attributes).encode()}
        hashes = hashes or {k: hashlib.sha256(v).hexdigest()[:12] for k, v in parts.items()}
        cover = ((mask > 0) if mask.ndim == 3 else mask[..., 0] / 255).reshape(len(x), -1)
        flat = x.reshape(len(x), -1)
        sums.append(np.stack([flat.mean(1), flat.std(1), cover.mean(1), ~cover.any(1)], axis=1))
    values = np.concatenate(sums)
    found = {"values": values.mean(0).tolist(), "errors": (values.std(0) / math.sqrt(len(values))).tolist()}
    found |= {"hashes": hashes, "fonts": len(made.font_names), "symbols": len(made.symbols)}
    if with_original and compat == "v1" and name in PUBLISHED:
        found["original"] = original(made, num_images)
    return found


def original(made, num_images: int) -> tuple[float, float]:
    """Returns coverage and empty of the same letters as the original draws them."""
    import cairo
    from toy_text import toy_mask

    from jaxrepro.synbols.generate import generator

    is_flat = getattr(made.mask_aggregator, "__name__", "") == "flatten_mask"
    found = []
    for i in range(num_images):
        image = made.sampler(generator(0, i))
        symbols = image.symbols if is_flat else image.symbols[:1]
        masks = np.stack([toy_mask(s, image.resolution[0], cairo.HINT_STYLE_SLIGHT) for s in symbols])
        cover = (masks > 2).any(axis=0) if is_flat else masks[0] / 255
        found.append((cover.mean(), not cover.any()))
    return tuple(np.mean(found, axis=0).tolist())


def use_our_fonts_only(fonts, folder: str) -> None:
    """Tells fontconfig, which reads this on its first use, where the fonts are; hints and bold as on Debian."""
    dirs = "".join(f"<dir>{d}</dir>" for d in sorted({str(Path(f.regular.path).parent) for f in fonts}))
    bold = """<match target="font"><test name="weight" compare="less_eq"><const>medium</const></test>
        <test target="pattern" name="weight" compare="more_eq"><const>bold</const></test>
        <edit name="embolden" mode="assign"><bool>true</bool></edit></match>"""
    path = Path(folder) / "fonts.conf"
    path.write_text(f"<fontconfig>{dirs}<cachedir>{folder}</cachedir>{bold}</fontconfig>")
    os.environ["FONTCONFIG_FILE"] = str(path)


def measure_all(num_images: int, which: str, with_original: bool) -> dict:
    from jaxrepro.errors import UserError
    from jaxrepro.synbols.fonts import find_fonts
    from jaxrepro.synbols.predefined import DATASETS

    fonts = find_fonts(**{"normal_weight": 400, "near_duplicates": True} if which == "regular" else {})
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        use_our_fonts_only(fonts, folder)
        for name in DATASETS:
            for compat in COMPAT:
                count = max(1, num_images // 8) if name.startswith(LARGE) else num_images
                try:
                    found[f"{name} {compat}"] = measure(name, compat, count, fonts, with_original)
                except UserError as error:
                    found[f"{name} {compat}"] = {"error": str(error)}
                print(name, compat, file=sys.stderr, flush=True)
    return found


def table(before: dict, same_fonts: dict, now: dict) -> str:
    lines = [_heading(now)]
    for i, statistic in enumerate(NAMES):
        lines += ["", f"## {statistic}", ""]
        with_letters = statistic in ("coverage", "empty")
        letters = " its letters in our fonts |" if with_letters else ""
        lines += [f"| dataset | original |{letters} default before | now | v1 before | now |"]
        lines += ["|---" * (7 if with_letters else 6) + "|"]
        for name in dict.fromkeys(key.split()[0] for key in now):
            found = now[f"{name} default"]
            if "values" not in found or (statistic == "empty" and name not in PUBLISHED and not found["values"][i]):
                continue
            cells = [name, _number(PUBLISHED[name][i], i) if name in PUBLISHED else "–"]
            if with_letters:
                own = now[f"{name} v1"].get("original")
                cells.append(_number(own[i - 2], i) if own else "–")
            for compat in COMPAT:
                cells += [_cell(found[f"{name} {compat}"], i) for found in (before, now)]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", _nearer(now, i)]
    return "\n".join([*lines, "", "## Bits", "", *_bits(before, same_fonts, now)]) + "\n"


def _heading(now: dict) -> str:
    fonts, symbols = (now["default default"][k] for k in ("fonts", "symbols"))
    return (
        "# Synbols: statistics of every dataset beside the original's\n\n"
        "    python benchmarks/synbols_statistics.py measure --out=before.json --code=CHECKOUT_OF_THE_EARLIER_VERSION\n"
        "    python benchmarks/synbols_statistics.py measure --out=same_fonts.json --fonts=regular\n"
        "    python benchmarks/synbols_statistics.py measure --out=now.json\n"
        "    python benchmarks/synbols_statistics.py table before.json same_fonts.json now.json\n\n"
        f"With the extra `fonts` installed; `default` has {fonts} families and {symbols} symbols. In brackets the "
        "standard error in units of the last digit. The original's numbers come from 300 other families, so no exact "
        "agreement is to be expected; where its letters in our fonts are given, that is what to compare with."
    )


def _number(value: float, i: int) -> str:
    return f"{value:.1f}" if i < 2 else f"{value:.3f}"


def _cell(found: dict, i: int) -> str:
    if "values" not in found:
        return "–"
    digits = 10 if i < 2 else 1000
    return f"{_number(found['values'][i], i)} ({max(1, round(found['errors'][i] * digits))})"


def _nearer(now: dict, i: int) -> str:
    """Returns in how many datasets v1 is nearer than the default; nearly equal ones are counted as equal."""
    said = []
    references = {"the original's numbers": lambda n: PUBLISHED[n][i]}
    if i >= 2:
        references["its letters in our fonts"] = lambda n: now[f"{n} v1"]["original"][i - 2]
    for what, reference in references.items():
        counts = {"nearer": [], "equal": [], "farther": []}
        for name in PUBLISHED:
            default, v1 = (abs(now[f"{name} {c}"]["values"][i] - reference(name)) for c in COMPAT)
            error = now[f"{name} v1"]["errors"][i] / 4
            kind = "equal" if abs(v1 - default) <= error else "nearer" if v1 < default else "farther"
            counts[kind].append(name)
        farther = f" ({', '.join(counts['farther'])})" if counts["farther"] else ""
        numbers = {kind: len(names) for kind, names in counts.items()}
        said.append(
            f"To {what}, v1 is nearer than the default in {numbers['nearer']} of {len(PUBLISHED)} datasets, equal to a "
            f"quarter of the standard error in {numbers['equal']}, farther in {numbers['farther']}{farther}."
        )
    return " ".join(said)


def _bits(before: dict, same_fonts: dict, now: dict) -> list[str]:
    lines = ["| dataset | | x | mask | y | why |", "|---|---|---|---|---|---|"]
    for key, found in now.items():
        name, compat = key.split()
        if "hashes" not in found or "hashes" not in before.get(key, {}):
            continue
        cells, reasons = [], []
        for part, value in found["hashes"].items():
            old, same = before[key]["hashes"][part], same_fonts[key]["hashes"][part]
            cells.append(value if value == old else f"{old} → {value}")
            if value != old and same == old:
                reasons.append("fonts")
            elif value != old:
                reasons.append(
                    "labels" if part == "y" and name == "label-noise" else "hints" if compat == "v1" else "?"
                )
        lines.append(f"| {name} | {compat} | {' | '.join(cells)} | {', '.join(dict.fromkeys(reasons))} |")
    return [
        *lines, "",
        "fonts: with the fonts of before (`--normal_weight=400 --near_duplicates`) the bits are those of before; "
        "letters that are not bold are Medium now where a family has it, and near-duplicates are left out of Latin "
        "alphabets. hints: v1 measures letters as the original's hinted ones, and `overlap_score` in y follows. "
        "labels: `drawn_char` is in every row of label-noise. Every file has another sha256, whatever its samples, "
        "because its header holds the generator's version 3, what the sampler declares and a note.",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--num_images", type=int, default=1200, help="an eighth of it for 128 × 128 pixels")
    one.add_argument("--fonts", choices=("today", "regular"), default="today")
    one.add_argument("--code", type=Path, help="the checkout to measure; default: this one")
    one = commands.add_parser("table")
    one.add_argument("files", type=Path, nargs=3, metavar="JSON")
    arguments = parser.parse_args()
    if arguments.command == "table":
        print(table(*(json.loads(path.read_text()) for path in arguments.files)), end="")
        return
    here = Path(__file__).parents[1]
    sys.path[:0] = [str(arguments.code or here), str(here / "tests" / "synbols")]
    with_original = arguments.code is None and arguments.fonts == "today"
    arguments.out.write_text(json.dumps(measure_all(arguments.num_images, arguments.fonts, with_original), indent=1))


if __name__ == "__main__":
    main()
