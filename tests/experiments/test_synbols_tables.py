"""The protocol of Synbols' tables 1 and 2: sweeps, cells, sources and partitions of the files."""

import jax
import numpy as np
import pytest
from contexts import at
from tiny_supervised import config_of, tiny

from jaxrepro import config_file
from jaxrepro.config import DataConfig, to_dict
from jaxrepro.data.pil_augment import PlusConfig
from jaxrepro.experiments import synbols_supervised as supervised
from jaxrepro.experiments.synbols_supervised import TaskConfig
from jaxrepro.report.reference import load_reference
from jaxrepro.synbols.splits import STANDARD

KEY = jax.random.key(0)
FILES = {"synbols_supervised": "table1", "synbols_ood": "table2"}
IID = "Default i.i.d."


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("preset", ["paper", "report"])
def test_the_sweep_has_every_published_cell_of_its_version_three_times(name, preset):
    points = config_file.sweep_points(f"configs/{name}.py:{preset}")
    cells, version = {}, "v1" if preset == "paper" else "v2"
    for point in points:
        config = config_of(name, preset, point)
        assert config.version == version
        assert (config.train.batch_size, config.optim.lr) == (
            (128, 1e-4) if "WRN" in config.model.name else (512, 4e-4)
        )
        cell = (FILES[name], supervised.row_of(config), config.task.column, "accuracy")
        cells.setdefault(cell, set()).update(config.seeds)
    source = "paper" if preset == "paper" else "repository"
    published = [p for p in load_reference(name, version) if p.source == source and p.metric == "accuracy"]
    printed = {p.cell for p in published if p.column != IID}
    assert set(cells) == printed
    assert set(map(frozenset, cells.values())) == {frozenset({3, 42, 123})}
    assert len(points) == 3 * len(cells)
    assert len({config_file.point_name(p) for p in points}) == len(points)


@pytest.mark.parametrize("preset", ["paper", "report", "small"])
def test_the_iid_column_of_table_2_is_a_run_of_table_1_under_another_name(preset):
    table1, table2 = (config_file.load_module(f"configs/{name}.py") for name in FILES)
    column = "Synbols Default 100k"
    ours = config_of("synbols_ood", preset, table2.columns(preset)[IID])
    points = table1.sweep(preset)
    point = next(p for p in points if p["task.column"] == column and p["model.name"] == "Conv-4 GAP")
    theirs = config_of("synbols_supervised", preset, point)
    a, b = (config_file.flatten(to_dict(config)) for config in (ours, theirs))
    differing = {k for k in a if a[k] != b[k]}
    assert differing == {"experiment", "name", "seeds", "task.column", "data.source"}
    assert ours.data.source == theirs.data.source + "&split=random"


@pytest.mark.parametrize(
    ("source", "partition"),
    [
        ("synbols:default?num_samples=100&split=stratified_font", "stratified_font"),
        ("synbols:default?num_samples=100", "random"),
        ("hdf5:letters.h5?split=stratified_char", "stratified_char"),
        ("tfds:mnist", "official"),
    ],
)
def test_the_facts_of_a_run_are_those_of_its_data(source, partition):
    from jaxrepro.data import table_from_arrays

    tables = {"train": table_from_arrays("train", {"label": np.zeros(7, np.int32)})}
    config = tiny(data=DataConfig(source=source, valid="train[90%:]"), task=TaskConfig(validate_on_test=True))
    assert supervised.facts_of(config, tables, 26, 3) == {
        "num_classes": 26,
        "num_train": 7,
        "num_test": 3,
        "partition": partition,
        "validated_on": "test",
    }


def test_the_two_versions_of_the_data_differ_in_their_letters_only():
    for name in FILES:
        for column in ("Synbols Default 100k", "Stratified Rotation"):
            sources = {}
            for preset in ("paper", "report"):
                points = config_file.sweep_points(f"configs/{name}.py:{preset}")
                found = [config_of(name, preset, p).data.source for p in points if p.get("task.column") == column]
                sources |= {preset: found[0]} if found else {}
            if sources:
                assert sources["paper"].replace("&auxiliary=false", "") == sources["report"]


SPLITS = {  # specified by the paper, and where different by the released code
    "Default i.i.d.": ("random", "random"),
    "Stratified Font": ("stratified_font", "stratified_font_sorted"),
    "Stratified Scale": ("stratified_scale", "stratified_scale"),
    "Stratified Rotation": ("stratified_rotation", "stratified_rotation"),
    "Compositional Rot-Scale": ("compositional_rotation_scale", "compositional_rotation_scale_60_80"),
    "Stratified x-Translation": ("stratified_translation-x", "stratified_translation-x"),
    "Less Variations Stratified Char": ("stratified_char", "stratified_char_sorted"),
}


@pytest.mark.parametrize("preset", ["paper", "report"])
def test_every_column_out_of_distribution_has_its_own_partition(preset):
    for point in config_file.sweep_points(f"configs/synbols_ood.py:{preset}"):
        config = config_of("synbols_ood", preset, point)
        data, _, split = config.data.source.rpartition("&split=")
        assert split == SPLITS[config.task.column][preset == "report"]
        assert split in STANDARD
        fonts = config.task.column.startswith("Less")
        assert config.task.label == ("font" if fonts else "label")
        assert data.startswith("synbols:less-variations?" if fonts else "synbols:default?")


def test_a_trimmed_part_has_as_many_of_every_letter():
    config = tiny(task=TaskConfig(trim=(6, 6, 6), image_size=8))
    for table in supervised.load(config).values():
        assert np.bincount(table.arrays()["label"]).max() == 1


def test_digits_are_classified_on_their_official_test_set_which_also_validates():
    config = tiny(data=DataConfig(source="mnist5k", valid="test"), augment=PlusConfig(plus=True))
    experiment = supervised.build(config)
    state = jax.eval_shape(experiment.init, at(), ())
    assert state.variables["params"]["Conv_0"]["kernel"].shape == (3, 3, 1, 2)
    assert state.variables["params"]["Dense_0"]["bias"].shape == (10,)
    valid, test = experiment.transitions[0].arrays, experiment.evaluators[0].arrays
    np.testing.assert_array_equal(valid["image"], test["image"])


def test_an_epoch_of_sixty_thousand_images_has_118_or_469_steps():
    from jaxrepro.data import make_source, table_from_arrays

    table = table_from_arrays("t", {"x": np.zeros(60_000, np.uint8)})
    for batch_size, steps in ((512, 118), (128, 469)):
        source, _ = make_source(table, batch_size, columns=("x",), resident_limit_mb=1, whole_epochs=True)
        assert source.steps_per_epoch == steps


def test_num_params_of_print_mode_are_the_published_ones():
    shapes = jax.eval_shape(lambda: supervised.init_params(config_of("synbols_supervised"), KEY))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 395_578
