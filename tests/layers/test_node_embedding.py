"""The embedding of nodes, with batch statistics of real frames only, against float64."""

import keras
import numpy as np
import pytest
from keras import ops

from kreid.layers import NodeEmbedding
from kreid.testing._common import gradient_function

RNG = np.random.default_rng(41)
MAPS = RNG.normal(2.0, 3.0, (4, 5, 2, 3, 6)).astype("float32")
LENGTHS = np.array([5, 0, 2, 3])
MASK = np.arange(5) < LENGTHS[:, None]
NOISY = np.where(MASK[:, :, None, None, None], MAPS, np.nan).astype("float32")


def statistics(layer):
    return [ops.convert_to_numpy(value) for value in (layer.bn.moving_mean, layer.bn.moving_variance)]


def randomised(layer):
    layer(MAPS)
    units = layer.units
    layer.bn.gamma.assign(RNG.uniform(0.5, 2, units))
    layer.bn.beta.assign(RNG.normal(size=units))
    layer.bn.moving_mean.assign(RNG.normal(size=units))
    layer.bn.moving_variance.assign(RNG.uniform(0.5, 2, units))
    return layer


def expected(layer, mean, variance):
    """ReLU of the normalised 1x1 convolution of the real nodes, in float64."""
    kernel, gamma, beta = (
        ops.convert_to_numpy(weight).astype("float64") for weight in (layer.dense.kernel, layer.bn.gamma, layer.bn.beta)
    )
    nodes = MAPS[MASK].astype("float64") @ kernel
    return np.maximum((nodes - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)


@pytest.mark.parametrize("units", [1, 4])
def test_statistics_are_those_of_real_frames(units):
    layer = randomised(NodeEmbedding(units))
    before = statistics(layer)
    output = ops.convert_to_numpy(layer(NOISY, mask=MASK, training=True))
    nodes = (MAPS[MASK].astype("float64") @ ops.convert_to_numpy(layer.dense.kernel)).reshape(-1, units)
    batch = nodes.mean(axis=0), nodes.var(axis=0)
    np.testing.assert_allclose(output[MASK], expected(layer, *batch), rtol=1e-4, atol=1e-5)
    for old, new, value in zip(before, statistics(layer), batch, strict=True):
        np.testing.assert_allclose(new, 0.9 * old + 0.1 * value, rtol=1e-4)
    output = ops.convert_to_numpy(layer(NOISY, mask=MASK))
    np.testing.assert_allclose(output[MASK], expected(layer, *statistics(layer)), rtol=1e-4, atol=1e-5)
    assert np.isfinite(output).all()


def test_without_padding_a_mask_changes_nothing():
    layer, twin = randomised(NodeEmbedding(4)), NodeEmbedding(4)
    twin(MAPS)
    twin.set_weights(layer.get_weights())
    unmasked = layer(MAPS, training=True)
    np.testing.assert_allclose(twin(MAPS, mask=np.ones((4, 5), bool), training=True), unmasked, rtol=1e-4, atol=1e-5)
    for one, other in zip(layer.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_batch_without_real_frames_is_finite():
    layer = NodeEmbedding(3)
    layer(MAPS)
    output = layer(np.full_like(MAPS, np.nan), mask=np.zeros((4, 5), bool), training=True)
    assert np.isfinite(ops.convert_to_numpy(output)).all()
    assert all(np.isfinite(weight).all() for weight in layer.get_weights())


def test_frozen_it_keeps_its_statistics():
    layer = randomised(NodeEmbedding(4))
    layer.trainable = False
    before = statistics(layer)
    np.testing.assert_array_equal(layer(MAPS, mask=MASK, training=True), layer(MAPS, mask=MASK, training=False))
    for old, new in zip(before, statistics(layer), strict=True):
        np.testing.assert_array_equal(old, new)


def test_padding_reaches_no_gradient_in_training():
    layer = NodeEmbedding(4)
    layer(MAPS)
    weights = RNG.normal(size=(*MASK.shape, 2, 3, 4)).astype("float32") * MASK[:, :, None, None, None]

    def value(x):
        return ops.sum(layer(x, mask=MASK, training=True) * weights)

    gradients = gradient_function(value, layer.trainable_variables)
    _, by_input, by_weights = gradients(NOISY)
    _, by_clean, by_weights_clean = gradients(np.where(np.isnan(NOISY), 0, NOISY))
    assert not by_input[~MASK].any()
    np.testing.assert_array_equal(by_input, by_clean)
    for one, other in zip(by_weights, by_weights_clean, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def test_statistics_stay_float32_under_mixed_precision():
    layer = NodeEmbedding(4, dtype="mixed_float16")
    layer.build((2, 3, 4))
    layer.dense.kernel.assign(np.eye(4))
    output = layer(np.full((2, 3, 4), 300.0, "float16"), training=True)
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert output.dtype == "float16"
    np.testing.assert_allclose(statistics(layer)[0], 30.0, rtol=1e-3)


def test_the_scale_starts_where_it_is_set():
    layer = NodeEmbedding(4, scale_starts_at=0.1)
    layer(MAPS)
    np.testing.assert_allclose(layer.bn.gamma, 0.1)


def test_refusals():
    with pytest.raises(ValueError, match="units=0"):
        NodeEmbedding(0)
    with pytest.raises(ValueError, match=r"mask must be \(batch, frames\).*mask of shape \(4, 4\)"):
        NodeEmbedding(3)(MAPS, mask=MASK[:, :4])
    with pytest.raises(ValueError, match=r"mask must be \(batch, frames\).*mask of shape \(4,\)"):
        NodeEmbedding(3)(keras.Input((None, 2, 3, 6)), mask=LENGTHS)
