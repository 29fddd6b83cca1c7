"""TACAN's attention within a clip against the paper's equations, written in float64 loops."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy_layers import randomised

from kreid.layers import TemporalAttention

RNG = np.random.default_rng(13)


def temporal_attention(layer, f):
    """Weights and clip vector of one clip of frame maps (T, h, w, C)."""
    kernel, bias = (ops.convert_to_numpy(w).astype("float64") for w in layer.spatial.weights)
    filters = ops.convert_to_numpy(layer.temporal.kernel).astype("float64")  # (3, hidden, 1)
    frames, h, w, channels = f.shape
    kernel = kernel.reshape(h, w, channels, -1)
    hidden = [np.zeros(len(bias))]
    for t in range(frames):
        hidden.append(np.maximum(np.einsum("hwc,hwcd->d", f[t], kernel) + bias, 0))
    hidden.append(np.zeros(len(bias)))
    scores = [sum(filters[k, :, 0] @ hidden[t + k] for k in range(3)) for t in range(frames)]
    a = np.exp(scores) / np.exp(scores).sum()
    return a, sum(a[t] * f[t].mean(axis=(0, 1)) for t in range(frames))


@pytest.mark.parametrize("frames", [1, 2, 4, 7])
def test_temporal_attention(frames):
    maps = RNG.normal(size=(3, frames, 3, 2, 5)).astype("float32")
    mask = np.arange(frames) < np.array([frames, frames - 1, 1])[:, None]
    layer = TemporalAttention(6)
    layer.build(maps.shape)
    vectors, weights = randomised(layer)(maps, mask=mask, return_attention=True)
    for b, length in enumerate(mask.sum(axis=1)):
        if length == 0:
            continue
        a, f = temporal_attention(layer, maps[b, :length].astype("float64"))
        np.testing.assert_allclose(weights[b, :length], a, rtol=1e-4)
        assert not ops.convert_to_numpy(weights)[b, length:].any()
        np.testing.assert_allclose(vectors[b], f, rtol=1e-4, atol=1e-5)


def test_temporal_attention_starts_from_the_mean():
    maps = RNG.normal(size=(2, 4, 3, 2, 5)).astype("float32")
    vectors, weights = TemporalAttention()(maps, return_attention=True)
    np.testing.assert_allclose(weights, 0.25, rtol=1e-6)
    np.testing.assert_allclose(vectors, maps.mean(axis=(1, 2, 3)), rtol=1e-4, atol=1e-6)


def test_temporal_attention_of_several_clips_is_that_of_each():
    maps = RNG.normal(size=(2, 3, 4, 3, 2, 5)).astype("float32")
    mask = np.ones((2, 3, 4), bool)
    mask[1, 1, 2:] = mask[1, 2] = False
    layer = TemporalAttention(6)
    layer.build(maps.shape)
    vectors, weights = randomised(layer)(maps, mask=mask, return_attention=True)
    for b in range(2):
        alone, alone_weights = layer(maps[b], mask=mask[b], return_attention=True)
        np.testing.assert_allclose(vectors[b], alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights[b], alone_weights, rtol=1e-5)
    assert not ops.convert_to_numpy(vectors)[1, 2].any()
    symbolic = layer(keras.KerasTensor((None, None, 4, 3, 2, 5)), return_attention=True)
    assert [tensor.shape for tensor in symbolic] == [(None, None, 5), (None, None, 4)]


def test_temporal_attention_does_not_shrink_with_the_clip():
    frame = RNG.random((1, 1, 3, 2, 5), dtype="float32")
    layer = TemporalAttention(6)
    layer.build(frame.shape)
    randomised(layer)
    for frames in (1, 2, 10):
        vector = layer(np.repeat(frame, frames, axis=1))
        np.testing.assert_allclose(vector, frame.mean(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "shape", "complaint"),
    [
        (lambda: TemporalAttention(0), None, "hidden_dim=0"),
        (lambda: TemporalAttention(), (2, 3, 4), r"known h, w and C.*\(2, 3, 4\)"),
        (lambda: TemporalAttention(), (2, 3, None, 4, 5), "known h, w and C"),
    ],
)
def test_refusals(make, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        make().build(shape)
