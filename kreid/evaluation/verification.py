"""Same person or not, by a threshold on the distance: its error rates, and the threshold for a chosen rate.

Two tracklets are accepted as the same person where their distance is *below* the threshold. Genuine pairs are of one
person in two cameras; pairs of one person in one camera are not counted, as in retrieval. Impostor pairs are of two
persons, in any cameras. A distractor has no match, but two distractors may be one person: pairs of distractors are not
counted. Junk is not counted.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid.data.tracklet import DISTRACTOR, JUNK
from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite
from kreid.evaluation.bootstrap import Interval, portions
from kreid.evaluation.retrieval import checked_labels
from kreid.gallery.embeddings import TrackletEmbeddings, labelled

# Bytes of the distances held at once. Each block reads the embeddings after it again.
_BLOCK_BYTES = 2**26

# Rows of one person taken at once.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class PairDistances:
    """Distances of genuine pairs and of the nearest impostor pairs: enough for exact error rates in little memory.

    Args:
        genuine: distances of the genuine pairs, rising.
        nearer: int64, impostor pairs nearer than each of them.
        as_near: int64, impostor pairs nearer or equally near.
        nearest_impostors: distances of the nearest impostor pairs, rising.
        num_impostors: impostor pairs in all.
    """

    genuine: np.ndarray
    nearer: np.ndarray
    as_near: np.ndarray
    nearest_impostors: np.ndarray
    num_impostors: int


class Roc(NamedTuple):
    """Error rates at rising thresholds; between two points they change along a straight line at most.

    Args:
        thresholds: distances below which a pair is accepted.
        false_match_rate: impostor pairs accepted, as a fraction.
        false_non_match_rate: genuine pairs not accepted, as a fraction.
    """

    thresholds: np.ndarray
    false_match_rate: np.ndarray
    false_non_match_rate: np.ndarray


class VerificationRates(NamedTuple):
    """Error rates at a threshold.

    Args:
        false_match: `Interval` of the false-match rate.
        false_non_match: `Interval` of the false non-match rate.
        num_genuine: genuine pairs.
        num_impostors: impostor pairs.
        num_persons: persons, and distractors one by one, of which the pairs are.
    """

    false_match: Interval
    false_non_match: Interval
    num_genuine: int
    num_impostors: int
    num_persons: int


def pair_distances(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    metric: str | None = None,
    *,
    tail: float = 0.01,
) -> PairDistances:
    """Measure all pairs of tracklets, block by block.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(tracklets, features)`.
        persons: with an array, integers `(tracklets,)`; 0 is a distractor, -1 junk.
        cameras: with an array, integers `(tracklets,)`.
        metric: with an array, `"euclidean"` (the default) or `"cosine"` (a row of zeros is 1 from everything).
        tail: share of the impostor pairs, the nearest ones, whose distances are kept: the highest false-match rate
            that `threshold_at` can be asked for.

    Returns:
        A `PairDistances`.

    Raises:
        ValueError: if sizes do not fit, an embedding is NaN or infinite, or there is no genuine or no impostor pair.

    Example:

    >>> pairs = kreid.evaluation.pair_distances([[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1], tail=0.5)
    >>> pairs.genuine.round(2).tolist(), pairs.nearest_impostors.round(2).tolist(), pairs.num_impostors
    ([0.1], [0.2, 0.3], 2)
    """
    if not 0 < tail <= 1:
        raise ValueError(f"`tail` is a share above 0. Received: tail={tail!r}")
    embeddings, persons, cameras, metric = _checked(embeddings, persons, cameras, metric)
    genuine = np.sort(np.concatenate([distances for _, distances in _genuine(embeddings, persons, cameras, metric)]))
    count = _num_impostors(persons)
    num_nearest = count_within(tail, count) + 1
    nearer, as_near = np.zeros((2, len(genuine)), np.int64)
    nearest = np.empty(0, genuine.dtype)
    for distances, impostors, _ in _impostor_blocks(embeddings, persons, metric):
        ordered = np.sort(distances[impostors])
        nearer += np.searchsorted(ordered, genuine, side="left")
        as_near += np.searchsorted(ordered, genuine, side="right")
        nearest = np.sort(np.concatenate([nearest, ordered[:num_nearest]]))[:num_nearest]
    return PairDistances(genuine, nearer, as_near, nearest, count)


def roc(pairs: PairDistances) -> Roc:
    """Return the receiver operating characteristic, exact: every genuine distance is a threshold, before and after it.

    Between two genuine distances only the false-match rate changes.

    Args:
        pairs: a `PairDistances`.

    Returns:
        A `Roc`.

    Example:

    >>> pairs = kreid.evaluation.pair_distances([[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1])
    >>> curve = kreid.evaluation.roc(pairs)
    >>> curve.false_match_rate.tolist(), curve.false_non_match_rate.tolist()
    ([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0])
    """
    values, first, times = np.unique(pairs.genuine, return_index=True, return_counts=True)
    before_and_after = np.stack([values, np.nextafter(values, np.inf)], axis=1).ravel()
    accepted = np.stack([pairs.nearer[first], pairs.as_near[first]], axis=1).ravel()
    missed = len(pairs.genuine) - np.stack([first, first + times], axis=1).ravel()
    return Roc(
        np.concatenate([[0.0], before_and_after, [np.inf]]),
        np.concatenate([[0.0], accepted / pairs.num_impostors, [1.0]]),
        np.concatenate([[1.0], missed / len(pairs.genuine), [0.0]]),
    )


def equal_error_rate(pairs: PairDistances) -> float:
    """Return the error rate where false matches are as frequent as false non-matches, on the curve of `roc`.

    Args:
        pairs: a `PairDistances`.

    Returns:
        A float.

    Example:

    >>> pairs = kreid.evaluation.pair_distances([[0.0], [0.2], [0.3], [0.6]], [7, 7, 9, 9], [0, 1, 1, 0])
    >>> kreid.evaluation.equal_error_rate(pairs)
    0.25
    """
    _, false_match, false_non_match = roc(pairs)
    difference = false_match - false_non_match
    after = int(np.argmax(difference >= 0))
    before = after - 1
    way = -difference[before] / (difference[after] - difference[before])
    return float(false_match[before] + way * (false_match[after] - false_match[before]))


def threshold_at(pairs: PairDistances, false_match_rate: float) -> float:
    """Return the highest threshold at which no more than this share of the impostor pairs is accepted.

    It is the distance of the nearest impostor pair that must be refused. Take the pairs of persons that the model was
    not trained on, and report its errors on others again.

    Args:
        pairs: a `PairDistances`.
        false_match_rate: to allow, above 0 and below 1.

    Returns:
        A float: accept distances below it.

    Raises:
        ValueError: if there are too few impostor pairs to see the rate, or too few were kept.

    Example:

    >>> pairs = kreid.evaluation.pair_distances([[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1], tail=0.5)
    >>> round(kreid.evaluation.threshold_at(pairs, 0.5), 2)
    0.3
    """
    check_rate(false_match_rate, pairs.num_impostors, "impostor pairs", "false_match_rate")
    accepted = count_within(false_match_rate, pairs.num_impostors)
    if accepted >= len(pairs.nearest_impostors):
        raise ValueError(
            f"Of the impostor pairs the nearest {len(pairs.nearest_impostors)} were kept; measure with "
            f"tail={false_match_rate}. Received: false_match_rate={false_match_rate!r}"
        )
    return float(pairs.nearest_impostors[accepted])


def rates_at(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    metric: str | None = None,
    *,
    threshold: float,
    share: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> VerificationRates:
    """Return the error rates at a threshold, and how far they would move with other persons.

    Pairs that share a person are not independent, so persons are drawn with replacement, and a pair counts as often as
    its two persons together. Where no or hardly any error is seen, the upper end is that of as many independent pairs
    without an error, about 3 / pairs.

    Args:
        embeddings: see `pair_distances`.
        persons: see `pair_distances`.
        cameras: see `pair_distances`.
        metric: see `pair_distances`.
        threshold: distances below it are accepted.
        share: of the bootstrap rates that the intervals hold.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        A `VerificationRates`.

    Raises:
        ValueError: as `pair_distances` does, and for a threshold that is NaN.

    Example:

    >>> rates = kreid.evaluation.rates_at([[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1], threshold=0.25)
    >>> rates.false_match.mean, rates.false_non_match.mean
    (0.5, 0.0)

    Reference: Bolle, Ratha and Pankanti, Error Analysis of Pattern Recognition Systems: the Subsets Bootstrap, 2004,
    for drawing persons; Hanley and Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, 1983, for 3 / pairs.
    """
    if not isinstance(threshold, (int, float, np.number)) or math.isnan(threshold):
        raise ValueError(f"A threshold is a distance. Received: threshold={threshold!r}")
    if not 0 < share < 1 or draws < 1:
        raise ValueError(f"`share` is between 0 and 1, and `draws` at least 1. Received: share={share}, draws={draws}")
    threshold = np.float64(threshold)  # Not rounded to the distances' precision.
    embeddings, persons, cameras, metric = _checked(embeddings, persons, cameras, metric)
    groups, known = _groups(persons)
    sizes = np.bincount(groups)
    genuine, missed = np.zeros((2, len(sizes)))
    for rows, distances in _genuine(embeddings, persons, cameras, metric):
        genuine[groups[rows[0]]] += len(distances)
        missed[groups[rows[0]]] += np.count_nonzero(distances >= threshold)

    # Accepted impostor pairs, added up by their two persons.
    keys, times = np.empty(0, np.int64), np.empty(0, np.int64)
    for distances, impostors, start in _impostor_blocks(embeddings, persons, metric):
        rows, columns = np.nonzero(impostors & (distances < threshold))
        pairs = np.sort(np.stack([groups[start + rows], groups[start + columns]]), axis=0)
        keys = np.concatenate([keys, pairs[0] * len(sizes) + pairs[1]])
        times = np.concatenate([times, np.ones(len(rows), np.int64)])
        keys, inverse = np.unique(keys, return_inverse=True)
        times = np.bincount(inverse, weights=times, minlength=len(keys)).astype(np.int64)
    one, other = keys // len(sizes), keys % len(sizes)

    def rates(weights):
        weighted = weights * sizes
        impostors = _pairs_between(weighted) - _pairs_between(weighted[:, ~known])
        accepted = (weights[:, one] * weights[:, other]) @ times
        # A draw may hold no pair at all.
        with np.errstate(invalid="ignore"):
            return np.stack([accepted / impostors, weights @ missed / (weights @ genuine)])

    rng = np.random.default_rng(seed)
    chances = np.full(len(sizes), 1 / len(sizes))
    drawn = [
        rates(rng.multinomial(len(sizes), chances, size).astype(np.float64))
        for size in portions(draws, max(len(sizes), len(keys)))
    ]
    seen = rates(np.ones((1, len(sizes))))[:, 0]
    ends = np.nanquantile(np.concatenate(drawn, axis=1), [(1 - share) / 2, (1 + share) / 2], axis=1).T
    counts = _num_impostors(persons), int(genuine.sum())
    false_match, false_non_match = (
        Interval(float(rate), float(min(low, rate)), float(max(high, rate, min(1.0, -math.log(1 - share) / count))))
        for rate, (low, high), count in zip(seen, ends, counts, strict=True)
    )
    return VerificationRates(false_match, false_non_match, counts[1], counts[0], len(sizes))


def fit_verification(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    metric: str | None = None,
    *,
    false_match_rate: float = 0.001,
    fitted_on: str,
) -> dict[str, Any]:
    """Fit the threshold for a chosen false-match rate, by which a model says "same person" or "unknown person".

    Args:
        embeddings: see `pair_distances`; of persons that the model was not trained on.
        persons: see `pair_distances`.
        cameras: see `pair_distances`.
        metric: see `pair_distances`.
        false_match_rate: share of the impostor pairs that may be accepted.
        fitted_on: description of the persons that the embeddings show.

    Returns:
        A dict that `json` can write, for `kreid.serving.export_model`: `metric`, `threshold`, `false_match_rate` as
        chosen, `false_non_match_rate`, both rates' intervals over persons, `equal_error_rate` and `fitted_on` with the
        counts.

    Raises:
        ValueError: as `pair_distances` and `threshold_at` do.

    Example:

    >>> arguments = [[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1]
    >>> fitted = kreid.evaluation.fit_verification(*arguments, false_match_rate=0.5, fitted_on="three tracklets")
    >>> round(fitted["threshold"], 2), fitted["false_non_match_rate"], fitted["fitted_on"]["impostor_pairs"]
    (0.3, 0.0, 2)
    """
    labels = embeddings, persons, cameras, metric
    pairs = pair_distances(*labels, tail=false_match_rate)
    threshold = threshold_at(pairs, false_match_rate)
    rates = rates_at(*labels, threshold=threshold)
    return {
        "metric": labelled(*labels[:3], metric=metric).metric,
        "threshold": threshold,
        "false_match_rate": false_match_rate,
        "false_match_interval": [rates.false_match.low, rates.false_match.high],
        "false_non_match_rate": rates.false_non_match.mean,
        "false_non_match_interval": [rates.false_non_match.low, rates.false_non_match.high],
        "equal_error_rate": equal_error_rate(pairs),
        "fitted_on": {
            "who": fitted_on,
            "persons": rates.num_persons,
            "genuine_pairs": rates.num_genuine,
            "impostor_pairs": rates.num_impostors,
        },
    }


def _checked(embeddings, persons, cameras, metric):
    """Check the embeddings and their labels and return them without junk, and the metric."""
    embeddings, persons, cameras, _, metric = labelled(
        embeddings, persons, cameras, metric=metric, needed=("persons", "cameras")
    )
    checked_labels(persons, cameras, "tracklets'")
    if embeddings.ndim != 2 or len(embeddings) != len(persons):
        raise ValueError(
            "`embeddings` needs one row per tracklet. Received: "
            f"embeddings.shape={embeddings.shape}, {len(persons)} persons"
        )
    check_finite(embeddings, "embeddings")
    real = persons != JUNK
    embeddings, persons, cameras = embeddings[real], persons[real], cameras[real]
    if not _num_impostors(persons):
        raise ValueError(
            f"Impostor pairs need two persons. Received: {len(persons)} tracklets of {len(np.unique(persons))} persons"
        )
    seen = np.unique(np.stack([persons, cameras])[:, persons != DISTRACTOR], axis=1)[0]
    if len(np.unique(seen)) == len(seen):
        raise ValueError(
            f"Genuine pairs need a person in two cameras. Received: {len(seen)} persons, each in one camera"
        )
    return embeddings, persons, cameras, metric


def _genuine(embeddings, persons, cameras, metric):
    """Yield the rows of a person and distances of genuine pairs among them."""
    order = np.argsort(persons, kind="stable")
    labels, starts = np.unique(persons[order], return_index=True)
    for person, rows in zip(labels, np.split(order, starts[1:]), strict=True):
        if person == DISTRACTOR:
            continue
        for start in range(0, len(rows), _ROWS):
            some, others = rows[start : start + _ROWS], rows[start:]
            pairs = np.triu(cameras[some][:, None] != cameras[others], 1)
            if pairs.any():
                yield rows, distance_matrix(embeddings[some], embeddings[others], metric)[pairs]


def _impostor_blocks(embeddings, persons, metric):
    """Yield distances of some rows to all from the first of them on, a mask of impostor pairs, and the first row."""
    step = max(1, _BLOCK_BYTES // (embeddings.itemsize * len(embeddings)))
    for start in range(0, len(embeddings), step):
        rows = slice(start, start + step)
        impostors = np.triu(persons[rows, None] != persons[start:], 1)
        yield distance_matrix(embeddings[rows], embeddings[start:], metric), impostors, start


def _groups(persons):
    """Return the number, from 0, of each tracklet's person, each distractor a person, and which are no distractors."""
    labels = persons.astype(np.int64)
    distractors = np.flatnonzero(labels == DISTRACTOR)
    labels[distractors] = -1 - np.arange(len(distractors))
    labels, groups = np.unique(labels, return_inverse=True)
    return groups, labels > 0


def _num_impostors(persons):
    counts = np.bincount(np.unique(persons, return_inverse=True)[1]).astype(float)
    return int(_pairs_between(counts[None])[0])


def _pairs_between(sizes):
    """Return the pairs across groups of these sizes, row by row."""
    return (sizes.sum(axis=1) ** 2 - (sizes**2).sum(axis=1)) / 2


def count_within(share: float, count: int) -> int:
    """Return how many of `count` things a share allows; 0.29 of 100 are 29, whatever the product's last digit."""
    return math.floor(share * count * (1 + 1e-12))


def check_rate(rate: float, count: int, things: str, name: str) -> None:
    """Raise for a rate that is not between 0 and 1, or that `count` things are too few to show."""
    if not 0 < rate < 1:
        raise ValueError(f"`{name}` is above 0 and below 1. Received: {name}={rate!r}")
    if not count_within(rate, count):
        raise ValueError(
            f"A rate of {rate} takes {math.ceil(1 / rate)} {things} to see one, but there are {count}; choose "
            f"{name}={1 / count:.2g} or more, or give more persons. Received: {name}={rate!r}"
        )
