"""TACAN's clips and both its attentions against the papers' equations, written in float64 loops."""

import keras
import numpy as np
import pytest
from keras import ops

from kreid.layers import ClipAttention, FrameAverage, FramesToClips, TemporalAttention
from kreid.testing import check_layer

RNG = np.random.default_rng(13)


def randomised(layer, seed=0):
    """Gives every weight random values: some start at zero."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape, scale=0.5) for weight in layer.get_weights()])
    return layer


@pytest.mark.parametrize("clip_length", [1, 3, 4, 7])
@pytest.mark.parametrize("frames", [1, 3, 4, 8, 9])
def test_frames_to_clips(frames, clip_length):
    maps = RNG.normal(size=(3, frames, 2, 2)).astype("float32")
    mask = np.arange(frames) < np.array([frames, frames // 2, 0])[:, None]
    clips, real = (ops.convert_to_numpy(x) for x in FramesToClips(clip_length)(maps, mask=mask))
    assert clips.shape == (3, -(-frames // clip_length), clip_length, 2, 2)
    for b in range(3):
        for c, i in np.ndindex(*clips.shape[1:3]):
            t = c * clip_length + i
            there = t < frames and mask[b, t]
            assert real[b, c, i] == there
            np.testing.assert_array_equal(clips[b, c, i], maps[b, t] if there else np.zeros((2, 2)))


def test_frames_to_clips_keeps_the_type_and_knows_its_shape():
    pixels = RNG.integers(0, 256, (2, 5, 4, 3)).astype("uint8")
    clips, real = FramesToClips(2, dtype="mixed_float16")(pixels)
    assert (clips.dtype, real.dtype) == ("uint8", "bool")
    for frames, expected in ((None, None), (5, 3)):
        clips, real = FramesToClips(2)(keras.KerasTensor((None, frames, 4, 3), "uint8"))
        assert (clips.shape, clips.dtype) == ((None, expected, 2, 4, 3), "uint8")
        assert (real.shape, real.dtype) == ((None, expected, 2), "bool")


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


def clip_attention(layer, f, n=None):
    """Weights and tracklet feature of clip vectors (m, C) by equations 1 to 3, a clip of n frames counted n times.

    Softmax is without the 1/m.
    """
    embedded = f
    if layer.transform is not None:
        transform, offset = (ops.convert_to_numpy(w).astype("float64") for w in layer.transform.weights)
        embedded = f @ transform + offset
    n = np.ones(len(f)) if n is None else n.astype("float64")
    w, total = np.ones(len(f)), n.sum()
    if layer.weighting != "average":
        row, *bias = (ops.convert_to_numpy(x).astype("float64") for x in layer.weigh.weights)
        w = np.array([row[:, 0] @ clip + sum(bias, np.zeros(1))[0] for clip in f])
    if layer.weighting == "sigmoid":
        w = 1 / (1 + np.exp(-w))
    if layer.weighting == "softmax":
        w = n * np.exp(w) / (n * np.exp(w)).sum()
        return w, sum(w[i] * embedded[i] for i in range(len(f)))
    return w, sum(n[i] * w[i] * embedded[i] for i in range(len(f))) / total


@pytest.mark.parametrize("embedding_dim", [5, None])
@pytest.mark.parametrize("weighting", ["average", "linear", "sigmoid", "softmax"])
@pytest.mark.parametrize("clips", [1, 4, 9])
def test_clip_attention(clips, weighting, embedding_dim):
    vectors = RNG.normal(size=(3, clips, 6)).astype("float32")
    lengths = [clips, clips // 2, 0]
    mask = np.arange(clips) < np.array(lengths)[:, None]
    layer = ClipAttention(embedding_dim, weighting)
    layer.build(vectors.shape)
    output, weights = randomised(layer)(vectors, mask=mask, return_attention=True)
    for b, length in enumerate(lengths):
        if length == 0:
            assert not ops.convert_to_numpy(output)[b].any()
            continue
        w, f = clip_attention(layer, vectors[b, :length].astype("float64"))
        np.testing.assert_allclose(weights[b, :length], w, rtol=1e-4, atol=1e-6)
        assert not ops.convert_to_numpy(weights)[b, length:].any()
        np.testing.assert_allclose(output[b], f, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighting", ["average", "linear", "softmax", "sigmoid"])
def test_clip_attention_starts_from_equal_weights(weighting):
    vectors = RNG.normal(size=(2, 4, 6)).astype("float32")
    layer = ClipAttention(5, weighting)
    output = layer(vectors)
    expected = ops.convert_to_numpy(layer.transform(vectors)).astype("float64").mean(axis=1)
    start = 1 / (1 + np.exp(-1)) if weighting == "sigmoid" else 1
    np.testing.assert_allclose(output, start * expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighting", ["average", "linear", "sigmoid", "softmax"])
def test_any_number_of_equal_clips_and_any_order_of_clips(weighting):
    vectors = RNG.normal(size=(2, 4, 6)).astype("float32")
    layer = ClipAttention(5, weighting)
    layer.build(vectors.shape)
    randomised(layer)
    one = layer(vectors[:, :1])
    for clips in (2, 7, 50):
        np.testing.assert_allclose(layer(np.repeat(vectors[:, :1], clips, axis=1)), one, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(vectors[:, [2, 0, 3, 1]]), layer(vectors), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(np.repeat(vectors, 12, axis=1)), layer(vectors), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("embedding_dim", [5, None])
@pytest.mark.parametrize("weighting", ["average", "linear", "sigmoid", "softmax"])
def test_clips_count_by_their_frames(weighting, embedding_dim):
    vectors = RNG.normal(size=(3, 4, 6)).astype("float32")
    counts = np.array([[4, 4, 4, 1], [4, 2, 0, 0], [0, 0, 0, 0]])
    layer = ClipAttention(embedding_dim, weighting)
    layer.build(vectors.shape)
    randomised(layer)
    padded = np.where((counts > 0)[..., None], vectors, np.nan)
    output, weights = layer(padded, clip_lengths=counts, return_attention=True)
    for b, length in enumerate([4, 2]):
        w, f = clip_attention(layer, vectors[b, :length].astype("float64"), counts[b, :length])
        np.testing.assert_allclose(weights[b, :length], w, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(output[b], f, rtol=1e-4, atol=1e-5)
    assert not ops.convert_to_numpy(output)[2].any()
    assert not ops.convert_to_numpy(weights)[counts == 0].any()
    for equal in (1, 4):
        same = layer(vectors, clip_lengths=np.full((3, 4), equal))
        np.testing.assert_allclose(same, layer(vectors), rtol=1e-5, atol=1e-6)
    first_two = np.tile(np.arange(4) < 2, (3, 1))
    np.testing.assert_allclose(
        layer(vectors, mask=first_two, clip_lengths=counts[[0, 0, 0]]), layer(vectors[:, :2]), rtol=1e-5, atol=1e-6
    )
    symbolic = layer(keras.KerasTensor((None, None, 6)), clip_lengths=keras.KerasTensor((None, None)))
    assert symbolic.shape == (None, embedding_dim or 6)
    with pytest.raises(ValueError, match=r"clip_lengths must be .*shape \(3,\)"):
        layer(vectors, clip_lengths=np.full(3, 4))


def test_without_weights_and_embedding_layer_it_is_the_mean_of_the_clips():
    vectors = RNG.normal(size=(2, 4, 6)).astype("float32")
    layer = ClipAttention(None, "average")
    np.testing.assert_allclose(layer(vectors), vectors.astype("float64").mean(axis=1), rtol=1e-5, atol=1e-7)
    assert not layer.weights


@pytest.mark.parametrize(
    ("embedding_dim", "weighting"),
    [(2, "average"), (2, "linear"), (2, "softmax"), (None, "average"), (None, "sigmoid")],
)
def test_contract_of_every_form(embedding_dim, weighting):
    inputs = RNG.normal(size=(4, 3, 6)).astype("float32")
    check_layer(ClipAttention, {"embedding_dim": embedding_dim, "weighting": weighting}, inputs, attention=True)


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


@pytest.mark.parametrize(
    ("make", "shape", "complaint"),
    [
        (lambda: FramesToClips(0), None, "clip_length=0"),
        (lambda: FramesToClips(2.5), None, r"clip_length=2\.5"),
        (lambda: TemporalAttention(0), None, "hidden_dim=0"),
        (lambda: ClipAttention(0), None, "positive integer, or None .*embedding_dim=0"),
        (lambda: ClipAttention(2.0), None, r"embedding_dim=2\.0"),
        (lambda: ClipAttention(4, "mean"), None, "weighting='mean'"),
        (lambda: FrameAverage(axis=0), None, "axis=0"),
        (lambda: FrameAverage(axis=2), (2, 3, 4), r"batch, clips, frames.*\(2, 3, 4\)"),
        (lambda: TemporalAttention(), (2, 3, 4), r"known h, w and C.*\(2, 3, 4\)"),
        (lambda: TemporalAttention(), (2, 3, None, 4, 5), "known h, w and C"),
        (lambda: ClipAttention(), (2, 3), r"\(batch, clips, C\).*\(2, 3\)"),
        (lambda: FramesToClips(), (2,), r"\(batch, frames, \.\.\.\).*\(2,\)"),
    ],
)
def test_refusals(make, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        make().build(shape)
