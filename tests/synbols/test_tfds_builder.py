"""A TensorFlow Dataset made by Beam's local runner holds the samples of the generator."""

import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.synbols import tfds_builder
from jaxrepro.synbols.columns import attribute_columns
from jaxrepro.synbols.generate import Recipe, render_arrays
from jaxrepro.synbols.splits import random_split

N = 300


def test_examples_are_the_samples_of_these_numbers():
    recipe = Recipe("less-variations", 4)
    rows = np.array([3, 8, 9, 200])
    made = recipe.load()
    x, _, attributes = render_arrays(made, 4, range(201))
    columns = attribute_columns(attributes, sorted(made.symbols), sorted(made.font_names))
    from PIL import Image

    for (row, example), expected in zip(tfds_builder.render_examples(rows, recipe), rows, strict=True):
        assert row == expected
        np.testing.assert_array_equal(np.asarray(Image.open(example["image"])), x[row])
        assert {k: v for k, v in example.items() if k != "image"} == {k: a[row] for k, a in columns.items()}


def test_gray_images_keep_their_single_channel():
    from PIL import Image

    ((_, example),) = tfds_builder.render_examples(np.array([5]), Recipe("tiny"))
    assert np.asarray(Image.open(example["image"])).shape == (8, 8)


def test_bad_input_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="did you mean 'default'"):
        tfds_builder.builder("defalt", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="4 samples; three splits need at least 5"):
        tfds_builder.builder(num_samples=4, data_dir=str(tmp_path))


def test_beam_writes_every_sample_once_into_its_part(tmp_path):
    pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")
    make = tfds_builder.builder("default", num_samples=N, seed=7, data_dir=str(tmp_path), resolution=16)
    make.download_and_prepare()
    made = Recipe("default", 7, {"resolution": 16}).load()
    x, _, attributes = render_arrays(made, 7, range(N))
    columns = attribute_columns(attributes, sorted(made.symbols), sorted(made.font_names))
    for part, rows in random_split(N).rows().items():
        found = list(make.as_data_source(part))
        assert len(found) == len(rows)
        # TFDS shuffles by a hash of the key, so examples are compared as sets.
        expected = {(x[i].tobytes(), int(columns["label"][i]), float(columns["scale"][i])) for i in rows}
        assert {(e["image"].tobytes(), int(e["label"]), float(e["scale"])) for e in found} == expected
    assert make.info.features["label"].names == sorted(made.symbols)
