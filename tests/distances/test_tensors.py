"""Distances of tensors and their gradients."""

import numpy as np
import pytest
from distance_oracles import cosine_loops, euclidean_loops, rows
from keras import ops

from kreid.distances import (
    distance_matrix,
    pairwise_cosine,
    pairwise_dot,
    pairwise_euclidean,
    pairwise_squared_euclidean,
    safe_sqrt,
)
from kreid.testing.losses import value_and_gradient


def gradient_of(function, x):
    return value_and_gradient(lambda _, inputs: function(inputs), np.zeros(1), x)


def test_safe_sqrt_has_zero_gradient_at_zero_and_keeps_nan():
    x = np.array([0.0, 4.0, -1.0, 1e-40, 1e-30], "float32")
    value, gradient = gradient_of(safe_sqrt, x)
    np.testing.assert_allclose(value, [0, 2, 0, 0, 1e-15], rtol=1e-6)
    np.testing.assert_allclose(gradient, [0, 0.25, 0, 0, 0.5e15], rtol=1e-5)
    assert np.isnan(ops.convert_to_numpy(safe_sqrt(np.array([np.nan], "float32"))))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_safe_sqrt_takes_every_float(dtype):
    roots = ops.convert_to_numpy(ops.cast(safe_sqrt(ops.cast([0.0, 9.0], dtype)), "float32"))
    np.testing.assert_array_equal(roots, [0, 3])


@pytest.mark.parametrize("features", [1, 127, 128, 300])
def test_pairwise_distances_equal_loops(features):
    x, y = rows(5, features), rows(7, features, seed=1)
    expected = euclidean_loops(x, y)
    np.testing.assert_allclose(pairwise_euclidean(x, y), expected, rtol=1e-6)
    np.testing.assert_allclose(pairwise_squared_euclidean(x, y), expected**2, rtol=2e-6)
    np.testing.assert_allclose(pairwise_cosine(x, y), cosine_loops(x, y), atol=1e-6)
    np.testing.assert_allclose(pairwise_euclidean(x), euclidean_loops(x, x), rtol=1e-6)
    products = [[sum(float(a) * float(b) for a, b in zip(one, other, strict=True)) for other in y] for one in x]
    np.testing.assert_allclose(pairwise_dot(x, y), products, rtol=1e-5, atol=1e-5)


def test_small_distances_between_long_vectors_are_accurate():
    x = rows(4, 2048, norm=30)
    step = np.random.default_rng(2).normal(size=x.shape)
    near = (x + 1e-3 * step / np.linalg.norm(step, axis=1, keepdims=True)).astype("float32")
    for distances in (pairwise_euclidean(x, near), distance_matrix(x, near)):
        np.testing.assert_allclose(np.diag(distances), np.diag(euclidean_loops(x, near)), rtol=1e-5)


def test_equal_rows_are_zero_apart_with_finite_gradients():
    x = np.repeat(rows(30, 700), 2, axis=0)
    same = np.kron(np.eye(30), np.ones((2, 2))).astype(bool)
    for function in (pairwise_euclidean, pairwise_squared_euclidean, pairwise_cosine):
        value, gradient = gradient_of(function, x)
        assert (value[same] == 0).all() and (value[~same] > 0).all()
        assert np.isfinite(gradient).all()
    for metric in ("euclidean", "cosine"):
        value = distance_matrix(x, x, metric)
        assert (value[same] == 0).all() and (value[~same] > 0).all()


def test_gradient_is_the_unit_difference():
    x = np.array([[0.0, 0.0], [3.0, 4.0]], "float32")
    _, gradient = gradient_of(lambda inputs: pairwise_euclidean(inputs)[0, 1], x)
    np.testing.assert_allclose(gradient, [[-0.6, -0.8], [0.6, 0.8]], rtol=1e-6)


def test_a_row_of_zeros_is_one_from_everything_in_cosine():
    x = np.array([[0.0, 0.0], [2.0, 0.0]], "float32")
    expected = [[1, 1], [1, 0]]
    value, gradient = gradient_of(pairwise_cosine, x)
    np.testing.assert_array_equal(value, expected)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(distance_matrix(x, x, "cosine"), expected)


def test_leading_axes_are_kept():
    x = rows(12, 6).reshape(3, 4, 6)
    distances = ops.convert_to_numpy(pairwise_euclidean(x))
    assert distances.shape == (3, 4, 4)
    np.testing.assert_allclose(distances[1], euclidean_loops(x[1], x[1]), rtol=1e-6, atol=1e-7)


def test_half_precision_is_computed_in_float32():
    x = ops.cast(rows(3, 64), "bfloat16")
    distances = pairwise_euclidean(x)
    exact = pairwise_euclidean(ops.cast(x, "float32"))
    assert distances.dtype == exact.dtype
    np.testing.assert_array_equal(distances, exact)
