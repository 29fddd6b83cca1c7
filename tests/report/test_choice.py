"""The queries that a report shows."""

import numpy as np

from kreid.evaluation import evaluate_test
from kreid.report import best_and_worst, most_changed


def result_of(first_hits):
    """The result of queries on a line, each with one match at the given rank."""
    embeddings, persons, cameras = [], [], []
    for number, rank in enumerate(first_hits):
        place = 100.0 * number
        # The match is behind `rank - 1` persons without a match.
        for step in range(rank + 1):
            embeddings.append([place + step])
            persons.append(number + 1 if step in (0, rank) else 1000 + len(embeddings))
            cameras.append(1 + (step > 0))
    query_rows = np.flatnonzero(np.asarray(cameras) == 1)
    result = evaluate_test(embeddings, persons, cameras, query_rows)["standard"]
    assert result.first_hit.tolist() == list(first_hits)
    return result


def test_best_and_worst_are_of_different_persons():
    result = result_of([1, 5, 2, 3, 1, 4])
    assert best_and_worst(result, [1, 2, 3, 4, 5, 6], count=2) == ([0, 4], [1, 5])
    assert best_and_worst(result, [1, 2, 3, 4, 1, 2], count=2) == ([0, 2], [1, 3])


def test_no_query_is_both_best_and_worst():
    best, worst = best_and_worst(result_of([1, 2, 3]), [1, 2, 3])
    assert (best, worst) == ([0, 1], [2])


def test_most_changed_have_the_largest_moves_first():
    one, other = result_of([5, 2, 2, 1]), result_of([1, 1, 2, 4])
    assert most_changed(one, other) == ([0, 1], [3])
    assert most_changed(one, other, count=1) == ([0], [3])
    assert most_changed(one, one) == ([], [])
