"""Distance matrices of NumPy arrays, block by block."""

import numpy as np
import pytest
from distance_oracles import cosine_loops, euclidean_loops, rows

from kreid.distances import distance_matrix, pairwise_euclidean


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_distance_matrix_equals_loops_whatever_the_block(metric, block):
    x, y = rows(5, 40), rows(8, 40, seed=1)
    expected = {"euclidean": euclidean_loops, "cosine": cosine_loops}[metric](x, y)
    distances = distance_matrix(x, y, metric, block=block)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(distances, expected, rtol=1e-6, atol=1e-7)
    assert distance_matrix(x.astype("float64"), y, metric).dtype == np.float64


def test_wrong_inputs_are_named():
    x = rows(2, 4)
    with pytest.raises(ValueError, match=r"number of features.*Received: x\.shape=\(2, 4\), y\.shape=\(2, 3\)"):
        pairwise_euclidean(x, x[:, :3])
    with pytest.raises(ValueError, match=r"number of features.*Received: x\.shape=\(2, 4\), y\.shape=\(2, 3\)"):
        distance_matrix(x, x[:, :3])
    with pytest.raises(ValueError, match="Received: metric='manhattan'"):
        distance_matrix(x, x, "manhattan")
    with pytest.raises(ValueError, match="Received: block=0"):
        distance_matrix(x, x, block=0)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        distance_matrix(x, x)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_distance_depends_only_on_its_two_rows(metric):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(37, 512)), random.normal(size=(201, 512))
    y[150:] = y[3]
    whole = distance_matrix(x, y, metric)
    np.testing.assert_array_equal(whole[:, 150:], np.repeat(whole[:, 3:4], 51, axis=1))
    for count in (1, 2, 5, 36):
        parts = [distance_matrix(x[i : i + count], y, metric) for i in range(0, 37, count)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
