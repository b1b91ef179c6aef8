"""Every strategy of the convolutions on CPU against float64, to any order of derivative, in chunks and in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrepro.layers import conv2d
from jaxrepro.layers.cpu import choose, chunks, correlate, patches, strided, winograd
from jaxrepro.layers.cpu.choose import Strategy
from jaxrepro.layers.cpu.geometry import Geometry
from tests.layers.test_conv import assert_close, assert_second_derivatives_agree, draw, reference, value_and_gradients

# name: (kernel, input [B, H, W, I], outputs, pads)
CASES = {
    "whole tiles": ((3, 3), (2, 8, 8, 5), 4, ((1, 1), (1, 1))),
    "one image, odd": ((3, 3), (1, 7, 9, 3), 4, ((1, 1), (1, 1))),
    "two by two": ((3, 3), (3, 2, 2, 6), 5, ((1, 1), (1, 1))),
    "one pixel": ((3, 3), (3, 1, 1, 2), 3, ((1, 1), (1, 1))),
    "valid": ((3, 3), (2, 9, 6, 3), 2, ((0, 0), (0, 0))),
    "uneven pads": ((3, 3), (2, 9, 6, 3), 2, ((-1, 2), (3, 0))),
    "two taps": ((2, 2), (2, 9, 6, 3), 2, ((0, 1), (1, 1))),
    "four taps": ((4, 4), (2, 9, 12, 5), 4, ((0, 0), (0, 0))),
    "four taps, uneven pads": ((4, 4), (3, 5, 7, 3), 2, ((3, 2), (-1, 3))),
    "four taps to one pixel": ((4, 4), (2, 4, 5, 3), 2, ((0, 0), (0, 0))),
    "five taps": ((5, 5), (3, 9, 8, 2), 3, ((2, 2), (2, 2))),
    "oblong": ((2, 3), (3, 9, 8, 2), 3, ((0, 1), (1, 1))),
    "shared patches": ((7, 7), (2, 9, 12, 1), 3, ((3, 3), (3, 3))),
    "shared patches, columns left over": ((2, 8), (3, 5, 19, 4), 6, ((0, 0), (-1, 3))),
    "shared patches of the result": ((7, 7), (2, 9, 12, 6), 4, ((3, 3), (3, 3))),
    "kernel larger than image": ((9, 9), (3, 5, 6, 2), 3, ((4, 4), (4, 4))),
}
SQUARES = ((2, 2), (3, 3), (4, 4))  # that Winograd's form takes
TOLERANCE = {Strategy.LAX: 2e-6, Strategy.COLUMNS: 2e-6, Strategy.WINOGRAD: 6e-6, Strategy.SPECTRUM: 6e-6}


def strategies(kernel):
    return [s for s in correlate.RESULTS if s != Strategy.WINOGRAD or kernel in SQUARES]


def use_small_chunks(monkeypatch, chunk_bytes):
    for module in (patches, winograd):
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(patches, "SHARED_CHUNK_BYTES", chunk_bytes)


def force(monkeypatch, strategy):
    """Computes every map with one strategy."""
    spectrum = strategy is Strategy.SPECTRUM
    monkeypatch.setattr(choose, "spectrum_pays", lambda *shape: spectrum)
    monkeypatch.setattr(choose, "for_result", lambda *shape: strategy)
    other = Strategy.COLUMNS if spectrum else strategy
    monkeypatch.setattr(choose, "for_kernel_gradient", lambda *shape: other)


def double(x, kernel, pads):
    """The correlation and a function of the result's cotangent to both gradients, in NumPy's float64."""
    x, kernel = np.asarray(x, float), np.asarray(kernel, float)
    padded = np.zeros((x.shape[0], *(n + max(p[0], 0) + max(p[1], 0) for n, p in zip(x.shape[1:3], pads)), x.shape[3]))
    inner = tuple(slice(max(p[0], 0), max(p[0], 0) + n) for n, p in zip(x.shape[1:3], pads))
    padded[:, inner[0], inner[1]] = x
    cut = tuple(slice(max(-p[0], 0), n - max(-p[1], 0)) for n, p in zip(padded.shape[1:3], pads))
    seen = padded[:, cut[0], cut[1]]
    rows, columns = (n - k + 1 for n, k in zip(seen.shape[1:3], kernel.shape))
    taps = [(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
    y = sum(seen[:, i : i + rows, j : j + columns] @ kernel[i, j] for i, j in taps)

    def gradients(g):
        dw, dpadded = np.zeros_like(kernel), np.zeros_like(padded)
        dseen = dpadded[:, cut[0], cut[1]]
        for i, j in taps:
            dw[i, j] = np.einsum("bhwi,bhwo->io", seen[:, i : i + rows, j : j + columns], g)
            dseen[:, i : i + rows, j : j + columns] += g @ kernel[i, j].T
        return dpadded[:, inner[0], inner[1]], dw

    return y, gradients


@pytest.mark.parametrize(("kernel_size", "shape", "outputs", "pads"), CASES.values(), ids=CASES)
def test_every_strategy_is_as_accurate_as_it_says(kernel_size, shape, outputs, pads):
    x, kernel = draw(*shape), draw(*kernel_size, shape[-1], outputs, seed=1)
    geometry = Geometry(shape[1:3], kernel_size, (1, 1), pads)
    y, gradients = double(x, kernel, pads)
    g = draw(*y.shape, seed=2)
    dx, dw = gradients(np.asarray(g, float))
    chosen = strategies(kernel_size)

    @jax.jit
    def compute(x, kernel, g):
        results = {s: correlate.RESULTS[s](x, kernel, geometry) for s in chosen}
        gradients = {s: f(x, g, geometry) for s, f in correlate.KERNEL_GRADIENTS.items() if s in chosen}
        joint = winograd.gradients(x, kernel, g, geometry) if winograd.applies(geometry) else (dx, dw)
        return results, gradients, joint

    results, kernel_gradients, joint = compute(x, kernel, g)
    for strategy in chosen:
        assert_near(results[strategy], y, TOLERANCE[strategy])
        assert_near(kernel_gradients.get(strategy, dw), dw, TOLERANCE[strategy])
    for mine, theirs in zip(joint, (dx, dw)):
        assert_near(mine, theirs, TOLERANCE[Strategy.WINOGRAD])


def assert_near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("strategy", correlate.RESULTS)
def test_gradients_of_every_strategy_match_lax_in_chunks(strategy, monkeypatch):
    force(monkeypatch, strategy)
    use_small_chunks(monkeypatch, 1 << 14)
    x, kernel = draw(6, 8, 7, 8), draw(3, 3, 8, 6, seed=1)
    ours = value_and_gradients(lambda x, w: conv2d(x, w), x, kernel)
    assert_close(ours, value_and_gradients(lambda x, w: reference(x, w, 1, "SAME"), x, kernel))


@pytest.mark.parametrize("input_gradient", correlate.INPUT_GRADIENTS)
@pytest.mark.parametrize(("kernel", "strides"), [(3, 2), (4, 2), (5, 2), (4, 3), (1, 2), (2, 3)])
def test_strided_convolutions_match_lax(kernel, strides, input_gradient, monkeypatch):
    use_small_chunks(monkeypatch, 1 << 9)
    blocks = lambda geometry, *shape: (  # noqa: E731
        Strategy.WINOGRAD if winograd.applies(strided.blocks_of(geometry)) else Strategy.COLUMNS
    )
    monkeypatch.setattr(choose, "for_result", blocks)
    monkeypatch.setattr(choose, "for_input_gradient", lambda *shape: input_gradient)
    monkeypatch.setattr(choose, "for_kernel_gradient", blocks)
    x, w = draw(2, 9, 8, 3), draw(kernel, kernel, 3, 4, seed=1)
    ours = value_and_gradients(lambda x, w: conv2d(x, w, strides), x, w)
    assert_close(ours, value_and_gradients(lambda x, w: reference(x, w, strides, "SAME"), x, w))


@pytest.mark.parametrize("strategy", correlate.RESULTS)
def test_second_derivatives_of_every_strategy_match_lax(strategy, monkeypatch):
    force(monkeypatch, strategy)
    assert_second_derivatives_agree(conv2d, reference, draw(2, 6, 5, 3), draw(3, 3, 3, 4, seed=1), 1)


@pytest.mark.parametrize("strategy", correlate.RESULTS)
def test_vmap_over_kernels_matches_one_kernel_at_a_time(strategy, monkeypatch):
    force(monkeypatch, strategy)
    use_small_chunks(monkeypatch, 1 << 14)
    x, kernels = draw(4, 6, 6, 8), draw(3, 3, 3, 8, 6, seed=1)
    gradient = jax.grad(lambda w, x: jnp.sum(jnp.sin(conv2d(x, w))), (0, 1))
    together = jax.jit(jax.vmap(gradient, (0, None)))(kernels, x)
    alone = [jax.jit(gradient)(w, x) for w in kernels]
    assert_close(together, jax.tree.map(lambda *parts: jnp.stack(parts), *alone))


def test_gradients_of_shared_patches_match_lax_in_chunks(monkeypatch):
    force(monkeypatch, Strategy.COLUMNS)
    use_small_chunks(monkeypatch, 1 << 14)
    x, kernel = draw(5, 9, 13, 2), draw(7, 7, 2, 3, seed=1)
    ours = value_and_gradients(lambda x, w: conv2d(x, w), x, kernel)
    assert_close(ours, value_and_gradients(lambda x, w: reference(x, w, 1, "SAME"), x, kernel))


@pytest.mark.parametrize(("size", "strategy"), [(3, Strategy.COLUMNS), (7, Strategy.COLUMNS), (3, Strategy.WINOGRAD)])
def test_gradients_in_a_loop_of_chunks_work_inside_shard_map(size, strategy, monkeypatch):
    force(monkeypatch, strategy)
    use_small_chunks(monkeypatch, 1 << 12)
    x, kernel = draw(6, 8, 12, 1), draw(size, size, 1, 3, seed=1)
    gradient = jax.grad(lambda kernel, x: jnp.sum(jnp.sin(conv2d(x, kernel))), (0, 1))

    def of_a_share(kernel, x):
        dw, dx = gradient(lax.pcast(kernel, "data", to="varying"), x)
        return lax.psum(dw, "data"), dx

    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = {"in_specs": (jax.P(), jax.P("data")), "out_specs": (jax.P(), jax.P("data"))}
    shared = jax.jit(jax.shard_map(of_a_share, mesh=mesh, **specs))(kernel, x)
    for ours, theirs in zip(shared, gradient(kernel, x)):
        assert_near(ours, np.asarray(theirs), TOLERANCE[strategy])


def test_winograd_inside_a_loop_equals_steps_outside(monkeypatch):
    force(monkeypatch, Strategy.WINOGRAD)
    x, kernel = draw(4, 8, 8, 3), 0.1 * draw(3, 3, 3, 3, seed=1)
    step = lambda w: w - 0.01 * jax.grad(lambda w: jnp.sum(conv2d(conv2d(x, w), w) ** 2))(w)  # noqa: E731
    inside = jax.jit(lambda w: lax.fori_loop(0, 2, lambda _, w: step(w), w))(kernel)
    assert_close(inside, jax.jit(lambda w: step(step(w)))(kernel))


def test_winograd_multiplies_once_per_point_and_channel():
    """36 products for 16 pixels of 9 taps or 9 of 16, 16 for 4 of 9: that is all that the form is good for."""
    for size, m, r in ((8, 4, 3), (2, 2, 3), (6, 3, 4)):
        geometry = Geometry((size, size), (r, r), (1, 1), ((1, r - 2), (1, r - 2)))
        program = jax.make_jaxpr(lambda x, w, g=geometry: winograd.correlate(x, w, g))(
            jnp.zeros((1, size, size, 7)), jnp.zeros((r, r, 7, 5))
        )
        (product,) = [e for e in program.eqns if e.primitive.name == "dot_general"]
        assert product.outvars[0].aval.size == (m + r - 1) ** 2 * (size // m) ** 2 * 5


@pytest.mark.parametrize(("batch", "split"), [(1, (1, 1)), (7, (7, 1)), (12, (6, 2)), (16, (8, 2)), (4, (2, 2))])
def test_chunks_give_what_whole_batches_give(batch, split):
    x = draw(batch, 3)
    assert chunks.split_for(batch, 50, 100) == split
    mapped, total = chunks.map_and_sum(lambda x: (2 * x, x.sum(0)), chunks.Split(*split), x)
    np.testing.assert_array_equal(mapped, 2 * x)
    np.testing.assert_allclose(total, x.sum(0), rtol=1e-5, atol=1e-6)


def test_chunks_of_empty_rows_stay_empty():
    assert chunks.map_images(lambda x: 2 * x, chunks.Split(4, 1), jnp.ones((8, 0))).shape == (8, 0)


def test_chunks_computed_together_keep_to_their_memory():
    assert chunks.split_for(8, 100, 100) == (8, 2)  # 200 bytes for what exists at a time
    assert chunks.split_for(8, 101, 100) == (8, 1)  # two of them were 202
    assert chunks.split_for(8, 1000, 100) == (8, 1)
    assert chunks.split_for(16, 50, 200) == (4, 2)
    assert chunks.bytes_at_a_time(chunks.Split(4, 2), 16, 50) == 400


def test_float64_keeps_its_digits():
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x, kernel = generator.standard_normal((4, 16, 16, 32)), generator.standard_normal((3, 3, 32, 32))
        y, gradients = double(x, kernel, ((1, 1), (1, 1)))
        run = jax.jit(lambda x, w: (lambda y, back: (y, *back(y)))(*jax.vjp(conv2d, x, w)))
        ours = run(jnp.asarray(x), jnp.asarray(kernel))
        assert ours[0].dtype == jnp.float64
        for mine, theirs in zip(ours, (y, *gradients(y))):
            assert_near(mine, theirs, 1e-13)


@pytest.mark.parametrize("shape", [(8, 24, 256), (128, 96, 64)])
@pytest.mark.parametrize("kernel", [3, 7])
def test_no_strategy_is_chosen_whose_memory_explodes(shape, kernel):
    batch, size, channels = shape
    geometry = Geometry((size, size), (kernel, kernel), (1, 1), ((kernel // 2, kernel // 2),) * 2)
    arrays = 4 * (2 * batch * size**2 * channels + kernel**2 * channels**2)

    def temporaries(function):
        shapes = ((batch, size, size, channels), (kernel, kernel, channels, channels))
        x, w = (jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)
        return jax.jit(function).lower(x, w).compile().memory_analysis().temp_size_in_bytes

    limit = max(choose.FREE_BYTES, choose.MEMORY_FACTOR * arrays) + 3 * arrays
    assert temporaries(jax.grad(lambda x, w: correlate.correlate(x, w, geometry).sum(), (0, 1))) <= limit


def test_the_table_is_read_as_measured():
    geometry = Geometry((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1)))
    for task in (choose.Task.RESULT, choose.Task.KERNEL_GRADIENT):
        rows = choose._costs(choose.COSTS)[task]
        measured = next(ms for case, ms in rows if case == choose.case_of(geometry, 64, 128, 128))
        expected = choose.expected_ms(task, choose.case_of(geometry, 64, 128, 128))
        for strategy, ms in measured.items():
            assert expected[strategy] == pytest.approx(ms, rel=0.05)
    assert choose.for_result(geometry, 64, 128, 128, jnp.float32) is Strategy.WINOGRAD
    assert choose.for_result(geometry, 64, 128, 128, jnp.float64) is not Strategy.WINOGRAD


def padded_first(x, kernel, geometry, dilation=(1, 1)):
    x = lax.pad(x, 0.0, ((0, 0, 0), *((*pads, 0) for pads in geometry.pads), (0, 0, 0)))
    return lax.conv_general_dilated(
        x, kernel, geometry.strides, "VALID", rhs_dilation=dilation, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("pads", [(-2, 1), (1, -3), (-3, -2), (4, 4), (-11, 13), (20, -6)], ids=str)
@pytest.mark.parametrize("strides", [1, 2])
def test_unusual_pads_match_padding_first(pads, strides):
    geometry = Geometry((9, 8), (2, 1), (strides, strides), (pads, (0, 0)))
    x, w = draw(3, 9, 8, 4), draw(2, 1, 4, 12, seed=1)
    g = draw(3, *geometry.out, 12, seed=2)
    y, pull_back = jax.vjp(lambda x, w: padded_first(x, w, geometry), x, w)
    np.testing.assert_allclose(correlate._xla_correlate(x, w, geometry), y, rtol=0, atol=1e-5)
    np.testing.assert_allclose(correlate._xla_kernel_gradient(x, g, geometry), pull_back(g)[1], rtol=0, atol=1e-4)
    ours, our_pull_back = jax.vjp(lambda x, w: correlate.correlate(x, w, geometry), x, w)
    for mine, theirs in zip((ours, *our_pull_back(g)), (y, *pull_back(g))):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pads", [(0, 0), (-1, 2), (3, -2), (5, 0)], ids=str)
@pytest.mark.parametrize(("kernel", "strides"), [((3, 2), (2, 3)), ((1, 4), (3, 1)), ((5, 5), (2, 2))], ids=str)
@pytest.mark.parametrize("strategy", correlate.INPUT_GRADIENTS)
def test_what_places_send_through_taps_meets_at_the_pixels_that_they_saw(strategy, kernel, strides, pads):
    geometry = Geometry((8, 11), kernel, strides, (pads, pads[::-1]))
    g, w = draw(3, *geometry.out, 4), draw(*kernel, 2, 4, seed=1)
    expected = jax.vjp(lambda x: padded_first(x, w, geometry), jnp.zeros((3, 8, 11, 2)))[1](g)[0]
    ours = correlate.INPUT_GRADIENTS[strategy](g, w, geometry)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_input_gradient_of_a_large_image_comes_a_few_channels_at_a_time(monkeypatch):
    geometry = Geometry((9, 8), (7, 7), (2, 2), ((3, 3), (3, 3)))
    g, w = draw(2, *geometry.out, 3), draw(7, 7, 5, 3, seed=1)
    whole = patches.correlate_adjoint(g, w, geometry)
    monkeypatch.setattr(patches, "MOST_BYTES", 4 * 20 * 49 * 2)
    products = [e for e in jax.make_jaxpr(lambda g, w: patches.correlate_adjoint(g, w, geometry))(g, w).eqns
                if e.primitive.name == "dot_general"]  # fmt: skip
    assert max(e.outvars[0].aval.size for e in products) == 2 * 20 * 49 * 2
    np.testing.assert_allclose(patches.correlate_adjoint(g, w, geometry), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kernel", "strides"), [((3, 4), 1), ((7, 7), 1), ((4, 4), 2)], ids=str)
@pytest.mark.parametrize("shape", [(0, 9, 9, 64), (0, 32, 32, 64), (2, 9, 9, 0)], ids=str)
def test_empty_images_give_zeros_and_no_gradient(shape, kernel, strides):
    x, w = jnp.ones(shape), jnp.ones((*kernel, shape[3], 64))
    total, (dx, dw) = jax.value_and_grad(lambda x, w: conv2d(x, w, strides).sum(), (0, 1))(x, w)
    assert total == 0
    assert dx.shape == x.shape
    assert not dw.any()


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "channels", "dtype"),
    [
        (512, 9, 2, 16, "float32"),
        (256, 11, 2, 64, "float32"),
        (512, 5, (1, 2), 16, "float32"),
        (512, 7, 2, 16, "float64"),
    ],
)
def test_some_strategy_remains_for_images_whose_patches_exceed_the_bound(size, kernel, strides, channels, dtype):
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((1, size, size, channels), dtype)
        w = jax.ShapeDtypeStruct((kernel, kernel, channels, channels), dtype)
        dx, dw = jax.eval_shape(jax.grad(lambda x, w: conv2d(x, w, strides).sum(), (0, 1)), x, w)
        assert (dx.shape, dw.shape) == (x.shape, w.shape)


def test_negative_pads_of_a_dilated_kernel_match_padding_first():
    x, w = draw(2, 12, 11, 3), draw(2, 1, 3, 4, seed=1)
    pads = ((-4, 1), (0, 0))
    ours = value_and_gradients(lambda x, w: conv2d(x, w, 1, pads, (1, 2)), x, w)
    geometry = Geometry((12, 11), (2, 1), (1, 1), pads)
    assert_close(ours, value_and_gradients(lambda x, w: padded_first(x, w, geometry, (1, 2)), x, w))


def test_winograd_is_expected_to_cost_what_its_unfinished_tiles_cost(monkeypatch):
    monkeypatch.setattr(choose, "expected_ms", lambda *case: {Strategy.WINOGRAD: 1.0, Strategy.COLUMNS: 2.0})
    shape = (64, 8, 8, jnp.dtype("float32"))
    tight, loose = (Geometry((n,) * 2, (3, 3), (1, 1), ((1, 1), (1, 1))) for n in (4, 5))
    assert choose._fastest(choose.Task.RESULT, tight, *shape) is Strategy.WINOGRAD
    assert choose._fastest(choose.Task.RESULT, loose, *shape) is Strategy.COLUMNS  # 64 pixels computed for 25


@pytest.mark.parametrize(("ms", "chosen"), [(0.1, Strategy.COLUMNS), (0.5, Strategy.WINOGRAD)])
def test_winograd_must_save_what_compiling_it_costs(ms, chosen, monkeypatch):
    monkeypatch.setattr(choose, "expected_ms", lambda *case: {Strategy.WINOGRAD: ms, Strategy.COLUMNS: 2 * ms})
    geometry = Geometry((4, 4), (3, 3), (1, 1), ((1, 1), (1, 1)))
    assert choose._fastest(choose.Task.RESULT, geometry, 64, 8, 8, jnp.dtype("float32")) is chosen


def test_a_map_of_one_pixel_is_not_multiplied_with_its_padding():
    """As in the first layer of DCGAN: 4×4 results of 4×4 taps, of which each meets the pixel once."""
    geometry, (x, kernel) = Geometry((1, 1), (4, 4), (1, 1), ((3, 3), (3, 3))), (draw(2, 1, 1, 8), draw(4, 4, 8, 6))
    needed = 2 * 16 * 2 * 8 * 6

    @jax.jit
    def maps(x, kernel):
        y, vjp = jax.vjp(lambda x, w: correlate.correlate(x, w, geometry), x, kernel)
        return y, vjp(y)

    assert needed <= jax.jit(lambda x, w: correlate.correlate(x, w, geometry)).lower(x, kernel).cost_analysis()["flops"]
    assert maps.lower(x, kernel).cost_analysis()["flops"] < 3.3 * needed


def test_complex_images_keep_their_imaginary_parts():
    x, kernel = draw(8, 14, 14, 32) + 1j * draw(8, 14, 14, 32, seed=2), draw(15, 15, 32, 8, seed=1)
    geometry = Geometry((14, 14), (15, 15), (1, 1), ((7, 7), (7, 7)))
    assert choose.spectrum_pays(geometry, 8, 32, 8, jnp.dtype("float32"))
    y = jax.jit(conv2d)(x, kernel)
    assert y.dtype == jnp.complex64
    expected = reference(x.real, kernel, 1, "SAME") + 1j * reference(x.imag, kernel, 1, "SAME")
    assert_near(np.asarray(y), np.asarray(expected), 1e-5)
