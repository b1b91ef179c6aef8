"""Checkpoints: digests find every change, damaged ones are set aside, donated buffers do not leak into a save."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrepro.checkpoint import Checkpoints, NonFiniteError, leaf_digests
from jaxrepro.config import CheckpointConfig


def tree(value=0.0):
    return {"w": jnp.arange(50_000, dtype=jnp.float32) + value, "n": jnp.int32(3), "flag": jnp.array([True, False])}


def abstract():
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree())


@pytest.mark.parametrize("position", [0, 49_999])
def test_one_flipped_bit_changes_the_digest_of_its_leaf_only(position):
    bits = np.asarray(tree()["w"]).view(np.uint32).copy()
    bits[position] ^= 1
    before, _ = leaf_digests(tree())
    after, _ = leaf_digests(tree() | {"w": jnp.asarray(bits.view(np.float32))})
    assert before["w"] != after["w"]
    assert before["n"] == after["n"]


def test_swapped_values_change_the_digest():
    w = tree()["w"]
    assert leaf_digests({"w": w})[0] != leaf_digests({"w": w[::-1]})[0]


def test_a_state_with_nan_is_not_saved(tmp_path):
    with Checkpoints(tmp_path / "c", CheckpointConfig()) as checkpoints:
        with pytest.raises(NonFiniteError, match="step 5"):
            checkpoints.save(5, tree(jnp.nan))
        assert checkpoints.steps() == []


def test_a_save_holds_the_values_of_its_moment_though_the_buffers_are_donated(tmp_path):
    step = jax.jit(lambda t: jax.tree.map(lambda a: a + 1 if a.dtype != bool else a, t), donate_argnums=0)
    with Checkpoints(tmp_path / "c", CheckpointConfig()) as checkpoints:
        state = tree()
        for i in range(5):
            checkpoints.save(i, state)
            state = step(state)
        checkpoints.wait()
        found, restored = checkpoints.restore_latest(abstract())
    assert found == 4
    np.testing.assert_array_equal(restored["w"], tree(4.0)["w"])


def flip_bytes(path):
    data = bytearray(path.read_bytes())
    for i in range(len(data) // 2, len(data) // 2 + 64):
        data[i] ^= 0xFF
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_bytes, truncate, lambda path: path.unlink()])
def test_a_damaged_newest_checkpoint_is_reported_in_one_line_and_the_one_before_is_used(damage, tmp_path):
    said = []
    with Checkpoints(tmp_path / "c", CheckpointConfig()) as checkpoints:
        for i in (1, 2):  # incompressible, so that a flipped byte is a flipped value and not an unreadable file
            checkpoints.save(i, tree() | {"w": jax.random.normal(jax.random.key(i), 50_000)})
    largest = max((tmp_path / "c" / "2").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    damage(largest)
    with Checkpoints(tmp_path / "c", CheckpointConfig(), say=said.append) as checkpoints:
        step, _ = checkpoints.restore_latest(abstract())
        assert step == 1
        assert checkpoints.steps() == [1]
        checkpoints.save(2, tree(2.0))  # the run comes by this step again
    assert len(said) == 1
    assert "checkpoint 2 is damaged" in said[0]
    assert "\n" not in said[0]
    assert (tmp_path / "damaged_checkpoints" / "2").is_dir()


def test_an_empty_folder_under_a_step_number_is_set_aside(tmp_path):
    with Checkpoints(tmp_path / "c", CheckpointConfig()) as checkpoints:
        checkpoints.save(1, tree())
    (tmp_path / "c" / "9").mkdir()
    with Checkpoints(tmp_path / "c", CheckpointConfig(), say=lambda _: None) as checkpoints:
        assert checkpoints.restore_latest(abstract())[0] == 1
