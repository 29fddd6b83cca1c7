"""Choose the queries that a report shows."""

import numpy as np


def best_and_worst(result, persons, count=4):
    """Chooses queries to look at: those of the highest and of the lowest average precision, each of another person.

    Of equal ones those with the nearer (best) or farther (worst) first match come first, then in their order.

    Args:
        result: a `RetrievalResult`.
        persons: of the queries.
        count: of each.

    Returns:
        Two lists of numbers of queries, best and worst; a query is in one of them.
    """
    valid = np.flatnonzero(result.first_hit)
    order = valid[np.lexsort((valid, result.first_hit[valid], -result.average_precision[valid]))]
    half = len(order) // 2
    return _of_different(order[: len(order) - half], persons, count), _of_different(order[::-1][:half], persons, count)


def most_changed(result, other, count=5):
    """Chooses the queries whose first match moved most between two models.

    Args:
        result: a `RetrievalResult`.
        other: of the other model, of the same queries.
        count: of each.

    Returns:
        Two lists of numbers of queries: those that the other model finds earlier, and those that it finds later.
    """
    moved = result.first_hit - other.first_hit
    order = np.argsort(-moved, kind="stable")
    return order[moved[order] > 0][:count].tolist(), order[::-1][moved[order[::-1]] < 0][:count].tolist()


def _of_different(order, persons, count):
    chosen = {}
    for query in order.tolist():
        chosen.setdefault(int(persons[query]), query)
    return list(chosen.values())[:count]
