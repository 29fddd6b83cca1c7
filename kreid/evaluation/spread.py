"""The mean and spread of results over several splits of one data set."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kreid.evaluation.retrieval_result import RetrievalResult


class Spread(NamedTuple):
    """Mean and deviation of a score over splits.

    Args:
        mean: of the splits.
        deviation: standard deviation over splits, with `splits - 1` in the denominator.
    """

    mean: float
    deviation: float


def spread_over_splits(results: Iterable[RetrievalResult]) -> dict[str, Spread]:
    """Return mean and standard deviation of scores over splits, as results on iLIDS-VID and PRID-2011 are reported.

    Args:
        results: one `RetrievalResult` per split, two or more, with the same ranks.

    Returns:
        A dict of `Spread`: `"rank-1"` and the other ranks, `"mAP"` and `"mINP"`.

    Raises:
        ValueError: if there are fewer than two splits, or their ranks differ.

    Example:

    >>> splits = [kreid.evaluation.evaluate([[0.2, 0.1]], [7], [0], [7, other], [1, 1]) for other in (7, 9)]
    >>> spread = kreid.evaluation.spread_over_splits(splits)
    >>> spread["rank-1"].mean, round(spread["mAP"].deviation, 3)
    (0.5, 0.354)
    """
    results = list(results)
    if len(results) < 2:
        raise ValueError(f"A deviation needs two splits. Received: {len(results)} results")
    ranks = [list(result.cmc) for result in results]
    if any(other != ranks[0] for other in ranks):
        raise ValueError(f"All splits need the same ranks. Received: ranks={ranks}")
    scores = {name: [result.scores()[name] for result in results] for name in results[0].scores()}
    return {name: Spread(float(np.mean(values)), float(np.std(values, ddof=1))) for name, values in scores.items()}
