"""Weights by agreement against cosines pair by pair in float64, and the mean that is subtracted."""

import keras
import numpy as np
import pytest
from pooling_samples import SHARED, agreement_weights, padded, tracklet

from kreid.layers import AgreementPooling
from kreid.testing._common import gradient_function

TRACKLETS = [tracklet(5, 3)[0], tracklet(3)[0], tracklet(1)[0], tracklet(1, 1)[0]]
FRAMES, MASK = padded(TRACKLETS)


@pytest.mark.parametrize("centre", [True, False])
def test_weights_and_weighted_mean(centre):
    layer = AgreementPooling(t=7.0, centre=centre)
    mean = np.zeros(16)
    if centre:
        mean = np.full(16, SHARED - 0.2)
        layer.set_mean(mean)
    pooled, weights = layer(FRAMES, mask=MASK, return_attention=True)
    for row, frames in enumerate(TRACKLETS):
        expected = agreement_weights(frames, mean, 7.0)
        np.testing.assert_allclose(weights[row, : len(frames)], expected, rtol=1e-4)
        assert not weights[row, len(frames) :].numpy().any()
        np.testing.assert_allclose(pooled[row], expected @ frames, rtol=1e-5)


def test_intruders_get_little_weight_and_order_does_not_matter():
    frames, labels = tracklet(5, 3)
    layer = AgreementPooling(t=10.0)
    layer.set_mean(np.full(16, SHARED))
    pooled, weights = layer(frames[None], return_attention=True)
    assert weights.numpy()[0, labels == 1].sum() < 0.15
    order = np.random.default_rng(0).permutation(8)
    again, shuffled = layer(frames[None, order], return_attention=True)
    np.testing.assert_allclose(shuffled, weights.numpy()[:, order], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(again, pooled, rtol=1e-5)


def test_zero_t_and_equal_frames_give_the_plain_mean():
    np.testing.assert_allclose(AgreementPooling(t=0.0)(FRAMES[:1]), FRAMES[:1].mean(axis=1), rtol=1e-5)
    equal = np.repeat(FRAMES[:1, :1], 4, axis=1)
    _, weights = AgreementPooling(t=50.0)(equal, return_attention=True)
    np.testing.assert_allclose(weights, 0.25, rtol=1e-4)


def test_gradients_pass_through_weights_and_are_finite_at_the_mean():
    layer = AgreementPooling(t=5.0)
    layer.set_mean(FRAMES[0, 0])  # this frame has length 0
    direction = np.random.default_rng(1).normal(size=16)

    def weighted(x):
        return keras.ops.sum(layer(x) * direction.astype("float32"), axis=-1)

    value, gradient, _ = gradient_function(weighted)(FRAMES[:1])
    assert np.isfinite(gradient).all()
    small = np.random.default_rng(2).normal(size=FRAMES[0].shape)
    small[0] = 0.0

    def exact(frames):
        return agreement_weights(frames, FRAMES[0, 0].astype("float64"), 5.0) @ frames @ direction

    frames = FRAMES[0].astype("float64")
    np.testing.assert_allclose(value[0], exact(frames), rtol=1e-5)
    slope = (exact(frames + 1e-5 * small) - exact(frames - 1e-5 * small)) / 2e-5
    np.testing.assert_allclose((gradient[0] * small).sum(), slope, rtol=1e-3)


def test_training_subtracts_the_batchs_mean_and_moves_to_it():
    layer = AgreementPooling(t=4.0)
    layer.set_mean(np.full(16, 1.0))
    spoilt = np.where(MASK[..., None], FRAMES, np.nan)
    _, weights = layer(spoilt, mask=MASK, training=True, return_attention=True)
    mean = np.concatenate(TRACKLETS).astype("float64").mean(axis=0)
    np.testing.assert_allclose(weights[0], agreement_weights(TRACKLETS[0], mean, 4.0), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 0.9 + 0.1 * mean, rtol=1e-5)
    layer.trainable = False
    moved = layer.moving_mean.numpy()
    _, frozen = layer(FRAMES, mask=MASK, training=True, return_attention=True)
    np.testing.assert_array_equal(layer.moving_mean, moved)
    np.testing.assert_array_equal(frozen, layer(FRAMES, mask=MASK, return_attention=True)[1])


def test_half_precision_computes_in_float32():
    frames = np.full((1, 600, 16), 200.0, "float16")
    layer = AgreementPooling(dtype="mixed_float16")
    layer.set_mean(np.full(16, 199.9))
    pooled, weights = layer(frames, return_attention=True)
    assert (pooled.dtype, weights.dtype) == ("float16", "float32")
    np.testing.assert_allclose(pooled, 200.0)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: AgreementPooling(t=-1.0), r"at least 0. Received: t=-1.0"),
        (lambda: AgreementPooling(t=float("nan")), "Received: t=nan"),
        (lambda: AgreementPooling(centre="yes"), "True or False. Received: centre='yes'"),
        (lambda: AgreementPooling()(np.zeros((2, 3, 1, 1))), r"\(batch, frames, C\).*\(2, 3, 1, 1\)"),
        (lambda: AgreementPooling(centre=False).set_mean(np.zeros(3)), "subtracts no mean.*centre=False"),
        (lambda: AgreementPooling().set_mean(np.zeros((2, 3))), r"shape \('C',\).*vector of shape \(2, 3\)"),
        (lambda: AgreementPooling().set_mean([0.0, np.nan]), "must be finite"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_mean_of_another_length():
    layer = AgreementPooling()
    layer(FRAMES)
    with pytest.raises(ValueError, match=r"shape \(16,\). Received: vector of shape \(3,\)"):
        layer.set_mean(np.zeros(3))
