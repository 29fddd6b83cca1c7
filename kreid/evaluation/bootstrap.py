"""Whether one model is better than another on the same queries."""

from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """The mean of paired differences, and the bootstrap interval it lies in.

    Args:
        mean: of the differences.
        low: the interval's lower end.
        high: its upper end.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(scores, baseline, *, share=0.95, draws=10_000, seed=0):
    """Compares two models by their scores of the same queries, pooled over training runs.

    Queries are drawn with replacement, all runs of a query together: runs of one query are no independent
    evidence about other queries. The interval is about other queries for these runs, not about other runs.

    Args:
        scores: average precisions (or 0 and 1 for rank-1) of a model, `(queries,)` or `(runs, queries)`; NaN for a
            query without a match.
        baseline: of the other model, of the same shape; run and query by run and query.
        share: of the bootstrap means that the interval holds.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        A `Difference` of `scores - baseline`.

    Raises:
        ValueError: if the shapes differ, the queries with a match do, or there is none.

    Example:

    >>> difference = kreid.evaluation.paired_bootstrap([0.9, 0.5, 0.7, 0.8], [0.6, 0.3, 0.5, 0.5])
    >>> [round(value, 2) for value in difference]
    [0.25, 0.2, 0.3]

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (percentile interval).
    """
    scores, baseline = (np.atleast_2d(np.asarray(values, "float64")) for values in (scores, baseline))
    if scores.shape != baseline.shape or scores.ndim != 2:
        raise ValueError(
            f"Both models need scores of the same queries and runs. "
            f"Received: scores of shape {scores.shape}, baseline of shape {baseline.shape}"
        )
    valid = ~np.isnan(scores)
    if not np.array_equal(valid, ~np.isnan(baseline)) or not np.array_equal(valid.any(axis=0), valid.all(axis=0)):
        raise ValueError("The same queries must have a match in all runs of both models. Received: other NaN scores")
    if not valid.any():
        raise ValueError(f"No query has a match. Received: {scores.shape[1]} queries, all NaN")
    if not 0 < share < 1 or draws < 1:
        raise ValueError(
            f"`share` lies between 0 and 1, and one draw is the least. Received: share={share}, draws={draws}"
        )
    differences = (scores - baseline)[:, valid.all(axis=0)].mean(axis=0)
    rng = np.random.default_rng(seed)
    count = len(differences)
    # A sample with replacement is how often each query comes; one matrix product instead of gathers.
    means = rng.multinomial(count, np.full(count, 1 / count), draws) @ differences / count
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return Difference(float(differences.mean()), float(low), float(high))
