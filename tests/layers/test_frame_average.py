"""Averages over frames, plain and weighted, against sums in float64; zeros, padding, precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fusion_samples import FRAMES, LENGTHS, MASK, ORDER
from keras import ops

from kreid.layers import FrameAverage, InterFrameDistance, InterFrameRelation, IntraFrameAttention
from kreid.testing._common import gradient_function

RNG = np.random.default_rng(23)


def test_frame_average():
    maps = RNG.normal(size=(3, 5, 2, 2, 4)).astype("float32")
    lengths = [5, 2, 0]
    mask = np.arange(5) < np.array(lengths)[:, None]
    output, weights = FrameAverage()(maps, mask=mask, return_attention=True)
    for b, length in enumerate(lengths):
        expected = maps[b, :length].astype("float64").mean(axis=0) if length else np.zeros((2, 2, 4))
        np.testing.assert_allclose(output[b], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights[b].numpy().sum(), 1.0 if length else 0.0, rtol=1e-6)


def test_average_of_each_clip():
    vectors = RNG.normal(size=(2, 3, 4, 5)).astype("float32")
    mask = np.ones((2, 3, 4), bool)
    mask[1, 1, 2:] = mask[1, 2] = False
    output, weights = FrameAverage(axis=2)(np.where(mask[..., None], vectors, np.nan), mask=mask, return_attention=True)
    for b, c in np.ndindex(2, 3):
        real = vectors[b, c][mask[b, c]].astype("float64")
        expected = real.mean(axis=0) if len(real) else np.zeros(5)
        np.testing.assert_allclose(output[b, c], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights[b, c], mask[b, c] / max(len(real), 1), rtol=1e-6)
    symbolic = FrameAverage(axis=2)(keras.KerasTensor((None, None, 4, 5)), return_attention=True)
    assert [tensor.shape for tensor in symbolic] == [(None, None, 5), (None, None, 4)]


def expected_weights(attentions, length, balance):
    """Equation 2 and the normalisation of algorithm 1 for one tracklet: weights of mean 1."""
    attentions = [attention[:length] + FrameAverage.epsilon for attention in attentions]
    if balance:
        attentions = [attention / attention.mean() for attention in attentions]
    a = [sum(attention[i] for attention in attentions) / len(attentions) for i in range(length)]
    return [value / (sum(a) / length) for value in a]


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", [(4,), (4, 2, 6)])
def test_weighted_frame_average(count, shape, balance):
    inputs = RNG.normal(size=(3, 5, *shape)).astype("float32")
    attentions = [RNG.random((3, 5), dtype="float32") * scale for scale in (7, 0.5)[:count]]
    weights = attentions if count > 1 else attentions[0]
    layer = FrameAverage(balance=balance)
    fused, shares = layer(inputs, weights, mask=MASK, return_attention=True)
    for row, length in enumerate(LENGTHS):
        a = expected_weights([attention[row].astype("float64") for attention in attentions], length, balance)
        expected = sum(a[i] * inputs[row, i].astype("float64") for i in range(length)) / length
        np.testing.assert_allclose(fused[row], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(shares[row, :length] * length, a, rtol=1e-5)
        assert not shares[row, length:].numpy().any()
    np.testing.assert_allclose(shares.numpy().sum(axis=1), 1.0, rtol=1e-5)
    shuffled = [attention[:, ORDER] for attention in attentions]
    again = layer(inputs[:, ORDER], shuffled, mask=MASK[:, ORDER])
    np.testing.assert_allclose(again, fused, rtol=1e-5, atol=1e-6)


def test_weighted_frames_of_clips():
    inputs, weights = RNG.normal(size=(2, 3, 4, 6)).astype("float32"), RNG.random((2, 3, 4), dtype="float32")
    mask = np.arange(4) < np.array([[4, 2, 0], [1, 4, 3]])[..., None]
    fused = FrameAverage(axis=2)(inputs, weights, mask=mask)
    for clip in range(3):
        alone = FrameAverage()(inputs[:, clip], weights[:, clip], mask=mask[:, clip])
        np.testing.assert_allclose(fused[:, clip], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attention", [InterFrameDistance, InterFrameRelation])
@pytest.mark.parametrize("case", ["one frame", "equal frames", "dead", "no frame"])
def test_a_zero_sum_is_the_plain_mean_with_finite_gradients(attention, case):
    frames = np.repeat(RNG.random((1, 1, 6), dtype="float32"), 4, axis=1)
    mask = np.arange(4)[None] < {"one frame": 1, "no frame": 0}.get(case, 4)
    layer = attention()
    layer(frames)
    if case == "dead":
        layer.set_weights([-np.abs(weight) - 1 for weight in layer.get_weights()])
    direction = RNG.normal(size=(1, 4)).astype("float32")

    def weighted(x):
        fused, shares = FrameAverage()(x, layer(x, mask=mask), mask=mask, return_attention=True)
        return ops.concatenate([shares * direction, fused], axis=1)

    value, by_input, by_weights = gradient_function(weighted, layer.trainable_variables)(frames)
    np.testing.assert_allclose(value[:, :4], mask * direction / max(mask.sum(), 1), rtol=1e-5)
    np.testing.assert_allclose(value[:, 4:], frames[:, 0] * mask[:, :1], rtol=1e-5)
    assert np.isfinite(by_input).all()
    assert all(np.isfinite(gradient).all() for gradient in by_weights if gradient is not None)


def test_weighted_frames_that_carry_the_mask():
    frames = keras.layers.Masking()(np.where(MASK[..., None], FRAMES, 0))
    attentions = [IntraFrameAttention()(frames), InterFrameDistance()(frames)]
    _, shares = FrameAverage()(frames, attentions, return_attention=True)
    np.testing.assert_array_equal(shares.numpy() > 0, MASK)
    _, shares = FrameAverage()(FRAMES, attentions[0], return_attention=True)
    np.testing.assert_array_equal(shares.numpy() > 0, MASK)


def test_symbolic_weights():
    symbolic = [keras.Input((None, 6)), keras.Input((None,)), keras.Input((None,))]
    model = keras.Model(symbolic, FrameAverage()(symbolic[0], symbolic[1:], return_attention=True))
    attentions = [RNG.random((3, 5), dtype="float32") for _ in range(2)]
    expected = FrameAverage()(FRAMES, attentions, return_attention=True)
    for one, other in zip(model([FRAMES, *attentions]), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_padding_of_frames_and_weights_changes_nothing():
    inputs, weights = RNG.normal(size=(3, 5, 2)).astype("float32"), RNG.random((3, 5), dtype="float32")
    mask = np.arange(5) < np.array([5, 0, 3])[:, None]
    clean = np.where(mask[..., None], inputs, 0), np.where(mask, weights, 0)
    expected = FrameAverage()(*clean, mask=mask).numpy()
    assert not expected[1].any()
    for value in (np.nan, 1e4):
        spoilt = np.where(mask[..., None], inputs, value), np.where(mask, weights, value).astype("float32")
        np.testing.assert_array_equal(FrameAverage()(spoilt[0].astype("float32"), spoilt[1], mask=mask), expected)
        with tf.GradientTape() as tape:
            tensors = [tf.constant(array, "float32") for array in spoilt]
            tape.watch(tensors)
            total = tf.reduce_sum(FrameAverage()(*tensors, mask=mask))
        for gradient in tape.gradient(total, tensors):
            assert np.isfinite(gradient).all()
            assert not gradient.numpy()[~mask].any()


def test_half_precision_sums_in_float32():
    inputs = np.full((1, 1000, 2), 200.0, "float16")
    fused = FrameAverage(dtype="mixed_float16")(inputs, np.ones((1, 1000), "float32"))
    assert fused.dtype == "float16"
    np.testing.assert_allclose(fused, 200.0)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: FrameAverage(axis=0).build(None), "axis=0"),
        (lambda: FrameAverage(axis=2).build((2, 3, 4)), r"batch, clips, frames.*\(2, 3, 4\)"),
        (
            lambda: FrameAverage()(FRAMES, np.zeros((3, 5, 1))),
            r"weights must be \(batch, frames\).*weights of shape \(3, 5, 1\)",
        ),
        (lambda: FrameAverage()(FRAMES, [np.zeros((3, 5)), np.zeros(3)]), r"weights of shape \(3,\)"),
        (lambda: FrameAverage()(np.zeros((2, 3)), np.zeros((2, 3))), r"features.*\(2, 3\)"),
        (lambda: FrameAverage()(np.zeros((2, 3, 1)), np.zeros(2)), r"weights of shape \(2,\)"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
