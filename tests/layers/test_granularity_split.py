"""Splits of the channels, each pooled as its granularity says."""

import numpy as np
import pytest
from numpy_layers import block_mean

from kreid.layers import GranularitySplit

RNG = np.random.default_rng(43)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_split(groups):
    maps = RNG.normal(size=(2, 3, 8, 4, 12)).astype("float32")
    for pool in (True, False):
        parts = GranularitySplit(groups, pool)(maps)
        assert len(parts) == groups
        for m, part in enumerate(parts):
            scale = 2**m if pool else 1
            own = maps[..., m * 12 // groups : (m + 1) * 12 // groups].astype("float64")
            expected = [[block_mean(frame, scale, scale) for frame in tracklet] for tracklet in own]
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)
