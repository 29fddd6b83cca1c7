"""Scores of single queries, with ties, against sorted lists."""

import numpy as np
import pytest
from retrieval_oracles import oracle, problem

from kreid.evaluation import evaluate, query_scorer

RANKS = (1, 5, 10, 20)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("levels", [None, 6, 1])
@pytest.mark.parametrize("ties", ["stable", "best", "worst"])
@pytest.mark.parametrize("form", ["standard", "trapezoidal"])
def test_equals_a_sorted_list(form, ties, levels, dtype):
    arguments = problem(levels=levels, dtype=dtype)
    expected = oracle(*arguments, form, ties)
    result = evaluate(*arguments, average_precision=form, ties=ties)
    valid = expected[:, 2] > 0
    assert 0 < valid.sum() < len(valid)
    assert (result.num_queries, result.num_valid) == (len(valid), valid.sum())
    np.testing.assert_allclose(result.average_precision, expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(result.inverse_negative_penalty, expected[:, 1], rtol=1e-12)
    np.testing.assert_array_equal(result.first_hit, expected[:, 2])
    assert result.map == pytest.approx(np.nanmean(expected[:, 0]), rel=1e-12)
    assert result.minp == pytest.approx(np.nanmean(expected[:, 1]), rel=1e-12)
    assert result.cmc == {k: pytest.approx(np.mean(expected[valid, 2] <= k)) for k in RANKS}


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("ties", ["stable", "best", "worst"])
def test_many_matches_are_ranked_alike(ties, levels):
    arguments = problem(queries=6, gallery=900, persons=1, levels=levels)
    expected = oracle(*arguments, "standard", ties)
    matches = (arguments[3] == 1).sum()
    assert matches > 3 * query_scorer._COUNTED_MATCHES
    np.testing.assert_allclose(evaluate(*arguments, ties=ties).average_precision, expected[:, 0], rtol=1e-12)


def test_a_ranking_by_hand():
    # Ranking: the query's camera (removed), junk (removed), stranger, match, match, stranger, match.
    persons, cameras = [5, -1, 8, 5, 5, 0, 5], [0, 1, 0, 1, 2, 1, 1]
    distances = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]]
    standard = evaluate(distances, [5], [0], persons, cameras, ranks=(1, 2, 3))
    assert standard.cmc == {1: 0.0, 2: 1.0, 3: 1.0}
    assert standard.map == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)
    assert standard.minp == pytest.approx(3 / 5)
    trapezoidal = evaluate(distances, [5], [0], persons, cameras, average_precision="trapezoidal")
    assert trapezoidal.map == pytest.approx(((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 4 + 3 / 5) / 2) / 3)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_integer_distances_are_ranked_as_well(dtype):
    distances, *labels = problem(levels=50)
    integers = np.round(distances * 50).astype(dtype)
    np.testing.assert_allclose(
        evaluate(integers, *labels).average_precision, oracle(integers, *labels, "standard", "stable")[:, 0], rtol=1e-12
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_distances_that_are_not_finite_are_named(bad):
    arguments = problem()
    arguments[0][3, 7] = bad
    with pytest.raises(ValueError, match=rf"must be finite.*Received: distances\[3, 7\]={bad}"):
        evaluate(*arguments)
