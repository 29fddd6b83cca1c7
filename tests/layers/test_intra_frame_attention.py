"""The weight that a frame gives itself, against equation 3."""

import numpy as np
import pytest
from fusion_samples import FRAMES, LENGTHS, MASK
from numpy_layers import randomised, sigmoid

from kreid.layers import IntraFrameAttention


@pytest.mark.parametrize("mask", [None, MASK])
def test_intra_frame_attention(mask):
    layer = IntraFrameAttention()
    layer.build(FRAMES.shape)
    kernel, bias = (np.asarray(weight, "float64") for weight in randomised(layer).get_weights())
    w = layer(FRAMES, mask=mask).numpy()
    for row, length in enumerate(LENGTHS if mask is not None else (5, 5, 5)):
        expected = [sigmoid(f @ kernel[:, 0] + bias[0]) for f in FRAMES[row, :length].astype("float64")]
        np.testing.assert_allclose(w[row, :length], expected, rtol=1e-5)
        assert not w[row, length:].any()


@pytest.mark.parametrize(
    ("call", "complaint"),
    [(lambda: IntraFrameAttention()(np.zeros((2, 3))), r"\(batch, frames, C\).*\(2, 3\)")],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
