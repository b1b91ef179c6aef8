"""A TensorFlow Dataset made by Beam's local runner holds the samples of the generator."""

import numpy as np
import pytest
from box_fonts import box_font, sizes

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
        found = {k: v for k, v in example.items() if k not in ("image", "symbols")}
        assert found == {k: a[row] for k, a in columns.items()}
        assert {k: v.tolist() for k, v in example["symbols"].items()} == {
            k: [columns[k][row]] for k in tfds_builder.SYMBOL_TYPES
        }


def test_every_symbol_is_kept_and_occlusions_are_no_class():
    recipe = Recipe("many-small-occlusion", 4)
    _, mask, attributes = render_arrays(recipe.load(), 4, range(20))
    examples = [e for _, e in tfds_builder.render_examples(np.arange(20), recipe, masks=True)]
    assert {len(e["symbols"]["scale"]) for e in examples} == {1, 2, 3, 4, 5}
    for example, row, expected in zip(examples, attributes, mask, strict=True):
        symbols = row["symbols"]
        np.testing.assert_array_equal(example["mask"], expected)
        np.testing.assert_allclose(example["symbols"]["rotation"], [s["rotation"] for s in symbols], rtol=1e-6)
        np.testing.assert_allclose(
            example["symbols"]["translation_y"], [s["translation"][1] for s in symbols], rtol=1e-6
        )
        assert example["symbols"]["label"][0] == example["label"] >= 0
        assert set(example["symbols"]["label"][1:].tolist()) <= {-1}
        assert set(example["symbols"]["font"][1:].tolist()) <= {-1}


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
    make = tfds_builder.builder("default", num_samples=N, seed=7, data_dir=str(tmp_path), resolution=16, masks=True)
    make.download_and_prepare()
    made = Recipe("default", 7, {"resolution": 16}).load()
    x, mask, attributes = render_arrays(made, 7, range(N))
    columns = attribute_columns(attributes, sorted(made.symbols), sorted(made.font_names))
    for part, rows in random_split(N).rows().items():
        found = list(make.as_data_source(part))
        assert len(found) == len(rows)
        # TFDS shuffles by a hash of the key, so examples are compared as sets.
        expected = {
            (x[i].tobytes(), mask[i].tobytes(), int(columns["label"][i]), float(columns["scale"][i])) for i in rows
        }
        assert expected == {
            (e["image"].tobytes(), e["mask"].tobytes(), int(e["label"]), float(e["symbols"]["scale"][0])) for e in found
        }
    assert make.info.features["label"].names == sorted(made.symbols)


def test_fonts_and_pictures_of_your_own_name_the_prepared_dataset(tmp_path):
    from PIL import Image

    from jaxrepro.synbols.generate import FontSearch

    letters = "abcdefghijklmnopqrstuvwxyz"
    (tmp_path / "fonts").mkdir()
    box_font(tmp_path / "fonts" / "boxes.ttf", "Boxes", sizes(letters))
    Image.fromarray(np.arange(4800, dtype=np.uint8).reshape(40, 40, 3)).save(tmp_path / "a.png")
    make = tfds_builder.builder(
        "natural-patterns", num_samples=N, data_dir=str(tmp_path), search=FontSearch((str(tmp_path / "fonts"),)),
        auxiliary=False, pictures=str(tmp_path), strict=True,
    )  # fmt: skip
    assert "Boxes" in make.info.features["font"].names
    assert make.info.config_name.startswith("natural-patterns-n_300-seed_0-auxiliary_False-pictures_hash_")
    assert "-fonts_" in make.info.config_name
    assert "/" not in make.info.config_name
    with pytest.raises(UserError, match=r"strict: natural-patterns falls short .* only two photographs"):
        tfds_builder.builder("natural-patterns", data_dir=str(tmp_path), strict=True)
