"""The layers of multi-stage fusion against equations 1 to 9 and algorithm 1, written from the paper in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kreid.layers import (
    FrameAverage,
    InterFrameDistance,
    InterFrameRelation,
    IntraFrameAttention,
    SemanticAttention,
)
from kreid.testing._common import gradient_function

RNG = np.random.default_rng(23)
FRAMES = RNG.normal(size=(3, 5, 6)).astype("float32")
LENGTHS = (5, 1, 3)
MASK = np.arange(5) < np.array(LENGTHS)[:, None]
ORDER = [3, 0, 4, 1, 2]


def randomised(layer, inputs):
    layer(inputs)
    layer.set_weights([RNG.normal(size=weight.shape) * 0.5 for weight in layer.get_weights()])
    return layer


def real(inputs, row):
    return inputs[row, : LENGTHS[row]].astype("float64")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mean_distances(f):
    """Equation 4 for frames (L, C)."""
    length = len(f)
    return [sum(np.sqrt(((f[i] - f[j]) ** 2).sum()) for j in range(length)) / length for i in range(length)]


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


@pytest.mark.parametrize("mask", [None, MASK])
def test_intra_frame_attention(mask):
    layer = randomised(IntraFrameAttention(), FRAMES)
    kernel, bias = (np.asarray(weight, "float64") for weight in layer.get_weights())
    w = layer(FRAMES, mask=mask).numpy()
    for row, length in enumerate(LENGTHS if mask is not None else (5, 5, 5)):
        expected = [sigmoid(f @ kernel[:, 0] + bias[0]) for f in FRAMES[row, :length].astype("float64")]
        np.testing.assert_allclose(w[row, :length], expected, rtol=1e-5)
        assert not w[row, length:].any()


def test_inter_frame_distance():
    v = InterFrameDistance()(FRAMES, mask=MASK).numpy()
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(v[row, :length], mean_distances(real(FRAMES, row)), rtol=1e-5, atol=1e-7)
        assert not v[row, length:].any()


@pytest.mark.parametrize("normalize", ["unit", "none"])
@pytest.mark.parametrize("hidden_dims", [(), (7,), (7, 4)])
def test_inter_frame_relation(hidden_dims, normalize):
    layer = randomised(InterFrameRelation(relation_dim=9, hidden_dims=hidden_dims, normalize=normalize), FRAMES)
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


@pytest.mark.parametrize("layer", [IntraFrameAttention, InterFrameDistance, InterFrameRelation])
def test_attention_follows_the_order_of_the_frames(layer):
    made = layer()
    np.testing.assert_allclose(made(FRAMES[:, ORDER]), made(FRAMES).numpy()[:, ORDER], rtol=1e-4)


def test_the_odd_frame_out_gets_more():
    frames = np.repeat(RNG.random((1, 1, 8), dtype="float32"), 5, axis=1)
    frames[:, 3] = RNG.random(8) * 4
    v = InterFrameDistance()(frames)[0].numpy()
    assert v.argmax() == 3
    np.testing.assert_array_equal(v[[0, 1, 2, 4]], v[0])


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


def semantic_fusion(g, kernel, bias):
    """Equations 7 and 8 for the stages' vectors (K, D), and their weighted mean."""
    stages = len(g)
    votes = np.zeros((stages, stages))
    for i in range(stages):
        scores = np.exp(g[i] @ kernel + bias)
        votes[i] = scores / scores.sum()
    u = [sum(votes[i, j] for i in range(stages)) / stages for j in range(stages)]
    return sum(u[j] * g[j] for j in range(stages)), u


# Keras warns of a softmax over one value, which is right for a single stage.
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
@pytest.mark.parametrize("stages", [1, 4])
def test_semantic_attention(stages):
    vectors = RNG.normal(size=(3, stages, 6)).astype("float32")
    layer = randomised(SemanticAttention(), vectors)
    kernel, bias = (np.asarray(weight, "float64") for weight in layer.get_weights())
    fused, weights = layer(vectors, return_attention=True)
    for row in range(3):
        expected, u = semantic_fusion(vectors[row].astype("float64"), kernel, bias)
        np.testing.assert_allclose(fused[row], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights[row], u, rtol=1e-5)
    np.testing.assert_allclose(weights.numpy().sum(axis=1), 1.0, rtol=1e-6)
    # Equation 9 as printed divides by K once more.
    printed = SemanticAttention(as_printed=True)
    printed(vectors)
    printed.set_weights(layer.get_weights())
    np.testing.assert_allclose(printed(vectors), fused / stages, rtol=1e-6)


def test_semantic_attention_keeps_the_scale_of_the_mean():
    vectors = np.repeat(RNG.normal(size=(3, 1, 6)), 4, axis=1).astype("float32")
    np.testing.assert_allclose(SemanticAttention()(vectors), FrameAverage()(vectors), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: IntraFrameAttention()(np.zeros((2, 3))), r"\(batch, frames, C\).*\(2, 3\)"),
        (lambda: InterFrameDistance()(np.zeros((2, 3, 1, 1))), r"\(batch, frames, C\).*\(2, 3, 1, 1\)"),
        (lambda: InterFrameRelation()(np.zeros((2, 3))), r"\(batch, frames, C\).*\(2, 3\)"),
        (lambda: InterFrameRelation(relation_dim=0), r"positive integers.*relation_dim=0"),
        (lambda: InterFrameRelation(hidden_dims=(8, 0.5)), r"positive integers.*hidden_dims=\(8, 0.5\)"),
        (
            lambda: FrameAverage()(FRAMES, np.zeros((3, 5, 1))),
            r"weights must be \(batch, frames\).*weights of shape \(3, 5, 1\)",
        ),
        (lambda: FrameAverage()(FRAMES, [np.zeros((3, 5)), np.zeros(3)]), r"weights of shape \(3,\)"),
        (lambda: FrameAverage()(np.zeros((2, 3)), np.zeros((2, 3))), r"features.*\(2, 3\)"),
        (lambda: FrameAverage()(np.zeros((2, 3, 1)), np.zeros(2)), r"weights of shape \(2,\)"),
        (lambda: SemanticAttention()(np.zeros((2, 3))), r"\(batch, K, D\).*\(2, 3\)"),
        (lambda: SemanticAttention()(keras.Input((None, 3))), r"known K.*\(None, None, 3\)"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
