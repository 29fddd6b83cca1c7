import keras
import numpy as np
import pytest
from keras import ops
from loss_oracles import min_max_value, numeric_gradient

from kreid.losses import MinMax, min_max
from kreid.testing.losses import check_loss, value_and_gradient

LABELS = np.array([3, 1, 3, 2, 1, 1, 2, 9], "int32")


def embeddings(seed=0, features=5, batch=8):
    return np.random.default_rng(seed).normal(size=(batch, features)).astype("float32")


@pytest.mark.parametrize("labels", [LABELS, np.repeat(np.arange(4), 2), np.array([5, 5, 5, 5, 5, 5, 5, 7])])
def test_value_equals_loops(labels):
    for seed in range(5):
        x = embeddings(seed) + 3
        np.testing.assert_allclose(min_max(labels, x), min_max_value(labels, x), rtol=1e-5)


def test_gradient_equals_differences():
    x = embeddings()
    _, gradient = value_and_gradient(MinMax(), LABELS, x)
    np.testing.assert_allclose(gradient, numeric_gradient(lambda inputs: min_max_value(LABELS, inputs), x), atol=2e-5)


def test_best_and_worst_batches():
    compact = np.array([[0.0], [0.0], [5.0], [5.0]], "float32")
    assert float(min_max([0, 0, 1, 1], compact)) == 0.0
    value, gradient = value_and_gradient(MinMax(), np.array([0, 1, 0, 1]), compact)  # both identities have mean 2.5
    np.testing.assert_allclose(value, 1e7, rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("offset", [0.0, 0.1, 30.0])
def test_a_batch_of_one_identity_gives_zero(offset):
    value, gradient = value_and_gradient(MinMax(), np.full(8, 4), embeddings(features=64) + np.float32(offset))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-42, 30.0, 1e30])
def test_equal_embeddings_give_zero(value):
    value, gradient = value_and_gradient(MinMax(), np.repeat([0, 1, 2, 3], 3), np.full((12, 64), value, "float32"))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_one_embedding_each_gives_zero():
    value, gradient = value_and_gradient(MinMax(), np.arange(8), embeddings())
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1e6, 1e25])
def test_neither_scale_nor_origin_matter(scale):
    x = embeddings().astype("float64")
    value, gradient = value_and_gradient(MinMax(), LABELS, (scale * x).astype("float32"))
    np.testing.assert_allclose(value, min_max_value(LABELS, x), rtol=1e-5)
    expected = numeric_gradient(lambda inputs: min_max_value(LABELS, inputs), x)
    np.testing.assert_allclose(gradient.astype("float64") * scale, expected, atol=2e-5)


def test_small_distances_of_long_embeddings_are_accurate():
    x = (30 + 1e-3 * np.random.default_rng(0).normal(size=(8, 256))).astype("float32")
    np.testing.assert_allclose(min_max(LABELS, x), min_max_value(LABELS, x), rtol=1e-5)


def test_order_and_names_of_identities_do_not_matter():
    x = embeddings()
    order = np.random.default_rng(1).permutation(8)
    np.testing.assert_allclose(min_max(LABELS[order], x[order]), min_max(LABELS, x), rtol=1e-5)
    np.testing.assert_allclose(MinMax()(LABELS + 16_777_213, x), min_max(LABELS, x), rtol=1e-6)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_sample_weights_are_repetitions(shape):
    x = embeddings()
    repeats = np.array([1, 2, 0, 3, 1, 1, 2, 0])
    expected = min_max_value(np.repeat(LABELS, repeats), np.repeat(x, repeats, axis=0))
    weights = repeats.reshape(shape).astype("float32")
    np.testing.assert_allclose(MinMax()(LABELS, x, weights), expected, rtol=1e-5)
    np.testing.assert_allclose(MinMax()(LABELS, x, 0.5 * weights), expected, rtol=1e-5)


@pytest.mark.parametrize("weights", [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
def test_one_identity_or_none_left_by_the_weights(weights):
    x = ops.convert_to_tensor(embeddings(batch=4))
    value, gradient = value_and_gradient(lambda y, z: MinMax()(y, z, weights), np.array([0, 0, 1, 1]), x)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_contract():
    check_loss(MinMax, {"name": "scatter", "dtype": "float32"}, LABELS, embeddings())


def test_float64_stays_float64():
    x = embeddings().astype("float64")
    value = MinMax(dtype="float64")(LABELS, ops.convert_to_tensor(x))
    if keras.backend.backend() == "tensorflow":
        assert keras.backend.standardize_dtype(value.dtype) == "float64"
        np.testing.assert_allclose(value, min_max_value(LABELS, x), rtol=1e-6)
