"""Random weights by the names and shapes of another project's network, equal wherever they are drawn."""

import numpy as np

IMAGE_SIZE = (64, 32)


def drawn(shapes):
    """Draw a tensor for each name: small kernels, scales near 1, positive variances."""
    tensors = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        rng = np.random.default_rng([2026, number])
        if len(shape) > 1:
            tensor = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("running_var"):
            tensor = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight"):
            tensor = rng.uniform(0.8, 1.2, shape)
        else:
            tensor = rng.uniform(-0.1, 0.1, shape)
        tensors[name] = tensor.astype(np.float32)
    return tensors


def image():
    """Draw an image of values as they are after preprocessing, channels last."""
    return np.random.default_rng(11).normal(size=(1, *IMAGE_SIZE, 3)).astype(np.float32)
