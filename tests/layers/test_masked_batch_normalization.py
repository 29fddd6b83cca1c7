"""Batch normalisation of real entries alone, against float64 and against Keras's own layer."""

import keras
import numpy as np
import pytest
from keras import ops

from kreid.layers import MaskedBatchNormalization, NodeEmbedding
from kreid.testing._common import value_and_gradients

RNG = np.random.default_rng(41)
MAPS = RNG.normal(2.0, 3.0, (4, 5, 2, 3, 6)).astype("float32")
LENGTHS = np.array([5, 0, 2, 3])
MASK = np.arange(5) < LENGTHS[:, None]
NOISY = np.where(MASK[:, :, None, None, None], MAPS, np.nan).astype("float32")


def moving(layer):
    return [ops.convert_to_numpy(value) for value in (layer.moving_mean, layer.moving_variance)]


def moved(layer, features):
    layer.build((None, None, features))
    layer.gamma.assign(RNG.uniform(0.5, 2, features))
    layer.beta.assign(RNG.normal(size=features))
    layer.moving_mean.assign(RNG.normal(size=features))
    layer.moving_variance.assign(RNG.uniform(0.5, 2, features))
    return layer


def test_without_padding_it_is_keras_own_layer():
    mine, theirs = MaskedBatchNormalization(0.8, 1e-3), keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-3)
    theirs.build(MAPS.shape)
    moved(mine, 6)
    theirs.set_weights(mine.get_weights())
    for training in (True, False, True):
        expected = ops.convert_to_numpy(theirs(MAPS, training=training))
        for mask in (None, np.ones((4, 5), bool)):
            twin = MaskedBatchNormalization(0.8, 1e-3)
            twin.build(MAPS.shape)
            twin.set_weights(mine.get_weights())
            np.testing.assert_allclose(twin(MAPS, mask=mask, training=training), expected, rtol=1e-4, atol=1e-5)
        mine(MAPS, training=training)
        for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("features", [1, 6])
def test_statistics_are_those_of_real_frames(features):
    layer = moved(MaskedBatchNormalization(0.7), features)
    before = moving(layer)
    inputs = NOISY[..., :features]
    output = ops.convert_to_numpy(layer(inputs, mask=MASK, training=True))
    real = MAPS[MASK][..., :features].astype("float64").reshape(-1, features)
    mean, variance = real.mean(axis=0), real.var(axis=0)
    gamma, beta = (ops.convert_to_numpy(value) for value in (layer.gamma, layer.beta))
    expected = (MAPS[MASK][..., :features] - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(output[MASK], expected, rtol=1e-4, atol=1e-5)
    for old, new, batch in zip(before, moving(layer), (mean, variance), strict=True):
        np.testing.assert_allclose(new, 0.7 * old + 0.3 * batch, rtol=1e-5)
    expected = (MAPS[MASK][..., :features] - moving(layer)[0]) / np.sqrt(moving(layer)[1] + 1e-5) * gamma + beta
    np.testing.assert_allclose(ops.convert_to_numpy(layer(inputs, mask=MASK))[MASK], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [MaskedBatchNormalization, lambda: NodeEmbedding(3)])
def test_a_batch_without_real_frames_changes_nothing(make):
    layer = make()
    layer(MAPS)
    before = layer.get_weights()
    output = layer(np.full_like(MAPS, np.nan), mask=np.zeros((4, 5), bool), training=True)
    assert np.isfinite(ops.convert_to_numpy(output)).all()
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_it_keeps_its_statistics():
    layer = moved(MaskedBatchNormalization(), 6)
    layer.trainable = False
    before = moving(layer)
    np.testing.assert_array_equal(layer(MAPS, mask=MASK, training=True), layer(MAPS, mask=MASK, training=False))
    for old, new in zip(before, moving(layer), strict=True):
        np.testing.assert_array_equal(old, new)


def test_padding_reaches_no_gradient_in_training():
    layer = NodeEmbedding(4)
    layer(MAPS)
    weights = RNG.normal(size=(*MASK.shape, 2, 3, 4)).astype("float32") * MASK[:, :, None, None, None]

    def value(x):
        return ops.sum(layer(x, mask=MASK, training=True) * weights)

    _, by_input, by_weights = value_and_gradients(value, NOISY, layer.trainable_variables)
    _, by_clean, by_weights_clean = value_and_gradients(
        value, np.where(np.isnan(NOISY), 0, NOISY), layer.trainable_variables
    )
    assert not by_input[~MASK].any()
    np.testing.assert_array_equal(by_input, by_clean)
    for one, other in zip(by_weights, by_weights_clean, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def test_statistics_stay_float32_under_mixed_precision():
    layer = MaskedBatchNormalization(dtype="mixed_float16")
    output = layer(np.full((2, 3, 4), 300.0, "float16"), training=True)
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert output.dtype == "float16"
    np.testing.assert_allclose(moving(layer)[0], 30.0, rtol=1e-3)


def test_refusals():
    with pytest.raises(ValueError, match="units=0"):
        NodeEmbedding(0)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        MaskedBatchNormalization().build((3,))
