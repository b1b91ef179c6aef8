"""Trunks of one's own: batch normalisation folded away, written, read, and refused where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_maps import quickly

from jaxrepro.errors import UserError
from jaxrepro.models.trunk import TrunkConfig, load_trunk, trunk_arrays, with_trunk

CONFIG = TrunkConfig(weights="", blocks=((3, 4), (5,)), hidden_size=6, pooled=2)
SHAPE = (8, 8, 3)


@pytest.fixture(scope="module")
def trained():
    """A network with batch normalisation whose statistics and scales are not those of the beginning."""
    network = CONFIG.network(7).clone(batch_norm=True)
    variables = quickly(lambda: network.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), False))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda a: a + 0.3 * random.random(a.shape, np.float32), variables)
    return network, variables


def written(folder, variables):
    (folder / "arrays").mkdir(parents=True)
    np.savez(folder / "arrays" / "trunk.npz", **trunk_arrays(variables, "Russian letters"))
    return folder


def test_a_trunk_computes_what_the_network_with_batch_normalisation_did(trained, tmp_path):
    network, variables = trained
    plain = CONFIG.network(26)
    trunk = load_trunk(str(written(tmp_path / "run", variables)), plain, SHAPE)
    assert trunk.name == "Russian letters"
    fresh = quickly(lambda: plain.init(jax.random.key(1), jnp.zeros((1, *SHAPE)), False))
    params = with_trunk(fresh["params"], trunk.params)
    images = np.random.default_rng(1).random((5, *SHAPE), np.float32)
    found = quickly(lambda p: plain.apply({"params": p}, images, method="hidden"), params)
    wanted = quickly(lambda v: network.apply(v, images, method="hidden"), variables)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert params["Dense_2"]["kernel"].shape == (6, 26), "the last layer is the new network's"


def test_random_weights_are_a_trunk_of_nothing():
    assert load_trunk("", CONFIG.network(26), SHAPE).params == {}


def test_a_trunk_that_does_not_fit_or_is_damaged_is_a_users_error(trained, tmp_path):
    folder = written(tmp_path / "run", trained[1])
    wider = TrunkConfig(weights="", blocks=((3, 4), (9,)), hidden_size=6, pooled=2)
    with pytest.raises(UserError, match=r"Conv_2/bias in \S+ is \(5,\); wanted is \(9,\)"):
        load_trunk(str(folder), wider.network(26), SHAPE)
    path = folder / "arrays" / "trunk.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"trunk.npz is damaged .*python launch.py --config=configs/synbols_trunk.py"):
        load_trunk(str(folder), CONFIG.network(26), SHAPE)
    with pytest.raises(UserError, match=r"does not exist; train the trunk: \S+ launch.py \S+synbols_trunk.py"):
        load_trunk("runs/synbols_trunk-small-nowhere", CONFIG.network(26), SHAPE)
