"""CBAM's weights of channels and positions in float64."""

import numpy as np
import pytest
from map_samples import MAPS, REAL, check, moved
from numpy_layers import relu, sigmoid, weights

from kreid.layers import ConvolutionalBlockAttention


def test_convolutional_block_attention():
    layer = moved(ConvolutionalBlockAttention(reduction=2, kernel_size=3))
    (w0,), (w1,), (kernel,) = weights(layer.first), weights(layer.second), weights(layer.spatial)
    expected, channels, maps = {}, {}, {}
    for key in REAL:
        x = MAPS[key].astype("float64")
        channels[key] = sigmoid(sum(relu(pooled @ w0) @ w1 for pooled in (x.mean(axis=(0, 1)), x.max(axis=(0, 1)))))
        x = x * channels[key]
        summaries = np.zeros((6, 4, 2))
        summaries[1:-1, 1:-1] = np.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
        maps[key] = sigmoid(
            np.array([[(summaries[i : i + 3, j : j + 3] * kernel[..., 0]).sum() for j in range(2)] for i in range(4)])
        )
        expected[key] = x * maps[key][..., None]
    check(layer, expected, {"channels": channels, "maps": maps})


def test_a_kernel_without_a_middle():
    with pytest.raises(ValueError, match="kernel_size=4"):
        ConvolutionalBlockAttention(kernel_size=4)
