"""A classifier of fonts, whose mean features tell which fonts look alike.

python launch.py --config=configs/synbols_fonts.py              # Conv-4 GAP on 100k letters in black and white
python launch.py --config=configs/synbols_fonts.py:small        # 20k letters, for a processor without GPU
python launch.py --config=configs/synbols_fonts.py:smoke        # 6,000 letters
python -m jaxrepro.synbols similar --embeddings=runs/synbols_fonts-paper/arrays/font_embeddings.npz --out=similar.txt

The authors chose the fonts of Synbols this way (specification of release 1.0.2): 100,000 images of default-bw with
standard letters, a ResNet-12 (`--config.model.name=ResNet-12`), the mean embedding of each font, 100 merges by Ward's
method. All families take part, near-duplicates too; `&fonts_dir=FOLDER` in the source adds yours.
"""

import dataclasses
from pathlib import Path

from jaxrepro.config import DataConfig
from jaxrepro.config_file import load_module, make_config
from jaxrepro.experiments.synbols_supervised import TaskConfig

table1 = load_module(str(Path(__file__).with_name("synbols_supervised.py")))
SOURCE = "synbols:default-bw?num_samples={}&auxiliary=false&near_duplicates=true"

PAPER = dataclasses.replace(
    table1.PAPER,
    name="synbols_fonts",
    seeds=(3,),
    data=DataConfig(source=SOURCE.format(100_000)),
    task=TaskConfig(column="Fonts, black and white", label="font", num_classes=1285, num_train=60_000),
)

NUM_SAMPLES = {"small": 20_000, "smoke": 6_000}
PRESETS = {
    preset: table1.PRESETS[preset] | {"data.source": SOURCE.format(size), "task.column": PAPER.task.column}
    for preset, size in NUM_SAMPLES.items()
}


def get_config(preset: str = "paper"):
    return make_config(PAPER, preset, PRESETS)
