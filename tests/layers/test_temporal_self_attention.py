"""GLTR's self-attention over frames against equation 7, written from the paper in float64."""

import numpy as np
import pytest
from keras import ops
from temporal_samples import FRAMES, LENGTHS, MASK, normalised, randomised, sizes_of

from kreid.layers import TemporalSelfAttention

RNG = np.random.default_rng(31)


def attended(layer, f):
    """Equation 7 for frames (L, C), pair by pair: F'' and M."""
    (b_kernel,), (c_kernel,) = (embedding.get_weights() for embedding in layer.embeddings)
    b, c = (
        normalised(norm, f @ kernel.astype("float64"))
        for norm, kernel in zip(layer.normalizations, (b_kernel, c_kernel), strict=True)
    )
    value_kernel, value_bias = (np.asarray(w, "float64") for w in layer.values.get_weights())
    kernel, bias = (np.asarray(w, "float64") for w in layer.restore.get_weights())
    length = len(f)
    if layer.normalize == "cosine":
        b, c = (x / np.maximum(np.sqrt((x**2).sum(axis=1, keepdims=True)), 1e-6) for x in (b, c))
    m = np.array([[b[s] @ c[t] for t in range(length)] for s in range(length)])
    if layer.normalize in ("cosine", "mean"):
        m = m / length
    elif layer.normalize == "softmax":
        m = np.exp(m / np.sqrt(layer.values.units))
        m = m / m.sum(axis=0)
    values = f @ value_kernel + value_bias
    out = np.array([sum(values[s] * m[s, t] for s in range(length)) @ kernel + bias + f[t] for t in range(length)])
    return out, m


@pytest.mark.parametrize("normalize", ["cosine", "mean", "softmax", "none"])
@pytest.mark.parametrize("reduction", [1, 2, 9])
def test_self_attention(normalize, reduction):
    layer = randomised(TemporalSelfAttention(reduction, normalize))
    assert layer.values.units == {1: 6, 2: 3, 9: 1}[reduction]
    found, relations = (ops.convert_to_numpy(x) for x in layer(FRAMES, mask=MASK, return_attention=True))
    assert not relations[3].any() and not found[3].any()
    for row, length in enumerate(LENGTHS[:3]):
        expected, m = attended(layer, FRAMES[row, :length].astype("float64"))
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(relations[row, :length, :length], m, rtol=1e-3, atol=1e-4)
        assert not found[row, length:].any()
        assert not relations[row, length:].any() and not relations[row, :, length:].any()


def test_self_attention_starts_as_the_identity():
    found = ops.convert_to_numpy(TemporalSelfAttention()(FRAMES, mask=MASK))
    np.testing.assert_array_equal(found, np.where(MASK[..., None], FRAMES, 0))


def test_self_attention_reaches_no_statistics_from_padding():
    layer, alone = randomised(TemporalSelfAttention()), TemporalSelfAttention()
    alone.build(FRAMES.shape)
    alone.set_weights(layer.get_weights())
    layer(np.where(MASK[..., None], FRAMES, np.nan).astype("float32"), mask=MASK, training=True)
    alone(np.concatenate([FRAMES[row, :length] for row, length in enumerate(LENGTHS)])[None], training=True)
    for mine, theirs in zip(layer.normalizations, alone.normalizations, strict=True):
        np.testing.assert_allclose(mine.moving_mean, theirs.moving_mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(mine.moving_variance, theirs.moving_variance, rtol=1e-4, atol=1e-6)


def test_self_attention_follows_the_order_of_the_frames():
    layer = randomised(TemporalSelfAttention())
    order = RNG.permutation(11)
    found = ops.convert_to_numpy(layer(FRAMES))
    np.testing.assert_allclose(layer(FRAMES[:, order]), found[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", ["cosine", "mean", "softmax", "none"])
def test_a_repeated_tracklet(normalize):
    layer = randomised(TemporalSelfAttention(normalize=normalize))
    once = ops.convert_to_numpy(layer(FRAMES[:1]))
    often = ops.convert_to_numpy(layer(np.tile(FRAMES[:1], (1, 20, 1))))
    if normalize == "none":
        added = once - FRAMES[:1] - layer.restore.get_weights()[1]
        expected = 20 * added + FRAMES[:1] + layer.restore.get_weights()[1]
    else:
        expected = once
    np.testing.assert_allclose(often[:, :11], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("normalize", ["cosine", "mean", "softmax", "none"])
def test_self_attention_over_1000_frames(normalize):
    layer = TemporalSelfAttention(normalize=normalize)
    layer.build((1, 1000, 384))
    floats = sizes_of(layer, (1, 1000, 384))
    assert max(floats) == 1000 * 1000, "M is the largest"
    assert 4 * max(floats) == 4_000_000, "bytes, as the docstring says"
    assert np.isfinite(layer(RNG.random((1, 1000, 384), dtype="float32"))).all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [({"reduction": 0}, "reduction=0"), ({"normalize": "sum"}, "cosine, mean, softmax, none.*normalize='sum'")],
)
def test_self_attention_refuses(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        TemporalSelfAttention(**arguments)
    with pytest.raises(ValueError, match=r"\(batch, frames, C\).*\(2, 3\)"):
        TemporalSelfAttention()(np.zeros((2, 3)))
