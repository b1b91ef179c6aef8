"""The steerable basis against the formulas, the published ranks and norms, and the law of scaling."""

import numpy as np
import pytest

from jaxrepro.errors import UserError
from jaxrepro.layers import SteerableBasis, geometric_scales, multi_level_functions, single_level_functions
from jaxrepro.layers.steerable_basis import filters, padded_filters
from tests.layers import scale_reference

# smallest scale, factor, number of scales, level divisor, kernel size; supports and ranks of the filters
MNIST = {
    "scalar 28": ((1.7, 3.0, 4), 1.5, 15, (5, 7, 11, 15), (25, 43, 46, 46)),
    "scalar 28+": ((1.5, 3.0, 4), 1.4, 13, (5, 7, 9, 13), (25, 43, 42, 42)),
    "vector 28": ((1.5, 3.0, 3), 1.5, 13, (5, 7, 13), (25, 41, 45)),
    "vector 28+": ((1.5, 3.0, 3), 1.4, 15, (5, 9, 15), (25, 46, 44)),
    "scalar 56": ((2.0, 2.0, 3), 1.4, 15, (7, 11, 15), (44, 47, 47)),
    "scalar 56+": ((1.0, 3.0, 3), 1.4, 17, (5, 9, 17), (25, 47, 47)),
    "vector 56": ((2.0, 2.0, 4), 1.5, 15, (7, 9, 11, 15), (45, 47, 47, 47)),
    "vector 56+": ((1.5, 2.0, 4), 1.4, 13, (7, 9, 11, 13), (45, 47, 47, 47)),
}
STL = {"A": (0.9, (1, 0.71277, 0.50492)), "C": (1.1, (1, 0.72396, 0.51186))}


def mnist_basis(scales, divisor, kernel_size):
    return SteerableBasis(kernel_size, geometric_scales(*scales), multi_level_functions(49, divisor))


def stl_basis(smallest):
    return SteerableBasis(7, geometric_scales(smallest, 1.41**2, 3, decimals=None), single_level_functions(3))


@pytest.mark.parametrize("name", MNIST)
def test_family_b_has_the_published_supports_and_ranks(name):
    *arguments, supports, ranks = MNIST[name]
    basis = mnist_basis(*arguments)
    assert basis.supports == supports
    measured = [np.linalg.matrix_rank(values.reshape(49, -1), tol=1e-4) for values in filters(basis)]
    assert tuple(measured) == ranks


@pytest.mark.parametrize("name", STL)
def test_family_a_has_the_published_supports_ranks_and_norms(name):
    smallest, norms = STL[name]
    basis = stl_basis(smallest)
    assert basis.supports == (3, 5, 7)
    assert [np.linalg.matrix_rank(values.reshape(9, -1), tol=1e-4) for values in filters(basis)] == [9, 9, 9]
    np.testing.assert_allclose([np.linalg.norm(values[0]) for values in filters(basis)], norms, atol=1e-5)


@pytest.mark.parametrize("name", ["scalar 28", "vector 56+"])
def test_family_b_equals_the_formulas(name):
    scales, divisor, kernel_size, *_ = MNIST[name]
    functions = scale_reference.family_b(49, divisor, 4)
    expected = scale_reference.basis(kernel_size, geometric_scales(*scales), functions)
    np.testing.assert_allclose(padded_filters(mnist_basis(scales, divisor, kernel_size)), expected, atol=3e-7)


def test_family_a_equals_the_formulas():
    basis = stl_basis(0.9)
    expected = scale_reference.basis(7, basis.scales, scale_reference.family_a(3))
    np.testing.assert_allclose(padded_filters(basis), expected, atol=3e-7)


def test_an_enlarged_filter_is_the_filter_of_the_larger_scale():
    basis = SteerableBasis(25, (1.5, 3.0), multi_level_functions(20, 1.4))
    small, large = filters(basis)
    every_second_pixel = large[:, 0::2, 0::2]
    radius = small.shape[1] // 2
    np.testing.assert_allclose(
        every_second_pixel[:, 6 - radius : 7 + radius, 6 - radius : 7 + radius], small / 4, atol=1e-6
    )


def test_the_kernel_size_that_the_message_names_is_enough():
    assert SteerableBasis(9, (1.0, 2.0, 4.0), single_level_functions(2)).supports == (3, 5, 9)
    assert all(np.isfinite(values).all() for values in filters(SteerableBasis(1, (1.0,), single_level_functions(1))))


def test_scales_are_rounded_to_two_decimals_unless_told_otherwise():
    assert geometric_scales(1.7, 3.0, 4) == (1.7, 2.45, 3.54, 5.1)
    assert geometric_scales(0.9, 1.41**2, 3, decimals=None) == pytest.approx((0.9, 1.269, 1.78929), abs=1e-12)
    assert geometric_scales(2.0, 3.0, 1) == (2.0,)


def test_the_constants_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        filters(stl_basis(0.9))[0][0] = 0


@pytest.mark.parametrize(
    ("kernel_size", "scales", "message"),
    [
        (6, (1.0, 2.0), "kernel_size is 6"),
        (-1, (1.0,), "kernel_size is -1; it must be odd and positive"),
        (7, (2.0, 1.0), "ascending"),
        (7, (), "ascending"),
        (7, (0.0,), "positive"),
        (7, (1.0, 2.0, 4.0), "one pixel for the smallest .* it must be at least 9"),
    ],
)
def test_an_impossible_basis_is_refused(kernel_size, scales, message):
    with pytest.raises(UserError, match=message):
        SteerableBasis(kernel_size, scales, single_level_functions(2))


def test_a_basis_without_functions_or_of_functions_that_vanish_is_refused():
    with pytest.raises(UserError, match="functions is "):
        SteerableBasis(7, (1.0, 2.0), ())
    with pytest.raises(UserError, match=r"scales are \(0.02, 0.04\), in pixels; .* is zero at every pixel"):
        filters(SteerableBasis(7, (0.02, 0.04), single_level_functions(2)))


def test_lists_and_arrays_of_scales_make_the_same_basis_as_tuples():
    functions = single_level_functions(3)
    basis = SteerableBasis(13, (0.5, 1.0, 2.0), functions)
    for scales in ([0.5, 1, 2], np.geomspace(0.5, 2, 3)):
        other = SteerableBasis(13, scales, list(functions))
        assert other == basis
        assert filters(other) is filters(basis)
