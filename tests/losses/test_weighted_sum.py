import keras
import numpy as np
import pytest

from kreid.losses import BatchHardTriplet, SmoothedIdentity, WeightedSum
from kreid.testing.losses import check_loss

LABELS = np.array([0, 3, 3, 2, 0], "int32")
OUTPUTS = (3 * np.random.default_rng(0).normal(size=(5, 4))).astype("float32")


def test_is_the_weighted_sum_with_and_without_sample_weights():
    triplet, identity = BatchHardTriplet(margin=20, reduction="sum"), SmoothedIdentity(0.2)
    weights = np.array([1.0, 2.0, 0.0, 1.0, 3.0])
    for sample_weight in (None, weights):
        parts = [float(loss(LABELS, OUTPUTS, sample_weight)) for loss in (triplet, identity)]
        both = WeightedSum([triplet, identity], [0.5, 2])
        assert float(both(LABELS, OUTPUTS, sample_weight)) == pytest.approx(0.5 * parts[0] + 2 * parts[1], rel=1e-6)
        plain = WeightedSum([triplet, identity])
        assert float(plain(LABELS, OUTPUTS, sample_weight)) == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"losses": [BatchHardTriplet(margin=20), SmoothedIdentity(0.3)], "weights": [0.5, 2.0], "name": "both"},
        {"losses": [WeightedSum([SmoothedIdentity(0.3)], [3.0]), BatchHardTriplet("soft", reduction="sum")]},
    ],
)
def test_contract(kwargs):
    check_loss(WeightedSum, kwargs, LABELS, OUTPUTS)


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        ([], None, r"Received: losses=\[\], weights=\[\]"),
        ([SmoothedIdentity()], [1.0, 2.0], r"Received: losses=\[<.*SmoothedIdentity.*>\], weights=\[1.0, 2.0\]"),
        ([SmoothedIdentity(reduction=None)], None, "that have a reduction"),
        ([keras.losses.mean_squared_error], None, "keras.losses.Loss objects"),
    ],
)
def test_wrong_lists_are_named(losses, weights, message):
    with pytest.raises(ValueError, match=message):
        WeightedSum(losses, weights)
