"""CMC and mean average precision of queries against a gallery, with the cross-camera rule.

Only the positions of the matches are needed, so nothing is sorted while a query has few of them: a match's
position is the number of gallery entries nearer than it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from kreid.data.tracklet import JUNK
from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite
from kreid.gallery.embeddings import Labelled, TrackletEmbeddings, labelled

Ties: TypeAlias = Literal["stable", "best", "worst"]

#: The two ways MARS is scored. "standard" is what the common toolboxes do, "mars" what the authors' own code
#: does: the queries stay in the gallery and the precision-recall curve is integrated by trapezoids.
PROTOCOLS = {
    "standard": {"gallery": "without_queries", "average_precision": "standard"},
    "mars": {"gallery": "with_queries", "average_precision": "trapezoidal"},
}

# Above this many matches sorting the row once is cheaper than one count per match.
_COUNTED_MATCHES = 48

# Bytes of the distances held at once when they come from embeddings. Each block reads the gallery again.
_BLOCK_BYTES = 2**27


# The labels that a score needs next to a bare array.
LABELS = ("persons", "cameras", "query_rows")


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """Scores of queries against a gallery, as fractions from 0 to 1.

    The arrays of the single queries are `None` in a result that was read back without them, see `from_dict`.

    Args:
        cmc: rank -> fraction of the valid queries with a match within it.
        map: mean average precision over the valid queries.
        minp: mean inverse negative penalty over the valid queries.
        num_queries: number of queries given.
        num_valid: number of queries that have a match in the gallery.
        average_precision: float64 `(queries,)`, NaN where a query is invalid.
        inverse_negative_penalty: float64 `(queries,)`, matches divided by the position of the last one; NaN where a
            query is invalid.
        first_hit: int64 `(queries,)`, position of the first match, from 1; 0 where a query is invalid.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.1, 0.2, 0.3]], [7], [0], [7, 9, 7], [0, 1, 1], ranks=(1, 2))
    >>> result.scores()
    {'rank-1': 0.0, 'rank-2': 1.0, 'mAP': 0.5, 'mINP': 0.5}
    >>> RetrievalResult.from_dict(result.to_dict()).scores() == result.scores()
    True
    """

    cmc: dict[int, float]
    map: float
    minp: float
    num_queries: int
    num_valid: int
    average_precision: np.ndarray | None = None
    inverse_negative_penalty: np.ndarray | None = None
    first_hit: np.ndarray | None = None

    def scores(self) -> dict[str, float]:
        """Return every score by its name: `"rank-1"` and the other ranks, `"mAP"` and `"mINP"`."""
        return {**{f"rank-{rank}": score for rank, score in self.cmc.items()}, "mAP": self.map, "mINP": self.minp}

    def by_query(self) -> dict[str, np.ndarray]:
        """Return the scores of the single queries by the names of `scores`, whose values are their means.

        Returns:
            A dict of float64 arrays `(queries,)`, NaN for a query without a match.

        Raises:
            ValueError: if the result was read back without its queries.
        """
        if self.average_precision is None or self.first_hit is None:
            raise ValueError(
                "This result was read back without the scores of its single queries; give `from_dict` the queries too. "
                "Received: average_precision=None"
            )
        valid = self.first_hit > 0
        ranks = {f"rank-{rank}": np.where(valid, self.first_hit <= rank, np.nan) for rank in self.cmc}
        scores = {**ranks, "mAP": self.average_precision}
        # Files of earlier versions have no negative penalties.
        return scores if self.inverse_negative_penalty is None else {**scores, "mINP": self.inverse_negative_penalty}

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as data that `json` can write. The ranks are strings, as JSON has no other keys."""
        return {
            "cmc": {str(rank): score for rank, score in self.cmc.items()},
            "map": self.map,
            "minp": self.minp,
            "num_queries": self.num_queries,
            "num_valid": self.num_valid,
        }

    def queries_to_dict(self) -> dict[str, list[Any]]:
        """Return the scores of the single queries as data that `json` can write; null for a query without a match.

        Raises:
            ValueError: see `by_query`.
        """
        by_query = self.by_query()
        return {
            "average_precision": _with_nulls(by_query["mAP"]),
            "inverse_negative_penalty": _with_nulls(by_query["mINP"]),
            "first_match": [int(rank) or None for rank in np.asarray(self.first_hit)],
        }

    @classmethod
    def from_dict(cls, scores: Mapping[str, Any], queries: Mapping[str, Any] | None = None) -> "RetrievalResult":
        """Read back the data of `to_dict`.

        Args:
            scores: data of `to_dict`; other keys are ignored.
            queries: data of `queries_to_dict`; without it the result has no arrays of single queries.

        Returns:
            A `RetrievalResult`.

        Raises:
            ValueError: if a key is missing, or the queries are of another result.
        """
        try:
            arrays: dict[str, Any] = {}
            if queries is not None:
                arrays = {
                    "average_precision": np.array(queries["average_precision"], np.float64),
                    "first_hit": np.array([rank or 0 for rank in queries["first_match"]], np.int64),
                }
                if "inverse_negative_penalty" in queries:
                    penalties = np.array(queries["inverse_negative_penalty"], np.float64)
                    arrays["inverse_negative_penalty"] = penalties
                if any(len(values) != scores["num_queries"] for values in arrays.values()):
                    raise ValueError(
                        f"The queries are of another result. Received: {scores['num_queries']} queries in `scores`, "
                        f"{[len(values) for values in arrays.values()]} in `queries`"
                    )
            return cls(
                {int(rank): score for rank, score in scores["cmc"].items()},
                *(scores[name] for name in ("map", "minp", "num_queries", "num_valid")),
                **arrays,
            )
        except KeyError as error:
            raise ValueError(
                f"These are no scores that `RetrievalResult.to_dict` gave: {error} is missing. "
                f"Received: scores={scores!r}"
            ) from None


def _with_nulls(values):
    return [None if np.isnan(value) else value for value in values.tolist()]


def evaluate(
    distances: ArrayLike,
    query_persons: ArrayLike,
    query_cameras: ArrayLike,
    gallery_persons: ArrayLike,
    gallery_cameras: ArrayLike,
    *,
    average_precision: Literal["standard", "trapezoidal"] = "standard",
    ties: Ties = "stable",
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> RetrievalResult:
    """Score a distance matrix.

    For each query, gallery entries of person -1 (junk) and of the query's own
    person in the query's own camera are removed. The person's other entries
    are the matches; a query without one is invalid: dropped and counted. So is
    a query that is a distractor (person 0) or junk (-1), with a warning: two
    distractors are two persons.

    Memory beyond the matrix is a few rows of it.

    Args:
        distances: array `(queries, gallery)`, finite; smaller is nearer.
        query_persons: integers `(queries,)`.
        query_cameras: integers `(queries,)`.
        gallery_persons: integers `(gallery,)`.
        gallery_cameras: integers `(gallery,)`.
        average_precision: `"standard"`, the mean of the precisions at the
            matches, or `"trapezoidal"`: each match adds the mean of its
            precision and the precision one position earlier, 1 at the start.
        ties: the order of equal distances: `"stable"` as in the gallery,
            `"best"` matches first, `"worst"` matches last.
        ranks: positions, from 1, at which to give the CMC.

    Returns:
        A `RetrievalResult`.

    Raises:
        ValueError: if sizes do not fit, an option is unknown, a distance is NaN
            or infinite, or no query is valid.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.1, 0.2, 0.3]], [7], [0], [7, 9, 7], [0, 1, 1])
    >>> result.cmc[1], result.map
    (0.0, 0.5)

    Reference: Zheng et al., MARS, 2016, and its evaluation code, for the
    trapezoidal form; Ye et al., Deep Learning for Person Re-identification,
    2021, for mINP.
    """
    distances = np.asarray(distances)
    queries = checked_labels(query_persons, query_cameras, "query")
    gallery = checked_labels(gallery_persons, gallery_cameras, "gallery")
    if distances.shape != (len(queries[0]), len(gallery[0])):
        raise ValueError(
            "`distances` needs one row per query and one column per gallery entry. Received: "
            f"distances.shape={distances.shape}, {len(queries[0])} queries, {len(gallery[0])} gallery entries"
        )
    warn_of_unknown(queries[0])
    scorer = _Scorer(queries, gallery, gallery[0] == JUNK, average_precision, ties, ranks)
    scorer.score(np.arange(len(distances)), distances)
    return scorer.result()


def evaluate_embeddings(
    query_embeddings: ArrayLike,
    query_persons: ArrayLike,
    query_cameras: ArrayLike,
    gallery_embeddings: ArrayLike,
    gallery_persons: ArrayLike,
    gallery_cameras: ArrayLike,
    metric: str = "euclidean",
    *,
    average_precision: Literal["standard", "trapezoidal"] = "standard",
    ties: Ties = "stable",
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> RetrievalResult:
    """Score embeddings of queries against those of a gallery.

    As `evaluate` with `kreid.distances.distance_matrix`, but distances are
    computed for a few queries at a time; the whole matrix never exists. For a
    whole test set, and a `TrackletEmbeddings`, use `evaluate_test`.

    Args:
        query_embeddings: array `(queries, features)`.
        query_persons: see `evaluate`.
        query_cameras: see `evaluate`.
        gallery_embeddings: array `(gallery, features)`.
        gallery_persons: see `evaluate`.
        gallery_cameras: see `evaluate`.
        metric: `"euclidean"` or `"cosine"`.
        average_precision: see `evaluate`.
        ties: see `evaluate`. Distances are ties when they are equal after
            rounding to the embeddings' precision.
        ranks: see `evaluate`.

    Returns:
        A `RetrievalResult`.

    Raises:
        ValueError: as `evaluate` and `kreid.distances.distance_matrix` do.

    Example:

    >>> result = kreid.evaluation.evaluate_embeddings([[0.0]], [7], [0], [[0.1], [0.2]], [9, 7], [1, 1])
    >>> result.cmc[1], result.map
    (0.0, 0.5)
    """
    queries = checked_labels(query_persons, query_cameras, "query")
    gallery = checked_labels(gallery_persons, gallery_cameras, "gallery")
    warn_of_unknown(queries[0])
    scorer = _Scorer(queries, gallery, gallery[0] == JUNK, average_precision, ties, ranks)
    for rows, block in distance_blocks(query_embeddings, queries, gallery_embeddings, gallery, metric):
        scorer.score(rows, block)
    return scorer.result()


def evaluate_test(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    query_rows: ArrayLike | None = None,
    metric: str | None = None,
    *,
    ties: Ties = "stable",
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> dict[str, RetrievalResult]:
    """Score the embeddings of all test tracklets under every protocol.

    Distances are computed for a few queries at a time; the whole matrix never
    exists.

    Args:
        embeddings: a `TrackletEmbeddings`, which brings its labels; or an array
            `(tracklets, features)`: queries, gallery, distractors and junk, as
            `ReidDataset.test` lists them.
        persons: with an array, integers `(tracklets,)`; 0 is a distractor, -1
            junk. A query that is one of these is invalid, see `evaluate`.
        cameras: with an array, integers `(tracklets,)`.
        query_rows: with an array, its rows that are queries.
        metric: with an array, `"euclidean"` (the default) or `"cosine"`.
        ties: see `evaluate`.
        ranks: see `evaluate`.

    Returns:
        A dict from the names in `PROTOCOLS` to a `RetrievalResult` each.

    Raises:
        ValueError: as `evaluate` and `kreid.distances.distance_matrix` do, and
            if an array comes without labels, or a `TrackletEmbeddings` with.

    Example:

    >>> embeddings = np.array([[0.0], [0.1], [0.2], [3.0]])
    >>> results = kreid.evaluation.evaluate_test(embeddings, [7, 9, 7, 7], [0, 1, 1, 2], query_rows=[0])
    >>> round(results["standard"].map, 4), round(results["mars"].map, 4)
    (0.5833, 0.4167)
    """
    test = labelled(embeddings, persons, cameras, query_rows, metric, needed=LABELS)
    scorers = scorers_of_test(test, ties, ranks)
    warn_of_unknown(test.persons[test.query_rows])
    for rows, block in blocks_of_test(test):
        for scorer in scorers.values():
            scorer.score(rows, block)
    return {name: scorer.result() for name, scorer in scorers.items()}


def scorers_of_test(test: Labelled, ties: Ties, ranks: Sequence[int]) -> dict[str, "_Scorer"]:
    """Check embeddings and labels, and return a scorer per protocol."""
    check_test(test)
    junk = test.persons == JUNK
    without_queries = junk.copy()
    without_queries[test.query_rows] = True
    excluded = {"with_queries": junk, "without_queries": without_queries}
    queries = (test.persons[test.query_rows], test.cameras[test.query_rows])
    return {
        name: _Scorer(
            queries,
            (test.persons, test.cameras),
            excluded[protocol["gallery"]],
            protocol["average_precision"],
            ties,
            ranks,
        )
        for name, protocol in PROTOCOLS.items()
    }


def check_test(test: Labelled) -> None:
    """Raise if embeddings and labels of test tracklets do not fit, or an embedding is NaN or infinite."""
    checked_labels(test.persons, test.cameras, "test")
    if test.embeddings.ndim != 2 or len(test.embeddings) != len(test.persons):
        raise ValueError(
            "`embeddings` needs one row per test tracklet. Received: "
            f"embeddings.shape={test.embeddings.shape}, {len(test.persons)} persons"
        )
    check_finite(test.embeddings, "embeddings")


def blocks_of_test(test: Labelled) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the numbers of some queries and their distances to all test tracklets."""
    labels = (test.persons, test.cameras)
    queries = tuple(values[test.query_rows] for values in labels)
    yield from distance_blocks(test.embeddings[test.query_rows], queries, test.embeddings, labels, test.metric)


def warn_of_unknown(query_persons: np.ndarray) -> None:
    """Warn the caller's caller of queries that are distractors or junk, which have no match."""
    count = np.count_nonzero(query_persons < 1)
    if count:
        warnings.warn(
            f"{count} of {len(query_persons)} queries are distractors (person 0) or junk (-1), which no tracklet "
            "matches: they are not scored. Number persons from 1.",
            stacklevel=3,
        )


def distance_blocks(query_embeddings, queries, gallery_embeddings, gallery, metric):
    """Yield the numbers of some queries and their distances to the gallery; see `evaluate_embeddings`.

    `queries` and `gallery` are their persons and cameras.
    """
    embeddings = []
    for name, rows, (persons, _) in (
        ("query", query_embeddings, queries),
        ("gallery", gallery_embeddings, gallery),
    ):
        rows = np.asarray(rows)
        if rows.ndim != 2 or len(rows) != len(persons):
            raise ValueError(
                f"Give one row of {name} embeddings per person. Received: "
                f"{name}_embeddings.shape={rows.shape}, {len(persons)} persons"
            )
        check_finite(rows, f"{name}_embeddings")
        embeddings.append(rows)
    query_embeddings, gallery_embeddings = embeddings
    row_bytes = max(rows.itemsize for rows in embeddings) * max(1, len(gallery_embeddings))
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(query_embeddings), step):
        block = query_embeddings[start : start + step]
        yield np.arange(start, start + len(block)), distance_matrix(block, gallery_embeddings, metric)


class _Scorer:
    """Takes rows of distances block by block and stores three numbers per query."""

    def __init__(self, queries, gallery, excluded, average_precision, ties, ranks):
        if average_precision not in ("standard", "trapezoidal"):
            raise ValueError(
                f"`average_precision` is 'standard' or 'trapezoidal'. Received: average_precision={average_precision!r}"
            )
        if ties not in ("stable", "best", "worst"):
            raise ValueError(f"`ties` is 'stable', 'best' or 'worst'. Received: ties={ties!r}")
        if not all(isinstance(rank, (int, np.integer)) and rank >= 1 for rank in ranks):
            raise ValueError(f"`ranks` are integers from 1. Received: ranks={ranks!r}")
        self.trapezoidal = average_precision == "trapezoidal"
        self.ties = ties
        self.ranks = ranks
        self.query_persons, self.query_cameras = queries
        self.persons, self.cameras = gallery
        self.excluded = np.flatnonzero(excluded)
        # Columns by person, in gallery order, so that a query finds its own without reading all labels.
        ranked = np.flatnonzero(~excluded)
        self.by_person = ranked[np.argsort(self.persons[ranked], kind="stable")]
        ordered = self.persons[self.by_person]
        self.starts = np.searchsorted(ordered, self.query_persons, side="left")
        self.stops = np.searchsorted(ordered, self.query_persons, side="right")
        self.average_precision = np.full(len(self.query_persons), np.nan)
        self.inverse_negative_penalty = np.full(len(self.query_persons), np.nan)
        self.first_hit = np.zeros(len(self.query_persons), np.int64)

    def score(self, queries, distances):
        """Score the queries of these numbers by their rows of distances."""
        scratch = np.empty(distances.shape[1], bool)
        for query, distances_of_query in zip(queries.tolist(), distances, strict=True):
            check_distances(distances_of_query, query, scratch)
            if self.query_persons[query] < 1:
                continue
            own = self.by_person[self.starts[query] : self.stops[query]]
            same_camera = self.cameras[own] == self.query_cameras[query]
            matches = own[~same_camera]
            if not len(matches):
                continue
            row = distances_of_query.astype(np.result_type(distances, np.float32))  # A copy that can hold infinity.
            row[self.excluded] = np.inf
            row[own[same_camera]] = np.inf
            positions = ranked_positions(row, matches, self.ties, scratch)
            self.average_precision[query] = average_precision_at(positions, self.trapezoidal)
            self.inverse_negative_penalty[query] = len(positions) / (positions[-1] + 1)
            self.first_hit[query] = positions[0] + 1

    def result(self):
        valid = self.first_hit > 0
        if not valid.any():
            raise ValueError(
                "No query has a match from another camera in the gallery, so there is nothing to score; check persons "
                f"and cameras. Received: {len(valid)} queries, {len(self.by_person)} gallery entries that count"
            )
        first_hit = self.first_hit[valid]
        return RetrievalResult(
            cmc={int(rank): float(np.mean(first_hit <= rank)) for rank in self.ranks},
            map=float(self.average_precision[valid].mean()),
            minp=float(self.inverse_negative_penalty[valid].mean()),
            num_queries=len(valid),
            num_valid=int(valid.sum()),
            average_precision=self.average_precision,
            inverse_negative_penalty=self.inverse_negative_penalty,
            first_hit=self.first_hit,
        )


def check_distances(distances, query, scratch):
    """Raise for a query's row of distances with a NaN or an infinity; `scratch` is a row of bool."""
    if not np.isfinite(distances, out=scratch).all():
        column = int(np.argmin(scratch))
        raise ValueError(
            "Distances must be finite; look for NaN in the embeddings. Received: "
            f"distances[{query}, {column}]={distances[column]}"
        )


def average_precision_at(positions, trapezoidal):
    """Return the average precision of matches at these positions, from 0, in rising order."""
    hits = np.arange(1, len(positions) + 1)
    precision = hits / (positions + 1)
    if trapezoidal:
        before = np.divide(hits - 1, positions, out=np.ones(len(positions)), where=positions > 0)
        precision = (precision + before) / 2
    return precision.sum() / len(positions)


def ranked_positions(row, matches, ties, scratch):
    """Return the positions, from 0, of the matches in the ranking of `row`, in rising order."""
    distances = row[matches]
    order = np.argsort(distances, kind="stable")
    distances, matches = distances[order], matches[order]
    # Entries beyond the last match change nothing.
    near = row[np.less_equal(row, distances[-1], out=scratch)]
    if len(matches) <= _COUNTED_MATCHES:
        scratch = scratch[: len(near)]
        nearer = np.array([np.count_nonzero(np.less(near, value, out=scratch)) for value in distances])
        up_to = np.array([np.count_nonzero(np.less_equal(near, value, out=scratch)) for value in distances])
    else:
        ordered = np.sort(near)
        nearer = np.searchsorted(ordered, distances, side="left")
        up_to = np.searchsorted(ordered, distances, side="right")
    if (up_to - nearer == 1).all():
        return nearer
    if ties == "stable":
        tied = np.flatnonzero(up_to - nearer > 1)
        nearer[tied] += [np.count_nonzero(row[: matches[i]] == distances[i]) for i in tied]
        return nearer
    first = np.searchsorted(distances, distances, side="left")
    last = np.searchsorted(distances, distances, side="right")
    if ties == "worst":
        nearer = up_to - (last - first)
    return nearer + np.arange(len(matches)) - first


def checked_labels(persons: ArrayLike, cameras: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Check persons and cameras and return them as arrays."""
    persons, cameras = np.asarray(persons), np.asarray(cameras)
    for labels in (persons, cameras):
        if labels.ndim != 1 or labels.shape != persons.shape or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"The {name} persons and cameras are two rows of as many integers. Received: "
                f"persons {persons.dtype} {persons.shape}, cameras {cameras.dtype} {cameras.shape}"
            )
    return persons, cameras
