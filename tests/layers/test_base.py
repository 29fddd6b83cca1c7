"""`uniform_attention`: the layers on maps without their weights."""

import numpy as np
import pytest

from kreid import layers

RNG = np.random.default_rng(2)
MAPS = RNG.random((2, 3, 4, 2, 16), np.float32)
MASK = np.array([[True, True, True], [True, True, False]])


@pytest.mark.parametrize("name", ["SqueezeExcitation", "ConvolutionalBlockAttention", "RelationAwareAttention"])
def test_gates_are_open(name):
    layer = getattr(layers, name)()
    gated, _ = layer(MAPS, mask=MASK, return_attention=True)
    layer.uniform_attention = True
    output, attention = layer(MAPS, mask=MASK, return_attention=True)
    np.testing.assert_array_equal(output, np.where(MASK[:, :, None, None, None], MAPS, 0))
    assert np.abs(np.array(gated) - np.array(output)).max() > 0.01
    for values in attention.values():
        np.testing.assert_array_equal(values, 1.0)


@pytest.mark.parametrize("across_frames", [False, True])
def test_non_local_positions_count_the_same(across_frames):
    layer = layers.NonLocal(across_frames=across_frames)
    layer.uniform_attention = True
    _, attention = layer(MAPS, mask=MASK, return_attention=True)
    maps = np.array(attention["maps"])
    for row, real in enumerate((3, 2)):
        positions = 8 * real if across_frames else 8
        np.testing.assert_allclose(maps[row, :real], 1 / positions, rtol=1e-6)


def test_stages_count_the_same():
    vectors = RNG.random((2, 4, 8), np.float32)
    layer = layers.SemanticAttention()
    layer.uniform_attention = True
    fused, weights = layer(vectors, return_attention=True)
    np.testing.assert_allclose(weights, 0.25, rtol=1e-6)
    np.testing.assert_allclose(fused, vectors.astype("float64").mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("weighting", ["linear", "sigmoid", "softmax"])
def test_clips_count_by_their_frames(weighting):
    clips, counts = RNG.random((1, 3, 8), np.float32), np.array([[4, 4, 1]])
    layer = layers.ClipAttention(None, weighting)
    layer(clips)
    layer.weigh.kernel.assign(RNG.normal(size=(8, 1)))
    layer.uniform_attention = True
    vector, weights = layer(clips, clip_lengths=counts, return_attention=True)
    np.testing.assert_array_equal(weights, [[1.0, 1.0, 1.0]])
    np.testing.assert_allclose(vector[0], np.average(clips[0].astype("float64"), axis=0, weights=counts[0]), rtol=1e-5)
