import numpy as np
import pytest
from scipy import stats

from kreid.evaluation import paired_bootstrap

RNG = np.random.default_rng(3)


def test_agrees_with_the_normal_interval_of_many_queries():
    baseline = RNG.random((3, 400))
    scores = baseline + 0.02 + 0.1 * RNG.standard_normal((3, 400))
    differences = (scores - baseline).mean(axis=0)
    half = stats.norm.ppf(0.975) * differences.std() / np.sqrt(400)
    found = paired_bootstrap(scores, baseline)
    assert found.mean == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.05 * half)
    assert paired_bootstrap(scores, baseline) == found, "seeded"
    wider = paired_bootstrap(scores, baseline, share=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_runs_of_one_query_are_drawn_together():
    one = RNG.standard_normal(50)
    alone = paired_bootstrap(one, np.zeros(50))
    thrice = paired_bootstrap(np.tile(one, (3, 1)), np.zeros((3, 50)))
    np.testing.assert_allclose(thrice, alone, rtol=1e-12)


def test_queries_without_a_match_count_nothing():
    scores = RNG.random((2, 30))
    gaps = np.full((2, 5), np.nan)
    whole = paired_bootstrap(scores, scores / 2)
    with_gaps = paired_bootstrap(np.hstack([scores, gaps]), np.hstack([scores / 2, gaps]))
    assert with_gaps == whole


@pytest.mark.parametrize(
    ("scores", "baseline", "complaint"),
    [
        (np.zeros(3), np.zeros(4), r"shape \(1, 3\), baseline of shape \(1, 4\)"),
        (np.array([0.0, np.nan]), np.zeros(2), "same queries"),
        (np.array([[0.0, 0.0], [0.0, np.nan]]), np.array([[0.0, 0.0], [0.0, np.nan]]), "same queries"),
        (np.full(2, np.nan), np.full(2, np.nan), "No query"),
    ],
)
def test_refusals(scores, baseline, complaint):
    with pytest.raises(ValueError, match=complaint):
        paired_bootstrap(scores, baseline)


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="share=1"):
        paired_bootstrap([0.0], [0.0], share=1)
    with pytest.raises(ValueError, match="draws=0"):
        paired_bootstrap([0.0], [0.0], draws=0)
