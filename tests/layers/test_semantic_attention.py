"""Votes of the stages against equations 7 to 9."""

import keras
import numpy as np
import pytest
from numpy_layers import randomised

from kreid.layers import FrameAverage, SemanticAttention

RNG = np.random.default_rng(23)


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
    layer = SemanticAttention()
    layer.build(vectors.shape)
    kernel, bias = (np.asarray(weight, "float64") for weight in randomised(layer).get_weights())
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
        (lambda: SemanticAttention()(np.zeros((2, 3))), r"\(batch, K, D\).*\(2, 3\)"),
        (lambda: SemanticAttention()(keras.Input((None, 3))), r"known K.*\(None, None, 3\)"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
