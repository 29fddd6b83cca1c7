"""Bootstrap intervals of scores, and tests of one model against another on the same queries."""

from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

# Random numbers drawn at once.
_STEP = 2**20


class Interval(NamedTuple):
    """A mean and its bootstrap interval.

    Args:
        mean: of the scores or of the paired differences.
        low: the interval's lower end.
        high: its upper end.
    """

    mean: float
    low: float
    high: float


def bootstrap_interval(scores: ArrayLike, *, share: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean of a model's scores of single queries, with its bootstrap interval over queries.

    Queries are drawn with replacement, as if they were independent. Queries of one person are not independent, so the
    true interval is wider.

    Args:
        scores: average precisions (or 0 and 1 for rank-1), `(queries,)` or `(runs, queries)`; NaN for a query without
            a match.
        share: of the bootstrap means that the interval holds.
        draws: number of bootstrap samples.
        seed: of the draws.

    Returns:
        An `Interval`.

    Raises:
        ValueError: if no query has a match, or the queries with a match differ between the runs.

    Example:

    >>> interval = kreid.evaluation.bootstrap_interval([0.9, 0.5, 0.7, 0.8])
    >>> [round(value, 3) for value in interval]
    [0.725, 0.575, 0.85]

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (percentile interval).
    """
    return _interval(_by_query(scores), share, draws, seed)


def paired_bootstrap(
    scores: ArrayLike, baseline: ArrayLike, *, share: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Compare two models by their scores of the same queries, pooled over training runs.

    Queries are drawn with replacement, all runs of a query together, because the runs of one query are not independent.
    The interval is about other queries for the same runs, not about other runs.

    Args:
        scores: average precisions (or 0 and 1 for rank-1) of a model, `(queries,)` or `(runs, queries)`; NaN for a
            query without a match.
        baseline: scores of the other model for the same runs and queries, of the same shape.
        share: of the bootstrap means that the interval holds.
        draws: number of bootstrap samples.
        seed: of the draws.

    Returns:
        An `Interval` of `scores - baseline`.

    Raises:
        ValueError: if the shapes or the queries with a match differ, or no query has a match.

    Example:

    >>> difference = kreid.evaluation.paired_bootstrap([0.9, 0.5, 0.7, 0.8], [0.6, 0.3, 0.5, 0.5])
    >>> [round(value, 2) for value in difference]
    [0.25, 0.2, 0.3]

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (percentile interval).
    """
    return _interval(_differences(scores, baseline), share, draws, seed)


def sign_flip_test(scores: ArrayLike, baseline: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of "the two models are equally good" on the same queries, by a permutation test.

    If they are equally good, each query's difference is as likely to have the other sign. The p-value is the share of
    sign changes whose mean is at least as far from 0 as the observed mean: over all changes where there are no more
    than `draws`, else over `draws` random changes and the observed signs.

    Args:
        scores: see `paired_bootstrap`; a query's score is its mean over runs.
        baseline: see `paired_bootstrap`.
        draws: number of random sign changes.
        seed: of the draws.

    Returns:
        A float above 0 and at most 1.

    Raises:
        ValueError: as `paired_bootstrap` does.

    Example:

    >>> kreid.evaluation.sign_flip_test([0.9, 0.5, 0.7, 0.8], [0.6, 0.3, 0.5, 0.5])
    0.125

    Reference: Smucker et al., A Comparison of Statistical Significance Tests for Information Retrieval Evaluation,
    2007; Phipson and Smyth, 2010, for counting the observed signs.
    """
    differences = _differences(scores, baseline)
    _check_draws(draws)
    count = len(differences)
    # The margin makes sums that differ by rounding alone equally far from 0.
    observed = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if 2**count <= draws:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        return float(np.mean(np.abs(signs @ differences) >= observed))
    rng = np.random.default_rng(seed)
    as_far = 0
    for size in portions(draws, count):
        flipped = rng.integers(0, 2, (size, count), np.int8) @ differences
        as_far += int(np.count_nonzero(np.abs(differences.sum() - 2 * flipped) >= observed))
    return (as_far + 1) / (draws + 1)


def _interval(values: np.ndarray, share: float, draws: int, seed: int) -> Interval:
    _check_draws(draws)
    if not 0 < share < 1:
        raise ValueError(f"`share` is between 0 and 1. Received: share={share}")
    mean = float(values.mean())
    if len(values) == 1:  # Every draw is this query; SciPy refuses a single value.
        return Interval(mean, mean, mean)
    interval = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=draws,
        batch=portions(draws, len(values))[0],
        confidence_level=share,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high))


def portions(draws: int, count: int) -> list[int]:
    """Split `draws` into sizes for which `count` numbers per draw take bounded memory."""
    step = max(1, _STEP // count)
    return [min(step, draws - start) for start in range(0, draws, step)]


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"`draws` is at least 1. Received: draws={draws}")


def _by_query(scores: ArrayLike) -> np.ndarray:
    """Return the mean over runs of each query with a match."""
    scores = np.atleast_2d(np.asarray(scores, "float64"))
    if scores.ndim != 2:
        raise ValueError(f"Scores are (queries,) or (runs, queries). Received: scores of shape {scores.shape}")
    valid = ~np.isnan(scores)
    if not np.array_equal(valid.any(axis=0), valid.all(axis=0)):
        raise ValueError("The same queries must have a match in all runs. Received: NaN at different queries")
    if not valid.any():
        raise ValueError(f"No query has a match. Received: {scores.shape[1]} queries, all NaN")
    return scores[:, valid.all(axis=0)].mean(axis=0)


def _differences(scores: ArrayLike, baseline: ArrayLike) -> np.ndarray:
    """Return the mean difference over runs of each query with a match."""
    scores, baseline = (np.atleast_2d(np.asarray(values, "float64")) for values in (scores, baseline))
    if scores.shape != baseline.shape:
        raise ValueError(
            f"Both models need scores of the same queries and runs. "
            f"Received: scores of shape {scores.shape}, baseline of shape {baseline.shape}"
        )
    if not np.array_equal(np.isnan(scores), np.isnan(baseline)):
        raise ValueError("The same queries must have a match for both models. Received: NaN at different queries")
    return _by_query(scores - baseline)
