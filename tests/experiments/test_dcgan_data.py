"""DCGAN's presets on prepared copies in the layout of their data sets: churches, smiling women, SVHN's 1,000 labels."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_tfds
from contexts import at_end

from jaxrepro import config_file
from jaxrepro.config import parse
from jaxrepro.data import load_dataset
from jaxrepro.errors import UserError
from jaxrepro.evaluators import few_labels
from jaxrepro.evaluators.classifier import train_classifier
from jaxrepro.evaluators.dcgan import judged_columns
from jaxrepro.experiments import dcgan
from jaxrepro.loop import train


def config_of(preset, **changes):
    values = config_file.load(f"configs/dcgan.py:{preset}")
    small = {"train.duration": "2 steps", "train.batch_size": 4, "model.base_width": 1, "model.latent": 3}
    small |= {"eval.batch_size": 20, "eval.num_samples": 100, "eval.every": "end", "log.every": "1 steps"}
    for path, value in {**small, **changes}.items():
        config_file.set_value(values, path, value)
    return parse(dcgan.Config, values)


@pytest.mark.parametrize(("preset", "config"), [("lsun_church", "church_outdoor"), ("lsun_bedroom", "bedroom")])
def test_churches_and_bedrooms_of_different_sizes_become_pictures_of_64(preset, config, empty_data_dir):
    tiny_tfds.write_lsun(empty_data_dir / "tfds", config)
    experiment = dcgan.build(config_of(preset))
    assert experiment.source.arrays["image"].shape == (12, 64, 64, 3)
    assert experiment.source.num_examples == 12
    (copies,) = [e for e in experiment.evaluators if e.name == "memorisation"]
    assert copies.arrays.shape == (5, 64, 64, 3)


def test_faces_are_judged_by_the_attributes_of_the_smiling_women(empty_data_dir):
    tiny_tfds.write_celeb_a(empty_data_dir / "tfds")
    config, table = config_of("report"), load_dataset("tfds:celeb_a")["train"]
    assert judged_columns(config.eval, list(table.columns)) == ["Smiling", "Male"]
    rows = dcgan.read(config, table, ["Smiling", "Male"], limit=40)
    assert rows["image"].shape == (40, 64, 64, 3)
    bright = rows["image"][:, 60, 0, 1] > 128
    np.testing.assert_array_equal(bright, rows["Smiling"])


@pytest.mark.slow
def test_smiling_women_are_found_by_the_command_of_the_preset(empty_data_dir):
    tiny_tfds.write_celeb_a(empty_data_dir / "tfds")
    config = config_of("report", **{"eval.judge_steps": 120})
    experiment = dcgan.build(config)
    (arithmetic,) = [e for e in experiment.evaluators if e.name == "arithmetic"]
    state = dcgan.init_state(config, dcgan.make_optimizer(config.optim, 2), jax.random.key(0))
    pictures = arithmetic.fn(state, None, at_end(2)).pictures
    labels = [ax.get_ylabel() for ax in pictures["arithmetic"].axes]
    assert labels == ["Smiling=1,Male=0", "− Smiling=0,Male=0", "+ Smiling=0,Male=1", "= "]


@pytest.mark.slow
def test_the_judge_of_faces_learns_attributes_that_are_booleans(empty_data_dir):
    tiny_tfds.write_celeb_a(empty_data_dir / "tfds")
    config = config_of("report")
    rows = dcgan.read(config, load_dataset(config.data.source)["train"], ["Smiling", "Male"])
    judge = train_classifier(rows["image"], {k: rows[k] for k in ("Smiling", "Male")}, num_steps=120)
    found = {k: np.asarray(v).argmax(1) for k, v in judge(rows["image"]).items()}
    assert (found["Smiling"] == rows["Smiling"]).mean() > 0.95
    assert (found["Male"] == rows["Male"]).mean() > 0.95


def test_svhn_has_gaussian_latents_and_the_articles_protocol_of_1000_labels():
    config = parse(dcgan.Config, config_file.load("configs/dcgan.py:svhn"))
    assert config.model.latent_law == "normal"
    features = config.eval.features
    assert (features.num_labels, features.train, features.valid, features.test) == (
        1000,
        "train[10000:]",
        "train[:10000]",
        "test",
    )
    assert features.c_grid == (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
    with pytest.raises(UserError, match="needs a split to choose C on"):
        dataclasses.replace(features, valid="")


@pytest.mark.slow
def test_the_error_on_few_labels_comes_out_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(few_labels, "NUM_CHOOSING", 1)
    monkeypatch.setattr(few_labels, "NUM_DRAWS", 2)
    labels = np.arange(120) % 10
    images = np.random.default_rng(0).integers(0, 50, (120, 32, 32, 3), np.uint8)
    images[np.arange(120), :, 3 * labels] = 250
    np.savez(tmp_path / "svhn.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    few = {"features.train": "train[40:]", "features.valid": "train[:40]", "features.num_labels": 40}
    few |= {"features.c_grid": (1e-3, 1e-2), "judge": "", "arithmetic.concepts": ()}
    config = config_of(
        "svhn",
        **{"data.source": f"npz:{tmp_path / 'svhn.npz'}", "data.train": "train[40:]", "data.valid": "train[:40]"},
        **{f"eval.{k}": v for k, v in few.items()},
    )
    experiment = dcgan.build(config)
    chosen = [e for e in experiment.evaluators if e.name == "few_labels"]
    assert not [e for e in experiment.evaluators if e.name == "svm_table"]
    results = train(config, dataclasses.replace(experiment, evaluators=chosen), tmp_path / "run")
    errors = {r["row"]: r["value"] for r in results.records}
    assert set(errors) == {"DCGAN + L2-SVM", "random features + L2-SVM", "pixels + L2-SVM"}
    assert errors["pixels + L2-SVM"] < 20
    assert {r["column"] for r in results.records} == {"SVHN 40 labels"}
