"""Table 2 of Synbols: the classifiers of table 1 on test images unlike those of training.

python launch.py --config=configs/synbols_ood.py             # Conv-4 GAP, tested on the largest rotations
python launch.py --config=configs/synbols_ood.py:report      # data and partitions of the authors' later table
python launch.py --config=configs/synbols_ood.py:small --sweep   # 20k letters, for a processor without GPU
python launch.py --config=configs/synbols_ood.py:smoke       # 6,000 letters
python launch.py --config=configs/synbols_ood.py --sweep     # all cells of the table, 3 seeds each, but for i.i.d.
python -m jaxrepro.report runs/synbols_supervised-paper/sweep/* runs/synbols_ood-paper/sweep/* --out=report

Only the partition differs from table 1. Validation images are unlike those of training too, in another way than the
test images, and drive the learning rate. The i.i.d. column is table 1's: give a report the runs of both.
"""

import dataclasses
from pathlib import Path

from jaxrepro.config import DataConfig
from jaxrepro.config_file import load_module, make_config
from jaxrepro.experiments.synbols_supervised import TaskConfig

table1 = load_module(str(Path(__file__).with_name("synbols_supervised.py")))

PAPER = dataclasses.replace(
    table1.PAPER,
    experiment="synbols_ood",
    name="synbols_ood",
    data=DataConfig(source="synbols:default?num_samples=100000&auxiliary=false&split=stratified_rotation"),
    task=TaskConfig(column="Stratified Rotation", label="label", num_classes=26, num_train=60_000),
)

COLUMN = {"smoke": {"task.column": "Black and white, rotation"}}
PRESETS = {
    preset: changes | {"data.source": changes["data.source"] + "&split=stratified_rotation"} | COLUMN.get(preset, {})
    for preset, changes in table1.PRESETS.items()
}

IID, ROTATION_SCALE, LESS = "Default i.i.d.", "Compositional Rot-Scale", "Less Variations Stratified Char"

# Column of the table: the partition of the default data. The authors' later numbers are on other ones where `report`
# says so: fonts in alphabetical order, and borders at 60 and 80 % where the paper's figure has 20 and 80 %.
SPLITS = {
    IID: "random",
    "Stratified Font": "stratified_font",
    "Stratified Scale": "stratified_scale",
    "Stratified Rotation": "stratified_rotation",
    ROTATION_SCALE: "compositional_rotation_scale",
    "Stratified x-Translation": "stratified_translation-x",
}
REPORT_SPLITS = SPLITS | {
    "Stratified Font": "stratified_font_sorted",
    ROTATION_SCALE: "compositional_rotation_scale_60_80",
}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)


def columns(preset: str):
    """Returns column -> overrides."""
    v2, small = preset == "report", preset == "small"
    letters, chars, fonts = ("", 48, 1120) if v2 else ("&auxiliary=false", 26, 888)

    def synbols(name, split, num_samples=20_000 if small else 100_000):
        return f"synbols:{name}?num_samples={num_samples}{letters}&split={split}"

    found = {
        name: table1.column(name, synbols("default", split), chars)
        for name, split in (REPORT_SPLITS if v2 else SPLITS).items()
    }
    if v2:
        found[ROTATION_SCALE]["task.num_train"] = 44_000
    else:  # the paper took a million images, and of those of each part as many as elsewhere
        num_samples, trim = (30_000, (12_000, 4_000, 4_000)) if small else (1_000_000, (60_000, 20_000, 20_000))
        source = synbols("default", SPLITS[ROTATION_SCALE], num_samples)
        found[ROTATION_SCALE] |= {"data.source": source, "task.trim": trim}
    if small:  # a font in twenty thousand images has too few of them
        return found
    split = "stratified_char_sorted" if v2 else "stratified_char"
    return found | {LESS: table1.column(LESS, synbols("less-variations", split), fonts, label="font")}


def sweep(preset: str = "paper"):
    """The cells of table 2 with a seed each; for `small` light models, for `smoke` one on two partitions.

    Not the i.i.d. column: those are the runs of table 1's "Synbols Default 100k", from which a report takes them.
    """
    if preset == "smoke":
        source = table1.SMOKE["data.source"]
        return [
            {"task.column": f"Black and white, {name}", "data.source": f"{source}&split={split}"}
            for name, split in (("i.i.d.", "random"), ("rotation", "stratified_rotation"))
        ]
    models = table1.LIGHT if preset == "small" else table1.MODELS
    own = [overrides for name, overrides in columns(preset).items() if name != IID]
    return table1.cells(get_config(preset), own, models)
