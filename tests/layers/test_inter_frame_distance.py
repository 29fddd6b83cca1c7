"""Mean distances of frames against equation 4, pair by pair."""

import numpy as np
import pytest
from fusion_samples import FRAMES, LENGTHS, MASK, real

from kreid.layers import InterFrameDistance

RNG = np.random.default_rng(23)


def mean_distances(f):
    """Equation 4 for frames (L, C)."""
    length = len(f)
    return [sum(np.sqrt(((f[i] - f[j]) ** 2).sum()) for j in range(length)) / length for i in range(length)]


def test_inter_frame_distance():
    v = InterFrameDistance()(FRAMES, mask=MASK).numpy()
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(v[row, :length], mean_distances(real(FRAMES, row)), rtol=1e-5, atol=1e-7)
        assert not v[row, length:].any()


def test_the_odd_frame_out_gets_more():
    frames = np.repeat(RNG.random((1, 1, 8), dtype="float32"), 5, axis=1)
    frames[:, 3] = RNG.random(8) * 4
    v = InterFrameDistance()(frames)[0].numpy()
    assert v.argmax() == 3
    np.testing.assert_array_equal(v[[0, 1, 2, 4]], v[0])


@pytest.mark.parametrize(
    ("call", "complaint"),
    [(lambda: InterFrameDistance()(np.zeros((2, 3, 1, 1))), r"\(batch, frames, C\).*\(2, 3, 1, 1\)")],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
