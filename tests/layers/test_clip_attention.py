"""TACAN's attention over clips against equations 1 to 3, written in float64 loops."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy_layers import randomised

from kreid.layers import ClipAttention
from kreid.testing import check_layer

RNG = np.random.default_rng(13)


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


@pytest.mark.parametrize(
    ("make", "shape", "complaint"),
    [
        (lambda: ClipAttention(0), None, "positive integer, or None .*embedding_dim=0"),
        (lambda: ClipAttention(2.0), None, r"embedding_dim=2\.0"),
        (lambda: ClipAttention(4, "mean"), None, "weighting='mean'"),
        (lambda: ClipAttention(), (2, 3), r"\(batch, clips, C\).*\(2, 3\)"),
    ],
)
def test_refusals(make, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        make().build(shape)
