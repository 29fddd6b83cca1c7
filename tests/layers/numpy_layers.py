"""Pieces of layers in float64 NumPy, and random weights for a layer."""

import numpy as np


def weights(layer):
    return [w.astype("float64") for w in layer.get_weights()]


def randomised(layer, seed=0):
    """Gives every weight of a built layer random values: some start at zero."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape, scale=0.5) for weight in layer.get_weights()])
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def normalised(nodes, bn, training):
    """Batch normalisation of the rows (n, C), in training by their own statistics."""
    gamma, beta, mean, variance = weights(bn)
    if training:
        mean, variance = nodes.mean(axis=0), nodes.var(axis=0)
    return (nodes - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def block_mean(maps, height, width):
    """Average pooling of (h, w, C) by blocks of height x width."""
    rows, columns = maps.shape[0] // height, maps.shape[1] // width
    pooled = np.zeros((rows, columns, maps.shape[2]))
    for y in range(rows):
        for x in range(columns):
            block = maps[y * height : (y + 1) * height, x * width : (x + 1) * width]
            pooled[y, x] = block.reshape(-1, maps.shape[2]).mean(axis=0)
    return pooled
