"""Means over the positions of maps."""

import numpy as np
import pytest

from kreid.layers import SpatialAverage

RNG = np.random.default_rng(11)


def test_spatial_average():
    maps = RNG.normal(size=(2, 3, 4, 2, 5)).astype("float32")
    np.testing.assert_allclose(SpatialAverage()(maps), maps.astype("float64").mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(SpatialAverage()(maps[:, 0]), maps[:, 0].astype("float64").mean(axis=(1, 2)), rtol=1e-4)
    with pytest.raises(ValueError, match=r"\(batch, h, w, C\).*\(2, 3\)"):
        SpatialAverage()(maps[0, 0, :2, 0, :3])
