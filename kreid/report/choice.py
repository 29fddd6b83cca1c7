"""Choose the queries that a report shows."""

import numpy as np
from numpy.typing import ArrayLike

from kreid.evaluation.retrieval_result import RetrievalResult


def best_and_worst(result: RetrievalResult, persons: ArrayLike, count: int = 4) -> tuple[list[int], list[int]]:
    """Choose the queries of the highest and of the lowest average precision, each of another person.

    Of queries with equal precision, the query whose first match has the lower (best) or higher (worst) rank is first.
    Further ties keep the order of the queries in the best list, and reverse it in the worst.

    Args:
        result: a `RetrievalResult`.
        persons: integers `(queries,)`, the person of each query.
        count: queries in each list.

    Returns:
        Two lists of numbers of queries, best and worst; no query is in both.

    Example:

    >>> tracklets = [[0.0], [4.0], [0.1], [1.0], [4.5]]
    >>> result = kreid.evaluation.evaluate_test(tracklets, [7, 9, 7, 8, 9], [1, 1, 2, 2, 2], [0, 1])["standard"]
    >>> kreid.report.best_and_worst(result, [7, 9], count=1)
    ([0], [1])
    """
    persons = np.asarray(persons)
    first_hit, average_precision = query_scores(result)
    valid = np.flatnonzero(first_hit)
    order = valid[np.lexsort((valid, first_hit[valid], -average_precision[valid]))]
    half = len(order) // 2
    return _of_different(order[: len(order) - half], persons, count), _of_different(order[::-1][:half], persons, count)


def most_changed(result: RetrievalResult, other: RetrievalResult, count: int = 5) -> tuple[list[int], list[int]]:
    """Choose the queries whose first match moved most between two models.

    Args:
        result: a `RetrievalResult`.
        other: the `RetrievalResult` of another model for the same queries.
        count: queries in each list.

    Returns:
        Two lists of numbers of queries: those whose first match has a better rank with the other model, and those
        whose first match has a worse rank.

    Example:

    >>> one = kreid.evaluation.evaluate_test([[0.0], [0.2], [0.1]], [7, 7, 9], [1, 2, 2], [0])["standard"]
    >>> other = kreid.evaluation.evaluate_test([[0.0], [0.1], [0.2]], [7, 7, 9], [1, 2, 2], [0])["standard"]
    >>> kreid.report.most_changed(one, other)
    ([0], [])
    """
    moved = query_scores(result)[0] - query_scores(other)[0]
    order = np.argsort(-moved, kind="stable")
    return order[moved[order] > 0][:count].tolist(), order[::-1][moved[order[::-1]] < 0][:count].tolist()


def query_scores(result: RetrievalResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of the single queries.

    Args:
        result: a `RetrievalResult`.

    Returns:
        Arrays `(queries,)`: the rank of the first match, 0 without a match, and the average precision.

    Raises:
        ValueError: if the result was read back without its queries.
    """
    if result.first_hit is None or result.average_precision is None:
        raise ValueError(f"This result has only means; evaluate again for the single queries. Received: {result!r}")
    return result.first_hit, result.average_precision


def _of_different(order: np.ndarray, persons: np.ndarray, count: int) -> list[int]:
    chosen: dict[int, int] = {}
    for query in order.tolist():
        chosen.setdefault(int(persons[query]), query)
    return list(chosen.values())[:count]
