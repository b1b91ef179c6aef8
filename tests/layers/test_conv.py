"""`jaxrepro.layers` convolutions against `lax.conv_general_dilated`, and the promises on loops and shards."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest
from jax import lax
from slow_maps import quickly

from jaxrepro.layers import Conv, ConvTranspose, conv, conv2d, conv_transpose2d

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")

# name: (kernel, strides, padding, input [B, H, W, I], outputs)
CASES = {
    "first layer": ((3, 3), 1, "SAME", (4, 8, 7, 3), 5),
    "strided, odd size": ((3, 3), 2, "SAME", (4, 9, 8, 3), 16),
    "strided, wide": ((3, 3), 2, "VALID", (4, 9, 8, 16), 64),
    "dcgan": ((4, 4), 2, 1, (6, 8, 8, 16), 64),
    "pointwise": ((1, 1), 1, "SAME", (2, 5, 5, 3), 4),
    "pointwise, strided": ((1, 1), 2, "SAME", (2, 5, 6, 3), 4),
    "gaps between windows": ((2, 2), 3, "VALID", (2, 8, 9, 3), 4),
    "uneven pads, wide": ((5, 5), 1, ((0, 3), (2, 1)), (3, 9, 9, 20), 70),
    "wide, two taps": ((2, 1), 1, "SAME", (3, 6, 6, 20), 32),
    "narrowing": ((3, 3), 1, "SAME", (3, 6, 6, 20), 5),
    "oblong": ((3, 5), (2, 1), "SAME", (2, 9, 9, 4), 70),
    "padding beyond the kernel": ((3, 3), 1, 6, (2, 5, 5, 2), 3),
    "negative padding": ((3, 3), 1, ((-1, 2), (1, 1)), (2, 14, 12, 8), 8),
    "one pixel": ((4, 4), 1, 3, (3, 1, 1, 5), 4),
    "one pixel, strided, uneven pads": ((3, 5), (2, 1), ((2, 1), (3, 4)), (2, 1, 1, 3), 2),
    "one pixel, most taps beyond it": ((5, 4), (3, 2), ((0, 5), (4, 1)), (2, 1, 1, 3), 2),
    "large kernel, few images": ((9, 9), 1, "SAME", (2, 12, 7, 8), 10),
    "spectrum": ((5, 5), 1, "SAME", (8, 17, 16, 3), 4),
    "spectrum, small kernel": ((3, 3), 1, "SAME", (8, 6, 7, 16), 20),
    "spectrum, kernel larger than image": ((15, 15), 1, "SAME", (8, 7, 10, 3), 8),
    "spectrum, oblong": ((7, 5), 1, ((3, 3), (2, 2)), (8, 15, 14, 3), 3),
    "spectrum, even": ((6, 6), 1, "SAME", (8, 12, 14, 4), 3),
    "spectrum, valid": ((7, 7), 1, "VALID", (8, 26, 28, 3), 3),
    "spectrum, more padding than same": ((7, 7), 1, 8, (8, 9, 8, 3), 3),
    "spectrum, negative padding": ((7, 7), 1, ((-1, 4), (3, 3)), (8, 14, 12, 3), 3),
}


def pads_of(padding):
    return ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding


def reference(x, kernel, strides, padding, **options):
    strides = (strides, strides) if isinstance(strides, int) else strides
    return lax.conv_general_dilated(
        x, kernel, strides, pads_of(padding), dimension_numbers=DIMENSION_NUMBERS, **options
    )


def reference_transpose(x, kernel, strides, padding):
    strides = (strides, strides) if isinstance(strides, int) else strides
    return lax.conv_transpose(x, kernel, strides, pads_of(padding))


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def assert_close(actual, expected, tolerance=2e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max())), actual, expected
    )


def value_and_gradients(function, x, kernel):
    """The result, and both gradients of a sum with fixed random weights."""

    @jax.jit
    def run(x, kernel):
        y, vjp = jax.vjp(function, x, kernel)
        weights = jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return y, vjp(weights)

    return run(x, kernel)


@pytest.mark.parametrize(("kernel_size", "strides", "padding", "shape", "outputs"), CASES.values(), ids=CASES)
def test_conv_and_its_gradients_match_lax(kernel_size, strides, padding, shape, outputs):
    x, kernel = draw(*shape), draw(*kernel_size, shape[-1], outputs, seed=1)
    ours = value_and_gradients(lambda x, w: conv2d(x, w, strides, padding), x, kernel)
    theirs = value_and_gradients(lambda x, w: reference(x, w, strides, padding), x, kernel)
    assert_close(ours, theirs)


@pytest.mark.parametrize(("kernel_size", "strides", "padding", "shape", "outputs"), CASES.values(), ids=CASES)
def test_transposed_conv_and_its_gradients_match_lax(kernel_size, strides, padding, shape, outputs):
    x, kernel = draw(*shape), draw(*kernel_size, shape[-1], outputs, seed=1)
    ours = value_and_gradients(lambda x, w: conv_transpose2d(x, w, strides, padding), x, kernel)
    theirs = value_and_gradients(lambda x, w: reference_transpose(x, w, strides, padding), x, kernel)
    assert_close(ours, theirs)


@pytest.mark.parametrize("options", [{"kernel_dilation": 2}, {"feature_group_count": 2}], ids=str)
def test_dilated_and_grouped_convs_match_lax(options):
    x, groups = draw(2, 9, 8, 4), options.get("feature_group_count", 1)
    kernel, dilation = draw(3, 3, 4 // groups, 6, seed=1), options.get("kernel_dilation", 1)
    theirs = reference(x, kernel, 2, "SAME", rhs_dilation=(dilation, dilation), feature_group_count=groups)
    assert_close(conv2d(x, kernel, 2, "SAME", **options), theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "shape", "taps", "stride"),
    [
        (conv2d, reference, (2, 6, 5, 3), 3, 2),
        (conv_transpose2d, reference_transpose, (2, 6, 5, 3), 3, 2),
    ],
    ids=["conv", "transposed"],
)
def test_second_derivatives_match_lax(ours, theirs, shape, taps, stride):
    assert_second_derivatives_agree(ours, theirs, draw(*shape), draw(taps, taps, 3, 4, seed=1), stride)


def assert_second_derivatives_agree(ours, theirs, x, kernel, stride):
    def squared_gradient(function):
        """A loss of a gradient, as in MAML: needs the derivative of both hand-written gradients."""
        loss = lambda x, w: jnp.sum(jnp.tanh(function(x, w, stride, "SAME")))  # noqa: E731
        return lambda x, w: sum(jnp.sum(jnp.square(g)) for g in jax.grad(loss, (0, 1))(x, w))

    gradients = (jax.jit(jax.grad(squared_gradient(f), (0, 1)))(x, kernel) for f in (ours, theirs))
    assert_close(*gradients)


@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
def test_integers_are_promoted_and_never_rounded(function):
    x, kernel = jnp.arange(32, dtype=jnp.uint8).reshape(1, 4, 4, 2), 0.1 * draw(3, 3, 2, 3, seed=1)
    y = function(x, kernel)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, function(x.astype(jnp.float32), kernel))


def test_gradients_inside_a_scan_equal_those_outside():
    x, kernel = draw(4, 8, 8, 3), draw(3, 3, 3, 8, seed=1)
    step = lambda w: w - 0.01 * jax.grad(lambda w: jnp.sum(conv2d(x, w, 2) ** 2))(w)  # noqa: E731
    inside = jax.jit(lambda w: lax.scan(lambda w, _: (step(w), None), w, length=3)[0])(kernel)
    assert_close(inside, jax.jit(lambda w: step(step(step(w))))(kernel))


@pytest.mark.parametrize(("kernel_size", "channels"), [(3, 64), (9, 8), (3, 4)])
def test_bfloat16_is_summed_in_float32(kernel_size, channels):
    x, kernel = draw(2, 10, 10, channels), draw(kernel_size, kernel_size, channels, channels, seed=1)
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    y, (dx, dw) = value_and_gradients(lambda x, w: conv2d(x, w), x, kernel)
    assert y.dtype == dx.dtype == dw.dtype == jnp.bfloat16
    exact = reference(x.astype(jnp.float32), kernel.astype(jnp.float32), 1, "SAME")
    np.testing.assert_array_less(np.abs(y - exact), 2**-8 * np.abs(exact) + 1e-3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Conv(5, (3, 3), strides=2), nn.Conv(5, (3, 3), strides=2)),
        (Conv(6, (3, 3), padding=1, use_bias=False), nn.Conv(6, (3, 3), padding=1, use_bias=False)),
        (Conv(6, (3, 3), kernel_dilation=2, feature_group_count=2),
         nn.Conv(6, (3, 3), kernel_dilation=2, feature_group_count=2)),
        (Conv(4, (3, 3), dtype=jnp.bfloat16), nn.Conv(4, (3, 3), dtype=jnp.bfloat16)),
        (ConvTranspose(5, (3, 3), strides=(2, 2)), nn.ConvTranspose(5, (3, 3), strides=(2, 2))),
        (ConvTranspose(5, (4, 4), strides=(2, 2), padding="VALID"),
         nn.ConvTranspose(5, (4, 4), strides=(2, 2), padding="VALID")),
    ],
    ids=["strided", "no bias", "dilated groups", "bfloat16", "transposed", "transposed valid"],
)  # fmt: skip
def test_modules_share_parameters_and_results_with_flax(ours, theirs):
    x = draw(2, 8, 7, 4)
    variables, mine = (quickly(module.init, jax.random.key(0), x) for module in (theirs, ours))
    jax.tree.map(np.testing.assert_array_equal, variables, mine)
    expected, actual = (quickly(module.apply, variables, x) for module in (theirs, ours))
    assert actual.dtype == expected.dtype
    tolerance = 1e-2 if actual.dtype == jnp.bfloat16 else 2e-5
    assert_close(actual.astype(jnp.float32), expected.astype(jnp.float32), tolerance)


@pytest.mark.parametrize(
    "module", [Conv(5, (3, 3), strides=2), ConvTranspose(5, (3, 3), strides=2)], ids=["conv", "transposed"]
)
@pytest.mark.parametrize("leading", [(), (2, 3)], ids=["one image", "two batch axes"])
def test_modules_accept_any_number_of_batch_axes(module, leading):
    x = draw(*leading, 8, 7, 4)
    y, variables = quickly(module.init_with_output, jax.random.key(0), x)
    flat = quickly(module.apply, variables, x.reshape(-1, 8, 7, 4))
    assert y.shape[:-3] == leading
    np.testing.assert_array_equal(y.reshape(flat.shape), flat)


def test_accelerators_get_plain_lax_convolutions(monkeypatch):
    monkeypatch.setattr(conv, "_on_cpu", lambda: False)
    x, kernel = draw(2, 8, 8, 3), draw(4, 4, 3, 5, seed=1)
    for function, theirs in ((conv2d, reference), (conv_transpose2d, reference_transpose)):
        program = str(jax.make_jaxpr(lambda x, w, f=function: f(x, w, 2))(x, kernel))
        assert "conv_general_dilated" in program
        assert "custom_vjp" not in program
        assert_close(function(x, kernel, 2), theirs(x, kernel, 2, "SAME"))


@pytest.mark.parametrize("padding", ["same", (1, 2, 3), ((1, 2, 3), (1, 2))], ids=str)
def test_unknown_paddings_are_refused_by_name(padding):
    with pytest.raises(ValueError, match="use 'SAME', 'VALID'"):
        conv2d(draw(1, 4, 4, 1), draw(3, 3, 1, 1), padding=padding)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jaxrepro.layers import conv2d
from jaxrepro.layers.cpu import choose, chunks, patches, winograd
patches.CHUNK_BYTES = winograd.CHUNK_BYTES = 1 << 12
x = jnp.asarray(np.random.default_rng(0).standard_normal((32, 8, 8, 16)), jnp.float32)
w = jnp.asarray(np.random.default_rng(1).standard_normal((3, 3, 16, 64)), jnp.float32)
assert chunks.split_for(32, 1 << 12, patches.CHUNK_BYTES).count > 1
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
sharded = jax.device_put(x, NamedSharding(mesh, P("data")))
replicated = jax.device_put(w, NamedSharding(mesh, P()))
for stride, strategy in ((1, "spectrum"), (1, "winograd"), (2, "columns")):
    choose.spectrum_pays = lambda *shape: strategy == "spectrum"
    if strategy != "spectrum":
        choose.for_result = choose.for_kernel_gradient = lambda *shape: choose.Strategy(strategy)
    run = jax.value_and_grad(lambda w, x: jnp.sum(jnp.sin(conv2d(x, w, stride))), (0, 1))
    run = jax.jit(lambda w, x, run=run: jax.tree.leaves(run(w, x)))
    alone = run(w, x)
    program = run.lower(replicated, sharded).compile().as_text()
    assert "all-gather" not in program, f"images were gathered: {stride} {strategy}"
    assert "all-reduce" in program, (stride, strategy)
    for a, b in zip(run(replicated, sharded), alone):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3, err_msg=f"{stride} {strategy}")
"""


def test_sharded_batch_gives_the_same_gradient_and_is_never_gathered():
    environment = launching.environment(XLA_FLAGS="--xla_force_host_platform_device_count=8")
    done = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("strides", [0, (1, -2), (1, 2, 3)], ids=str)
def test_impossible_strides_are_refused_in_one_line(strides):
    with pytest.raises(ValueError, match="expected one positive number or a pair"):
        conv2d(draw(1, 4, 4, 1), draw(3, 3, 1, 1), strides)


@pytest.mark.parametrize(
    ("function", "shape", "kernel", "padding", "message"),
    [
        (conv2d, (1, 3, 3, 2), (5, 5, 2, 4), "VALID", "a window of 5×5 does not fit into 3×3"),
        (conv_transpose2d, (1, 2, 2, 2), (5, 5, 2, 4), 0, "a window of 5×5 does not fit into 2×2"),
        (conv2d, (1, 7, 7, 2), (3, 3, 3, 4), "SAME", r"x is \(1, 7, 7, 2\) and kernel \(3, 3, 3, 4\)"),
        (conv_transpose2d, (1, 7, 7, 2), (3, 3, 3, 4), "SAME", r"x is \(1, 7, 7, 2\) and kernel \(3, 3, 3, 4\)"),
        (conv2d, (7, 7, 2), (3, 3, 2, 4), "SAME", r"x is \(7, 7, 2\) and kernel"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_one_line(function, shape, kernel, padding, message):
    with pytest.raises(ValueError, match=message):
        function(draw(*shape), draw(*kernel), padding=padding)


def test_numbers_of_numpy_are_numbers():
    x, kernel = draw(1, 8, 8, 2), draw(3, 3, 2, 2)
    np.testing.assert_array_equal(conv2d(x, kernel, np.int64(2), np.int64(1)), conv2d(x, kernel, 2, 1))
