"""Vectors of frames with padding, as GLTR's layers get them, and the pieces that these layers share."""

import numpy as np
import tensorflow as tf

FRAMES = np.random.default_rng(31).normal(size=(4, 11, 6)).astype("float32")
LENGTHS = (11, 1, 7, 0)
MASK = np.arange(11) < np.array(LENGTHS)[:, None]


def randomised(layer, seed=31):
    rng = np.random.default_rng(seed)
    layer.build(FRAMES.shape)
    for weight in layer.weights:
        low = 0.5 if "variance" in weight.path or "gamma" in weight.path else -0.5
        weight.assign(rng.uniform(low, low + 1, weight.shape))
    return layer


def normalised(layer, x, statistics=None):
    """Batch normalisation by the moving statistics, or others, and ReLU."""
    gamma, beta, mean, variance = (np.asarray(weight, "float64") for weight in layer.get_weights())
    mean, variance = (mean, variance) if statistics is None else statistics
    return np.maximum((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)


def sizes_of(layer, shape):
    """Values of every tensor that the layer makes from inputs of a shape."""
    graph = tf.function(layer.call).get_concrete_function(tf.TensorSpec(shape)).graph
    made = [output for operation in graph.get_operations() for output in operation.outputs]
    return [np.prod(output.shape.as_list()) for output in made if output.shape.is_fully_defined()]
