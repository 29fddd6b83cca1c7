"""Padded frame maps, and the comparison of an attention on them with its paper's equations."""

import numpy as np
from keras import ops

MAPS = np.maximum(np.random.default_rng(71).normal(0.3, 1.0, (2, 3, 4, 2, 6)), 0).astype("float32")
LENGTHS = np.array([3, 2])
MASK = np.arange(3) < LENGTHS[:, None]
NOISY = np.where(MASK[:, :, None, None, None], MAPS, np.nan).astype("float32")
REAL = [(b, t) for b, length in enumerate(LENGTHS) for t in range(length)]


def moved(layer, seed=71):
    """Moves the weights from where some start: gammas of 0 or 1, zeros."""
    rng = np.random.default_rng(seed)
    layer(MAPS)
    for weight in layer.weights:
        value = ops.convert_to_numpy(weight)
        positive = "variance" in weight.path
        noise = rng.uniform(0.3, 1.0, value.shape) if positive else rng.normal(scale=0.5, size=value.shape)
        weight.assign(value + noise)
    return layer


def check(layer, expected, attention, training=False):
    """Compares the layer on padded maps with the frames, and attentions by frame, that the equations give."""
    options = {"training": training} if training else {}
    found, shown = layer(NOISY, mask=MASK, return_attention=True, **options)
    found = ops.convert_to_numpy(found)
    for (b, t), frame in expected.items():
        np.testing.assert_allclose(found[b, t], frame, rtol=1e-4, atol=1e-5)
        for name, values in attention.items():
            np.testing.assert_allclose(ops.convert_to_numpy(shown[name])[b, t], values[b, t], rtol=1e-4, atol=1e-6)
    assert shown.keys() == attention.keys()
    assert not found[~MASK].any()
