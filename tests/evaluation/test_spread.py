import numpy as np
import pytest

from kreid.evaluation import evaluate, spread_over_splits

RNG = np.random.default_rng(3)


def test_spread_over_ten_splits_by_hand():
    splits = []
    for _ in range(10):
        labels = RNG.integers(1, 6, 20), RNG.integers(0, 2, 20), RNG.integers(0, 6, 40), RNG.integers(0, 2, 40)
        splits.append(evaluate(RNG.random((20, 40)), *labels))
    spread = spread_over_splits(splits)
    assert list(spread) == ["rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP"]
    for name, values in (("rank-1", [s.cmc[1] for s in splits]), ("mAP", [s.map for s in splits])):
        mean = sum(values) / 10
        assert spread[name].mean == pytest.approx(mean)
        assert spread[name].deviation == pytest.approx((sum((value - mean) ** 2 for value in values) / 9) ** 0.5)
    with pytest.raises(ValueError, match="Received: 1 results"):
        spread_over_splits(splits[:1])
    other = evaluate([[0.1]], [1], [0], [1], [1], ranks=(1,))
    with pytest.raises(ValueError, match="the same ranks"):
        spread_over_splits([*splits, other])
