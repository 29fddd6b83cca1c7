"""Link tracklets into persons: agglomerative clustering that never joins overlapping tracklets of one camera."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.cluster.hierarchy
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import squareform
from scipy.special import expit

from kreid.distances import distance_matrix
from kreid.evaluation.rerank import rerank_blocks
from kreid.evaluation.reranking import Reranking
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery_model import fitted_threshold, linking_threshold

Linking = Literal["distance", "k-reciprocal"]
LINKINGS: tuple[Linking, ...] = ("distance", "k-reciprocal")
ThresholdFrom = Literal["given", "model, for groups", "model, for pairs"]
_DEFAULT = Reranking()


class Link(NamedTuple):
    """Two groups of tracklets that were joined, or were nearly joined.

    Args:
        one: rows of the first group's tracklets.
        other: rows of the second group's tracklets.
        distance: mean distance between the tracklets of the two.
        margin: how far the distance is from the threshold, 0 or more.
        probability: that the two show one person, by the model's calibration; NaN without one.
        joined: whether they were joined.
    """

    one: tuple[int, ...]
    other: tuple[int, ...]
    distance: float
    margin: float
    probability: float
    joined: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Identities:
    """Persons that `link_tracklets` found.

    Args:
        persons: int64 `(tracklets,)`, numbered from 1 in the order of their first tracklets.
        margins: float64 `(tracklets,)`. For a tracklet of a person with others: the threshold less the tracklet's mean
            distance to them. For a person's only tracklet: the mean distance to the nearest person that it may be, less
            the threshold; infinite if there is none. The greater, the surer; below 0 the person holds together only by
            its other tracklets.
        certainties: float64 `(tracklets,)`, the calibrated probability that the same decision is right, where both
            kinds of pairs are equally frequent; NaN without a calibration.
        links: every `Link` that joined two groups, and for each person the nearest person that it may be; the smallest
            margin, which is the most doubtful, first.
        threshold: mean distance below which groups were joined.
        threshold_from: where it is from: `"given"`, `"model, for groups"` or, where the model has none for groups,
            `"model, for pairs"`.
        linking: kind of the distances.
        fewest: number of persons if the threshold were infinite.
        overlapping: bool `(tracklets, tracklets)`, the pairs that may not be one person.
    """

    persons: NDArray[np.int64]
    margins: NDArray[np.float64]
    certainties: NDArray[np.float64]
    links: tuple[Link, ...]
    threshold: float
    threshold_from: ThresholdFrom
    linking: Linking
    fewest: int
    overlapping: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of persons."""
        return int(self.persons.max())


def link_tracklets(
    embeddings: TrackletEmbeddings | ArrayLike,
    starts: ArrayLike | None = None,
    ends: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    sources: ArrayLike | None = None,
    metric: str | None = None,
    *,
    threshold: float | None = None,
    linking: Linking = "distance",
    reranking: Reranking = _DEFAULT,
    calibration: Mapping[str, float] | None = None,
) -> Identities:
    """Link tracklets of any number of cameras into persons.

    The two nearest groups of tracklets are joined, by the mean distance between their tracklets, until no two groups
    are nearer than the threshold. Two tracklets that overlap in time in one camera and video show two persons, so
    groups that hold such a pair are never joined. Tracklets of one camera that do not overlap may be one person.

    It takes memory of about 40 bytes per pair of tracklets: 4 GB for 10,000 tracklets.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(tracklets, features)`.
        starts: numbers `(tracklets,)`, first frame or time of each tracklet, NaN where unknown; by default those of the
            record. A tracklet of unknown time overlaps none.
        ends: last frame or time of each, in the same unit. A tracklet that begins in another's last frame overlaps it.
        cameras: with an array, `(tracklets,)`; by default one camera.
        sources: with an array, `(tracklets,)`, the video of each tracklet: times of two videos are not compared; by
            default one video for each camera.
        metric: with an array, `"euclidean"` (the default) or `"cosine"`.
        threshold: mean distance below which groups are joined; by default the one of the record's passport for groups,
            see `kreid.evaluation.fit_linking`, or, if it has none, the one for pairs, which is mostly too low.
        linking: `"distance"`, between embeddings, or `"k-reciprocal"`, see `kreid.evaluation.rerank_embeddings`, from 0
            to 1. The latter are no distances of pairs but depend on all tracklets, and no passport has a threshold for
            them.
        reranking: options of `"k-reciprocal"`.
        calibration: see `kreid.evaluation.fit_calibration`; by default the one of the record's passport. Only for
            `"distance"`.

    Returns:
        An `Identities`.

    Raises:
        ValueError: if sizes do not fit, an embedding is NaN or infinite, a tracklet ends before it begins, or there is
            no threshold.

    Example:

    >>> walks = [[0.0], [0.1], [0.2], [5.0]]
    >>> first, last = [1, 1, 40, 1], [30, 30, 60, 30]
    >>> kreid.identities.link_tracklets(walks, first, last, cameras=[1, 1, 1, 2], threshold=1.0).persons.tolist()
    [1, 2, 2, 3]

    Reference: average linkage, Sokal and Michener, A Statistical Method for Evaluating Systematic Relationships, 1958;
    SciPy computes it. Overlapping pairs get a distance so large that a mean which has one is above every threshold.
    """
    tracklets = _labelled(embeddings, starts, ends, cameras, sources, metric)
    if linking not in LINKINGS:
        raise ValueError(f"`linking` is one of {', '.join(map(repr, LINKINGS))}. Received: linking={linking!r}")
    verification = embeddings.passport.verification if isinstance(embeddings, TrackletEmbeddings) else None
    threshold, threshold_from = chosen_threshold(threshold, linking, verification, tracklets.metric)
    if calibration is None and fitted_threshold(verification, tracklets.metric) is not None:
        calibration = (verification or {}).get("calibration")
    if linking == "k-reciprocal":
        calibration = None
    distances = _distances(tracklets, linking, reranking)
    overlapping = overlapping_pairs(tracklets.starts, tracklets.ends, tracklets.cameras, tracklets.sources)
    tree, fewest = _tree(distances, overlapping, threshold)
    persons = _cut(tree, threshold, len(distances))
    members, joins = _joins(tree, len(distances), threshold)
    found = _Persons(distances, overlapping, persons)
    pairs = [(members[one], members[other], distance, True) for one, other, distance in joins]
    pairs += [(*found.rows(pair), distance, False) for pair, distance in found.nearest_pairs()]
    links = [
        Link(one, other, distance, abs(threshold - distance), _probability(distance, calibration), joined)
        for one, other, distance, joined in pairs
    ]
    links.sort(key=lambda link: (link.margin, link.one, link.other))
    own, alone = found.distances_of_tracklets()
    probabilities = np.array([_probability(distance, calibration) for distance in own.tolist()])
    return Identities(
        persons,
        np.where(alone, own - threshold, threshold - own),
        np.where(alone, 1 - probabilities, probabilities),
        tuple(links),
        threshold,
        threshold_from,
        linking,
        fewest,
        overlapping,
    )


class _Tracklets(NamedTuple):
    embeddings: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    cameras: np.ndarray
    sources: np.ndarray
    metric: str


def _labelled(
    embeddings: TrackletEmbeddings | ArrayLike,
    starts: ArrayLike | None,
    ends: ArrayLike | None,
    cameras: ArrayLike | None,
    sources: ArrayLike | None,
    metric: str | None,
) -> _Tracklets:
    """Check the arguments of `link_tracklets`, and number cameras and videos."""
    if isinstance(embeddings, TrackletEmbeddings):
        for name, value in (("cameras", cameras), ("sources", sources), ("metric", metric)):
            if value is not None:
                raise ValueError(
                    f"`TrackletEmbeddings` have their own {name}; leave the argument out. Received: {name}={value!r}"
                )
        record = embeddings
        starts, ends = (record.starts, record.ends) if starts is None and ends is None else (starts, ends)
        embeddings, cameras, sources, metric = record.embeddings, record.cameras, record.sources, record.metric
    vectors = np.asarray(embeddings)
    count = len(vectors) if vectors.ndim == 2 else 0
    if not count:
        raise ValueError(
            f"Give the embeddings of one tracklet or more, one in each row. Received: embeddings.shape={vectors.shape}"
        )
    if (starts is None) != (ends is None):
        missing = "starts" if starts is None else "ends"
        raise ValueError(f"Give both `starts` and `ends`, or neither. Received: {missing}=None")
    given = {
        "starts": np.full(count, np.nan) if starts is None else np.asarray(starts, np.float64),
        "ends": np.full(count, np.nan) if ends is None else np.asarray(ends, np.float64),
        "cameras": np.zeros(count, np.int64) if cameras is None else np.asarray(cameras),
        "sources": np.zeros(count, np.int64) if sources is None else np.asarray(sources),
    }
    for name, values in given.items():
        if values.shape != (count,):
            raise ValueError(
                f"Give one of `{name}` for each of the {count} tracklets. Received: {name}.shape={values.shape}"
            )
    backwards = np.flatnonzero(given["ends"] < given["starts"])
    if len(backwards):
        row = int(backwards[0])
        raise ValueError(
            f"A tracklet ends after it begins. Received: starts[{row}]={given['starts'][row]}, "
            f"ends[{row}]={given['ends'][row]}"
        )
    # Numbers are compared faster than names.
    _, numbers = np.unique(given["cameras"], return_inverse=True)
    _, videos = np.unique(given["sources"], return_inverse=True)
    return _Tracklets(vectors, given["starts"], given["ends"], numbers, videos, metric or "euclidean")


def chosen_threshold(
    threshold: float | None, linking: Linking, verification: Mapping[str, Any] | None, metric: str
) -> tuple[float, ThresholdFrom]:
    """Return the threshold that is given, or the model's, and where it is from.

    Args:
        threshold: that is given, or `None`.
        linking: see `link_tracklets`.
        verification: of the model's passport, or `None`.
        metric: of the embeddings.

    Raises:
        ValueError: if there is none, or it is no distance.
    """
    threshold_from: ThresholdFrom = "given"
    if threshold is None and linking == "distance":
        threshold, threshold_from = linking_threshold(verification, metric), "model, for groups"
        if threshold is None:
            threshold, threshold_from = fitted_threshold(verification, metric), "model, for pairs"
    if threshold is None:
        if linking == "k-reciprocal":
            raise ValueError(
                "k-reciprocal distances are from 0 to 1, and models have no threshold for them: give one "
                "(--threshold), such as 0.5, and look at the links. Received: threshold=None"
            )
        raise ValueError(
            "The model has no threshold for 'same person': train it with the settings false_match_rate and holdout, or "
            "give a threshold (--threshold) and look at the links. Received: threshold=None"
        )
    if isinstance(threshold, (str, bool)) or not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"A threshold is a distance above 0. Received: threshold={threshold!r}")
    return float(threshold), threshold_from


def _distances(tracklets: _Tracklets, linking: Linking, reranking: Reranking) -> NDArray[np.float64]:
    """Return all distances, `(tracklets, tracklets)`, symmetric, with zeros on the diagonal."""
    count = len(tracklets.embeddings)
    if linking == "distance":
        distances = distance_matrix(tracklets.embeddings, tracklets.embeddings, tracklets.metric).astype(np.float64)
    else:
        distances = np.empty((count, count))
        for first, block in rerank_blocks(tracklets.embeddings, np.arange(count), tracklets.metric, reranking):
            distances[first : first + len(block)] = block
    distances = (distances + distances.T) / 2
    np.fill_diagonal(distances, 0.0)
    return distances


def overlapping_pairs(starts: ArrayLike, ends: ArrayLike, cameras: ArrayLike, sources: ArrayLike) -> NDArray[np.bool_]:
    """Return the pairs of tracklets that are in one camera and video at the same time.

    Args:
        starts: see `link_tracklets`, as the other arguments.
        ends: numbers `(tracklets,)`.
        cameras: `(tracklets,)`.
        sources: `(tracklets,)`.

    Returns:
        bool `(tracklets, tracklets)`, false on the diagonal.
    """
    starts, ends, cameras, sources = map(np.asarray, (starts, ends, cameras, sources))
    before = starts[:, None] <= ends[None]
    overlapping = before & before.T
    overlapping &= (cameras[:, None] == cameras[None]) & (sources[:, None] == sources[None])
    np.fill_diagonal(overlapping, False)
    return overlapping


def _tree(
    distances: NDArray[np.float64], overlapping: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.float64], int]:
    """Return the tree of average linkage, and the number of groups that only overlaps keep apart."""
    count = len(distances)
    if count == 1:
        return np.zeros((0, 4)), 1
    # A mean over two groups has at most count ** 2 / 4 pairs: with one of this distance it is above all others.
    largest = max(float(distances.max()), threshold)
    apart = np.where(overlapping, count**2 * largest, distances)
    tree = scipy.cluster.hierarchy.linkage(squareform(apart, checks=False), "average")
    return tree, count - int(np.count_nonzero(tree[:, 2] <= largest * (1 + 1e-9)))


def _cut(tree: NDArray[np.float64], threshold: float, count: int) -> NDArray[np.int64]:
    """Number the groups below the threshold from 1, in the order of their first tracklets."""
    if count == 1:
        return np.ones(1, np.int64)
    groups = scipy.cluster.hierarchy.fcluster(tree, np.nextafter(threshold, 0), "distance")
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group].astype(np.int64) + 1


def _joins(
    tree: NDArray[np.float64], count: int, threshold: float
) -> tuple[dict[int, tuple[int, ...]], list[tuple[int, int, float]]]:
    """Return the rows of each node of the tree below the threshold, and the joins: two nodes and their distance."""
    members: dict[int, tuple[int, ...]] = {row: (row,) for row in range(count)}
    joins = []
    for number, (one, other, distance, _) in enumerate(tree.tolist(), start=count):
        # Rounding may put a node slightly below its parts.
        if distance < threshold and int(one) in members and int(other) in members:
            joins.append((int(one), int(other), distance))
            members[number] = tuple(sorted(members[int(one)] + members[int(other)]))
    return members, joins


class _Persons:
    """Mean distances between tracklets and persons."""

    def __init__(
        self, distances: NDArray[np.float64], overlapping: NDArray[np.bool_], persons: NDArray[np.int64]
    ) -> None:
        count = len(persons)
        self._persons = persons - 1
        self._is_member = scipy.sparse.csr_array((np.ones(count), (np.arange(count), self._persons)))
        self._sizes = np.bincount(self._persons)
        self._sums = distances @ self._is_member
        self._forbidden = (overlapping @ self._is_member) > 0

    def rows(self, pair: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the rows of two persons, counted from 0."""
        one, other = (tuple(np.flatnonzero(self._persons == person).tolist()) for person in pair)
        return one, other

    def nearest_pairs(self) -> list[tuple[tuple[int, int], float]]:
        """Return each person's nearest other person that may be the same, and the mean distance; each pair once."""
        means = (self._is_member.T @ self._sums) / np.outer(self._sizes, self._sizes)
        forbidden = (self._is_member.T @ self._forbidden.astype(np.float64)) > 0
        means[forbidden] = np.inf
        np.fill_diagonal(means, np.inf)
        nearest = means.argmin(axis=1).tolist()
        pairs = {(min(pair), max(pair)) for pair in enumerate(nearest) if np.isfinite(means[pair])}
        return [(pair, float(means[pair])) for pair in sorted(pairs)]

    def distances_of_tracklets(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return each tracklet's mean distance to the others of its person, or to the nearest person if it is alone."""
        rows = np.arange(len(self._persons))
        sizes = self._sizes[self._persons]
        alone = sizes == 1
        means = self._sums / self._sizes
        means[self._forbidden] = np.inf
        means[rows, self._persons] = np.inf
        own = self._sums[rows, self._persons] / np.maximum(sizes - 1, 1)
        return np.where(alone, means.min(axis=1), own), alone


def _probability(distance: float, calibration: Mapping[str, float] | None) -> float:
    if calibration is None:
        return math.nan
    return float(expit(calibration["offset"] - calibration["scale"] * distance))
