"""Mean relations of frames against equations 5 and 6, pair by pair."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fusion_samples import FRAMES, LENGTHS, MASK, real
from numpy_layers import randomised

from kreid.layers import InterFrameRelation

RNG = np.random.default_rng(23)


def perceptron(layers, x):
    """P of equation 5: `layers` holds kernels and biases in turn."""
    for kernel, bias in layers:
        x = np.maximum(x @ kernel + bias, 0)
    return x


def mean_relations(f, layers, theta):
    """Equations 5 and 6 for frames (L, C), pair by pair."""
    length = len(f)
    v = np.zeros(length)
    for i in range(length):
        for j in range(length):
            if j != i:
                r = perceptron(layers, np.concatenate([f[i], f[j]])) + perceptron(layers, np.concatenate([f[j], f[i]]))
                v[i] += max(theta @ r, 0) / (length - 1)
    return v


def relation_weights(layer):
    """Kernels and biases of P, and theta, of a layer."""
    kernel, bias, theta, *later = (np.asarray(weight, "float64") for weight in layer.get_weights())
    return [(kernel, bias), *zip(later[::2], later[1::2], strict=True)], theta


@pytest.mark.parametrize("normalize", ["unit", "none"])
@pytest.mark.parametrize("hidden_dims", [(), (7,), (7, 4)])
def test_inter_frame_relation(hidden_dims, normalize):
    layer = InterFrameRelation(relation_dim=9, hidden_dims=hidden_dims, normalize=normalize)
    layer.build(FRAMES.shape)
    randomised(layer)
    layer.theta.assign(np.abs(layer.theta))  # not all pairs below 0 by chance
    layers, theta = relation_weights(layer)
    assert [kernel.shape for kernel, _ in layers] == list(zip((12, *hidden_dims), (*hidden_dims, 9), strict=True))
    v = layer(FRAMES, mask=MASK).numpy()
    found = 0
    for row, length in enumerate(LENGTHS):
        f = real(FRAMES, row)
        if normalize == "unit":
            f = f / np.sqrt((f**2).sum(axis=1, keepdims=True))
        expected = mean_relations(f, layers, theta)
        np.testing.assert_allclose(v[row, :length], expected, rtol=1e-4, atol=1e-6)
        assert not v[row, length:].any()
        found += (expected > 0).sum()
    assert found


def test_relations_start_alive():
    # Frames of one person are nearly equal: random signs of theta would leave half of all layers with nothing.
    frames = np.abs(RNG.normal(size=(1, 1, 64)) + 0.1 * RNG.normal(size=(4, 6, 64))).astype("float32")
    for seed in range(20):
        keras.utils.set_random_seed(seed)
        assert (InterFrameRelation(32, (64,))(frames).numpy() > 0).all()


def test_relations_of_many_large_frames_are_never_paired_in_full():
    layer = InterFrameRelation(relation_dim=32, hidden_dims=(64,))
    layer.build((2, 64, 2048))
    graph = tf.function(layer.call).get_concrete_function(tf.TensorSpec((2, 64, 2048))).graph
    sizes = [
        np.prod(output.shape.as_list())
        for operation in graph.get_operations()
        for output in operation.outputs
        if output.shape.is_fully_defined()
    ]
    assert max(sizes) == 2 * 64 * 64 * 64, "the pairs of concatenated vectors would be 64 times as many values"
    frames = RNG.random((2, 64, 2048), dtype="float32")
    assert np.isfinite(layer(frames)).all()


def test_relations_of_unit_vectors_start_near_1_at_any_scale():
    frames = np.abs(RNG.normal(size=(4, 8, 512))).astype("float32")
    layer = InterFrameRelation()
    v = layer(frames).numpy()
    assert v.min() > 0.3 and v.max() < 6
    np.testing.assert_allclose(layer(28 * frames), v, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: InterFrameRelation()(np.zeros((2, 3))), r"\(batch, frames, C\).*\(2, 3\)"),
        (lambda: InterFrameRelation(relation_dim=0), r"positive integers.*relation_dim=0"),
        (lambda: InterFrameRelation(hidden_dims=(8, 0.5)), r"positive integers.*hidden_dims=\(8, 0.5\)"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
