"""All attentions over frames follow the order of the frames."""

import numpy as np
import pytest
from fusion_samples import FRAMES, ORDER

from kreid.layers import InterFrameDistance, InterFrameRelation, IntraFrameAttention


@pytest.mark.parametrize("layer", [IntraFrameAttention, InterFrameDistance, InterFrameRelation])
def test_attention_follows_the_order_of_the_frames(layer):
    made = layer()
    np.testing.assert_allclose(made(FRAMES[:, ORDER]), made(FRAMES).numpy()[:, ORDER], rtol=1e-4)
