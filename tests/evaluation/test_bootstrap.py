import itertools

import numpy as np
import pytest
from scipy import stats

from kreid.evaluation import (
    bootstrap,
    bootstrap_interval,
    paired_bootstrap,
    sign_flip_test,
)

RNG = np.random.default_rng(3)
SIGNS = list(itertools.product((1, -1), repeat=9))


def test_agrees_with_the_normal_interval_of_many_queries():
    baseline = RNG.random((3, 400))
    scores = baseline + 0.02 + 0.1 * RNG.standard_normal((3, 400))
    differences = (scores - baseline).mean(axis=0)
    half = stats.norm.ppf(0.975) * differences.std() / np.sqrt(400)
    interval = paired_bootstrap(scores, baseline)
    assert interval.mean == pytest.approx(differences.mean())
    assert interval.low == pytest.approx(differences.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(differences.mean() + half, abs=0.05 * half)
    assert paired_bootstrap(scores, baseline) == interval, "seeded"
    wider = paired_bootstrap(scores, baseline, share=0.99)
    assert wider.low < interval.low < interval.high < wider.high


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


def test_interval_of_one_model_is_that_of_its_difference_to_nothing():
    scores = np.hstack([RNG.random((3, 40)), np.full((3, 2), np.nan)])
    interval = bootstrap_interval(scores)
    assert interval == paired_bootstrap(scores, np.where(np.isnan(scores), np.nan, 0.0))
    assert interval.mean == pytest.approx(np.nanmean(scores))
    half = stats.norm.ppf(0.975) * np.nanmean(scores[:, :40], axis=0).std() / np.sqrt(40)
    assert interval.low == pytest.approx(interval.mean - half, abs=0.1 * half)
    assert bootstrap_interval([0.25]) == (0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="No query has a match"):
        bootstrap_interval([np.nan, np.nan])


def test_draws_in_portions_are_the_same_draws(monkeypatch):
    scores, baseline = RNG.random((2, 50))
    whole = paired_bootstrap(scores, baseline, draws=300), sign_flip_test(scores, baseline, draws=300)
    monkeypatch.setattr(bootstrap, "_STEP", 700)
    assert (paired_bootstrap(scores, baseline, draws=300), sign_flip_test(scores, baseline, draws=300)) == whole


def test_sign_flips_counted_one_by_one():
    differences = np.round(RNG.normal(0.3, 1, 9), 1)  # Rounded: some sums are equal.
    sums = [abs(sum(sign * value for sign, value in zip(signs, differences, strict=True))) for signs in SIGNS]
    expected = np.mean([total >= abs(differences.sum()) - 1e-9 for total in sums])
    assert sign_flip_test(differences, np.zeros(9)) == expected
    assert sign_flip_test(-differences, np.zeros(9)) == expected
    drawn = sign_flip_test(differences, np.zeros(9), draws=500)
    assert drawn == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 500))


def test_equal_models_and_very_different_ones():
    scores = RNG.random(60)
    assert sign_flip_test(scores, scores) == 1.0
    assert sign_flip_test(scores + 0.2, scores, draws=999) == 1 / 1000


def test_p_values_of_many_queries_are_those_of_the_t_test():
    baseline = RNG.random(300)
    scores = baseline + 0.01 + 0.1 * RNG.standard_normal(300)
    expected = stats.ttest_rel(scores, baseline).pvalue
    assert sign_flip_test(scores, baseline) == pytest.approx(expected, abs=4 * np.sqrt(expected / 10_000) + 2e-3)
