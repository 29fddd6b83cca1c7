"""Means over the positions of maps."""

import numpy as np
import pytest

from kreid.layers import SpatialAverage, StripeAverage

RNG = np.random.default_rng(11)


def test_spatial_average():
    maps = RNG.normal(size=(2, 3, 4, 2, 5)).astype("float32")
    np.testing.assert_allclose(SpatialAverage()(maps), maps.astype("float64").mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(SpatialAverage()(maps[:, 0]), maps[:, 0].astype("float64").mean(axis=(1, 2)), rtol=1e-4)
    with pytest.raises(ValueError, match=r"\(batch, h, w, C\).*\(2, 3\)"):
        SpatialAverage()(maps[0, 0, :2, 0, :3])


def test_stripe_average():
    maps = RNG.normal(size=(2, 3, 6, 2, 5)).astype("float32")
    expected = np.stack([maps[:, :, rows : rows + 2].astype("float64").mean(axis=(2, 3)) for rows in (0, 2, 4)], axis=2)
    np.testing.assert_allclose(StripeAverage(3)(maps), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(StripeAverage(3)(maps[:, 0]), expected[:, 0], rtol=1e-4, atol=1e-6)
    for stripes in (0, 1.5):
        with pytest.raises(ValueError, match=f"positive integer. Received: num_stripes={stripes}"):
            StripeAverage(stripes)
    with pytest.raises(ValueError, match=r"divisible.*num_stripes=4, inputs of shape \(2, 3, 6, 2, 5\)"):
        StripeAverage(4)(maps)
