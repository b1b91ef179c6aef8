"""Means merge exactly over masks and batches; evaluation counts every example once; metrics.jsonl can be cut back."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrepro.metrics import Mean, as_means, compute, merge
from jaxrepro.training.means import dataset_means
from jaxrepro.writers import cut_metrics, final_metrics


def test_masked_values_do_not_count_even_when_they_are_not_finite():
    m = Mean.of(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0]))
    assert float(m.value) == 2.0
    assert float((m + Mean.of(jnp.array([8.0]))).value) == 4.0


def test_scalars_are_means_over_steps():
    total = merge(as_means({"loss": 1.0}), as_means({"loss": 4.0}))
    assert float(compute(total)["loss"]) == 2.5


def test_a_mean_over_a_dataset_counts_padding_never_and_every_row_once():
    values = np.arange(10, dtype=np.float32)
    for batch_size in (3, 5, 10, 64):
        found = jax.jit(lambda v, b=batch_size: dataset_means(lambda x, k: {"m": x}, v, b, jax.random.key(0)))(values)
        np.testing.assert_allclose(found["m"], 4.5)


def test_lines_after_a_step_and_half_a_line_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = (
        '{"step": 5, "split": "train", "seed": 0, "loss": 1.0}\n{"step": 9, "split": "train", "seed": 0, "loss": 0.5}\n'
    )
    path.write_text(whole + '{"step": 9, "split": "te')
    cut_metrics(path, 9)
    assert path.read_text() == whole
    cut_metrics(path, 5)
    assert path.read_text() == whole.splitlines(keepends=True)[0]


def test_final_metrics_are_the_last_of_each_name_split_and_seed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "split": "train", "seed": 0, "loss": 3.0}\n{"step": 1, "split": "train", "seed": 1, "loss": 4.0}\n'
        '{"step": 2, "split": "train", "seed": 0, "loss": 1.0}\n{"step": 2, "split": "test", "seed": 0, "kl": null}\n'
    )
    found = final_metrics(path, (0, 1))
    assert found["train/loss"] == [1.0, 4.0]
    assert np.isnan(found["test/kl"]).all()
