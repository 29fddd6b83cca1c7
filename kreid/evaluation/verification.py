"""Same person or not, by a threshold on the distance: its error rates, and the threshold for a chosen rate.

Two tracklets are accepted as the same person where their distance is *below* the threshold. See
`kreid.evaluation.pairs` for the pairs that are counted.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from kreid.data.tracklet import DISTRACTOR
from kreid.evaluation.bootstrap import Interval, portions
from kreid.evaluation.linking import fit_linking
from kreid.evaluation.pairs import (
    PairDistances,
    PairLabels,
    check_rate,
    checked_for_pairs,
    count_within,
    genuine_distances,
    impostor_blocks,
    num_impostors,
    pair_distances,
    pairs_between,
)
from kreid.gallery.embeddings import Labelled, TrackletEmbeddings, labelled

# Marks between which distances count as equal in a calibration.
_MARKS = 2**14
# In two cameras or more, for a threshold for groups: of fewer, single persons decide where it is.
MIN_LINKED_PERSONS = 10


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
        num_persons: persons of the pairs; each distractor counts as one.
    """

    false_match: Interval
    false_non_match: Interval
    num_genuine: int
    num_impostors: int
    num_persons: int


def roc(pairs: PairDistances) -> Roc:
    """Return the exact receiver operating characteristic, at thresholds just before and after every genuine distance.

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
    fraction = -difference[before] / (difference[after] - difference[before])
    return float(false_match[before] + fraction * (false_match[after] - false_match[before]))


def threshold_at(pairs: PairDistances, false_match_rate: float) -> float:
    """Return the highest threshold at which no more than a share of the impostor pairs is accepted.

    It is the distance of the nearest impostor pair that must be refused. Fit it on persons that the model was not
    trained on, and report its error rates on other persons.

    Args:
        pairs: a `PairDistances`.
        false_match_rate: to allow, above 0 and below 1.

    Returns:
        A float: accept distances below it.

    Raises:
        ValueError: if there are too few impostor pairs to show the rate, or too few were kept.

    Example:

    >>> pairs = kreid.evaluation.pair_distances([[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1], tail=0.5)
    >>> round(kreid.evaluation.threshold_at(pairs, 0.5), 2)
    0.3
    """
    check_rate(false_match_rate, pairs.num_impostors, "impostor pairs", "false_match_rate")
    accepted = count_within(false_match_rate, pairs.num_impostors)
    if accepted >= len(pairs.nearest_impostors):
        raise ValueError(
            f"Only the nearest {len(pairs.nearest_impostors)} impostor pairs were kept; measure with "
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
    """Return the error rates at a threshold, with bootstrap intervals over persons.

    Pairs that share a person are not independent, so persons are drawn with replacement, and a pair is weighted by the
    product of its two persons' draws. The upper end is at least that of as many independent pairs without an error,
    about 3 / pairs, which matters where few or no errors are seen.

    Args:
        embeddings: see `pair_distances`.
        persons: see `pair_distances`.
        cameras: see `pair_distances`.
        metric: see `pair_distances`.
        threshold: distances below it are accepted.
        share: of the bootstrap rates that the intervals hold.
        draws: number of bootstrap samples.
        seed: of the draws.

    Returns:
        A `VerificationRates`.

    Raises:
        ValueError: as `pair_distances` does, and if the threshold is NaN.

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
    tracklets = checked_for_pairs(embeddings, persons, cameras, metric)
    pairs = _pairs_by_person(tracklets, threshold)
    num_persons = len(pairs.sizes)
    rng = np.random.default_rng(seed)
    chances = np.full(num_persons, 1 / num_persons)
    drawn = [
        pairs.rates(rng.multinomial(num_persons, chances, size).astype(np.float64))
        for size in portions(draws, max(num_persons, len(pairs.accepted)))
    ]
    observed = pairs.rates(np.ones((1, num_persons)))[:, 0]
    ends = np.nanquantile(np.concatenate(drawn, axis=1), [(1 - share) / 2, (1 + share) / 2], axis=1).T
    counts = num_impostors(tracklets.persons), int(pairs.genuine.sum())
    false_match, false_non_match = (
        Interval(float(rate), float(min(low, rate)), float(max(high, rate, min(1.0, -math.log(1 - share) / count))))
        for rate, (low, high), count in zip(observed, ends, counts, strict=True)
    )
    return VerificationRates(false_match, false_non_match, counts[1], counts[0], num_persons)


class _PairsByPerson(NamedTuple):
    """Counts of pairs by their persons, each distractor a person.

    Args:
        sizes: tracklets of each person, `(persons,)`.
        is_distractor: bool `(persons,)`.
        genuine: genuine pairs of each person.
        missed: genuine pairs of each person that are not accepted.
        one: persons of the accepted impostor pairs, `(pairs of persons,)`.
        other: their second persons.
        accepted: accepted impostor pairs of each pair of persons.
    """

    sizes: np.ndarray
    is_distractor: np.ndarray
    genuine: np.ndarray
    missed: np.ndarray
    one: np.ndarray
    other: np.ndarray
    accepted: np.ndarray

    def rates(self, draws: np.ndarray) -> np.ndarray:
        """Return false-match and false non-match rates, `(2, draws)`, for numbers of draws of each person."""
        weighted = draws * self.sizes
        impostors = pairs_between(weighted) - pairs_between(weighted[:, self.is_distractor])
        accepted = (draws[:, self.one] * draws[:, self.other]) @ self.accepted
        # A draw may hold no pair at all.
        with np.errstate(invalid="ignore"):
            return np.stack([accepted / impostors, draws @ self.missed / (draws @ self.genuine)])


def _pairs_by_person(tracklets: PairLabels, threshold: np.float64) -> _PairsByPerson:
    labels = tracklets.persons.astype(np.int64)
    distractors = np.flatnonzero(labels == DISTRACTOR)
    labels[distractors] = -1 - np.arange(len(distractors))
    labels, groups = np.unique(labels, return_inverse=True)
    sizes = np.bincount(groups)
    genuine, missed = np.zeros((2, len(sizes)))
    for rows, distances in genuine_distances(tracklets):
        genuine[groups[rows[0]]] += len(distances)
        missed[groups[rows[0]]] += np.count_nonzero(distances >= threshold)
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for distances, impostors, start in impostor_blocks(tracklets):
        rows, columns = np.nonzero(impostors & (distances < threshold))
        pairs = np.sort(np.stack([groups[start + rows], groups[start + columns]]), axis=0)
        keys = np.concatenate([keys, pairs[0] * len(sizes) + pairs[1]])
        counts = np.concatenate([counts, np.ones(len(rows), np.int64)])
        keys, inverse = np.unique(keys, return_inverse=True)
        counts = np.bincount(inverse, weights=counts, minlength=len(keys)).astype(np.int64)
    return _PairsByPerson(sizes, labels < 0, genuine, missed, keys // len(sizes), keys % len(sizes), counts)


def fit_calibration(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    metric: str | None = None,
) -> dict[str, float]:
    """Fit the probability that two tracklets show one person to their distance: `1 / (1 + exp(scale * d - offset))`.

    Genuine and impostor pairs weigh alike, so it is the probability where both are equally frequent (`prior`). Where a
    share `p` of the pairs is genuine, add `log(p / (1 - p))` to the offset. Logistic regression by maximum likelihood,
    towards Platt's targets, which keep the scale finite where a distance separates the pairs.

    Args:
        embeddings: see `pair_distances`; of persons that the model was not trained on.
        persons: see `pair_distances`.
        cameras: see `pair_distances`.
        metric: see `pair_distances`.

    Returns:
        A dict of `scale`, at least 0, `offset` and `prior`, 0.5.

    Raises:
        ValueError: as `pair_distances` does.

    Example:

    >>> fitted = kreid.evaluation.fit_calibration([[0.0], [0.1], [0.3]], [7, 7, 9], [0, 1, 1])
    >>> fitted["scale"] > 0, fitted["prior"]
    (True, 0.5)

    Reference: Platt, Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood
    Methods, 1999, for the targets. Equal weights of the two kinds of pairs are kreid's choice.
    """
    tracklets = checked_for_pairs(embeddings, persons, cameras, metric)
    genuine = np.concatenate([distances for _, distances in genuine_distances(tracklets)]).astype(np.float64)
    # Impostor pairs are too many to keep: counts of them between marks that are close together.
    farthest = max(float(distances.max()) for distances, _, _ in impostor_blocks(tracklets)) or 1.0
    counts = np.zeros(_MARKS, np.int64)
    for distances, impostors, _ in impostor_blocks(tracklets):
        marks = np.minimum(distances[impostors] * (_MARKS / farthest), _MARKS - 1).astype(np.int64)
        counts += np.bincount(marks, minlength=_MARKS)
    seen = np.flatnonzero(counts)
    distances = np.concatenate([genuine, (seen + 0.5) * (farthest / _MARKS)]) / farthest
    targets = np.concatenate(
        [
            np.full(len(genuine), (len(genuine) + 1) / (len(genuine) + 2)),
            np.full(len(seen), 1 / (counts.sum() + 2)),
        ]
    )
    weights = np.concatenate([np.full(len(genuine), 0.5 / len(genuine)), 0.5 * counts[seen] / counts.sum()])

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = parameters[1] - parameters[0] * distances
        loss = weights @ (np.logaddexp(0, logits) - targets * logits)
        errors = weights * (expit(logits) - targets)
        return float(loss), np.array([-errors @ distances, errors.sum()])

    found = minimize(loss_and_gradient, np.array([1.0, 0.5]), jac=True, bounds=[(0, None), (None, None)], tol=1e-12)
    scale, offset = found.x.tolist()
    return {"scale": scale / farthest, "offset": offset, "prior": 0.5}


def fit_verification(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    metric: str | None = None,
    *,
    false_match_rate: float = 0.001,
    fitted_on: str,
) -> dict[str, Any]:
    """Fit the threshold for a chosen false-match rate, which separates "same person" from "unknown person".

    Args:
        embeddings: see `pair_distances`; of persons that the model was not trained on.
        persons: see `pair_distances`.
        cameras: see `pair_distances`.
        metric: see `pair_distances`.
        false_match_rate: share of the impostor pairs that may be accepted.
        fitted_on: description of the persons of the embeddings.

    Returns:
        A dict that `json` can write, for `kreid.serving.export_model`: `metric`, `threshold`, the chosen
        `false_match_rate`, `false_non_match_rate`, both rates' intervals over persons, `equal_error_rate`,
        `calibration`, see `fit_calibration`, `linking`, see `fit_linking`, which is `None` if fewer than 10 persons are
        in two cameras or more, and `fitted_on` with the counts.

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
        "calibration": fit_calibration(*labels),
        "linking": _fit_linking(labelled(*labels[:3], metric=metric)),
        "fitted_on": {
            "who": fitted_on,
            "persons": rates.num_persons,
            "genuine_pairs": rates.num_genuine,
            "impostor_pairs": rates.num_impostors,
        },
    }


def _fit_linking(tracklets: Labelled) -> dict[str, Any] | None:
    """Fit the threshold for groups of tracklets, if there are enough persons in two cameras or more."""
    pairs = np.unique(np.stack([tracklets.persons, tracklets.cameras]), axis=1)
    persons, cameras = np.unique(pairs[0][pairs[0] > DISTRACTOR], return_counts=True)
    if len(persons[cameras > 1]) < MIN_LINKED_PERSONS:
        return None
    return fit_linking(tracklets.embeddings, tracklets.persons, tracklets.metric)
