"""Where arrays live: rules by path, uneven splits, seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from jaxrepro import mesh, seeds
from jaxrepro.config import SeedMode
from jaxrepro.errors import UserError

MESH = AbstractMesh((2, 2, 2), ("seed", "data", "model"), axis_types=(AxisType.Auto,) * 3)
STATE = {
    "dense": {"kernel": jax.ShapeDtypeStruct((2, 6, 8), jnp.float32), "bias": jax.ShapeDtypeStruct((2, 8), jnp.float32)}
}


def test_the_first_matching_rule_decides_and_the_rest_is_replicated():
    rules = [(r"dense/kernel", (None, "model")), (r".*", ())]
    found = mesh.state_shardings(STATE, rules, MESH)
    assert found["dense"]["kernel"].spec == P("seed", None, "model")
    assert found["dense"]["bias"].spec == P("seed")


@pytest.mark.parametrize("spec", [(None, "modle"), ("model",), (None, None, "model")])
def test_a_rule_that_does_not_fit_names_the_leaf(spec):
    state = {"dense": {"kernel": jax.ShapeDtypeStruct((2, 5, 8), jnp.float32)}}
    with pytest.raises(UserError, match="dense/kernel"):
        mesh.state_shardings(state, [(".*", spec)], MESH)


@pytest.mark.parametrize(
    ("num_seeds", "num_devices", "backend", "expected"),
    [
        (1, 8, "gpu", SeedMode.UNROLL),
        (3, 1, "cpu", SeedMode.UNROLL),
        (3, 1, "gpu", SeedMode.VMAP),
        (8, 4, "gpu", SeedMode.SHARD),
        (3, 8, "gpu", SeedMode.VMAP),
    ],
)
def test_several_seeds_become_one_program_as_the_hardware_asks(num_seeds, num_devices, backend, expected):
    assert seeds.choose_mode(SeedMode.AUTO, num_seeds, num_devices, backend) == expected
    assert seeds.choose_mode(SeedMode.VMAP, num_seeds, num_devices, backend) == SeedMode.VMAP


@pytest.mark.parametrize("mode", [SeedMode.UNROLL, SeedMode.VMAP])
def test_a_function_over_seeds_sees_one_seed_at_a_time(mode):
    def step(state, shared):
        assert state["w"].shape == (3,)
        return {"w": state["w"] * shared}

    stacked = {"w": jnp.arange(6.0).reshape(2, 3)}
    found = seeds.over_seeds(step, mode, in_axes=(0, None))(stacked, jnp.float32(2))
    np.testing.assert_array_equal(found["w"], 2 * stacked["w"])
