import json

import numpy as np
import pytest

from kreid.evaluation import RetrievalResult, evaluate

# Two queries with a match, at positions 2 and 1, and one without.
RESULT = evaluate([[0.2, 0.1], [0.1, 0.2], [0.1, 0.2]], [7, 7, 5], [0, 0, 0], [7, 9], [1, 1], ranks=(1, 3))
SCORES = {"cmc": {"1": 0.5, "3": 1.0}, "map": 0.75, "minp": 0.75, "num_queries": 3, "num_valid": 2}
QUERIES = {
    "average_precision": [0.5, 1.0, None],
    "inverse_negative_penalty": [0.5, 1.0, None],
    "first_match": [2, 1, None],
}


def test_plain_data_by_hand():
    assert RESULT.to_dict() == SCORES
    assert RESULT.queries_to_dict() == QUERIES
    assert RESULT.scores() == {"rank-1": 0.5, "rank-3": 1.0, "mAP": 0.75, "mINP": 0.75}


def test_the_scores_are_the_means_of_the_queries():
    by_query = RESULT.by_query()
    assert {name: np.nanmean(values) for name, values in by_query.items()} == RESULT.scores()
    assert all(np.isnan(values).tolist() == [False, False, True] for values in by_query.values())


@pytest.mark.parametrize("seed", [0, 1])
def test_json_and_back_gives_equal_values(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(1, 6, 20), random.integers(0, 2, 20), random.integers(0, 4, 40), random.integers(0, 2, 40)
    result = evaluate(random.random((20, 40)), *labels)
    assert 0 < result.num_valid < result.num_queries
    scores, queries = json.loads(json.dumps([result.to_dict(), result.queries_to_dict()]))
    read = RetrievalResult.from_dict(scores, queries)
    assert (read.cmc, read.map, read.minp) == (result.cmc, result.map, result.minp)
    assert (read.num_queries, read.num_valid) == (result.num_queries, result.num_valid)
    for name in ("average_precision", "inverse_negative_penalty", "first_hit"):
        values, expected = getattr(read, name), getattr(result, name)
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == expected.dtype
    assert (read.to_dict(), read.queries_to_dict()) == (result.to_dict(), result.queries_to_dict())


def test_without_queries_there_are_scores_alone():
    read = RetrievalResult.from_dict(SCORES)
    assert read.to_dict() == SCORES
    for of_queries in (read.by_query, read.queries_to_dict):
        with pytest.raises(ValueError, match="give `from_dict` the queries too"):
            of_queries()


def test_queries_of_earlier_versions_have_no_negative_penalties():
    earlier = {name: values for name, values in QUERIES.items() if name != "inverse_negative_penalty"}
    by_query = RetrievalResult.from_dict(SCORES, earlier).by_query()
    assert list(by_query) == ["rank-1", "rank-3", "mAP"]
    np.testing.assert_array_equal(by_query["mAP"], [0.5, 1.0, np.nan])


def test_data_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"not written by `RetrievalResult.to_dict`: 'cmc' is missing"):
        RetrievalResult.from_dict({"map": 0.5})
    with pytest.raises(ValueError, match=r"another result. Received: 3 queries in `scores`, \[3, 2, 3\]"):
        RetrievalResult.from_dict(SCORES, {**QUERIES, "first_match": [2, 1]})
