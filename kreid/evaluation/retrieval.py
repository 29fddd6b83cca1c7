"""CMC and mean average precision of queries against a gallery, with the cross-camera rule.

Only the positions of the matches are needed, so nothing is sorted while a query has few of them: a match's
position is the number of gallery entries nearer than it.
"""

from dataclasses import dataclass

import numpy as np

from kreid.data.tracklet import JUNK
from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite
from kreid.gallery.embeddings import checked_query_rows

#: The two ways MARS is scored. "standard" is what the common toolboxes do, "mars" what the authors' own code
#: does: the queries stay in the gallery and the precision-recall curve is integrated by trapezoids.
PROTOCOLS = {
    "standard": {"gallery": "without_queries", "average_precision": "standard"},
    "mars": {"gallery": "with_queries", "average_precision": "trapezoidal"},
}

# Above this many matches sorting the row once is cheaper than one count per match.
_COUNTED_MATCHES = 48

# Bytes of the distances held at once when they come from embeddings. Each block reads the gallery anew.
_BLOCK_BYTES = 2**27


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """What `evaluate` found; all scores are fractions from 0 to 1.

    Attributes:
        cmc: rank -> fraction of the valid queries with a match within it.
        map: mean average precision over the valid queries.
        minp: mean inverse negative penalty over the valid queries.
        average_precision: float64 `(queries,)`, NaN where a query is invalid.
        inverse_negative_penalty: float64 `(queries,)`, matches divided by the
            position of the last one; NaN where a query is invalid.
        first_hit: int64 `(queries,)`, position of the first match, from 1; 0
            where a query is invalid.
        num_queries: number of queries given.
        num_valid: number of queries that have a match in the gallery.
    """

    cmc: dict[int, float]
    map: float
    minp: float
    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_hit: np.ndarray
    num_queries: int
    num_valid: int


def evaluate(
    distances,
    query_persons,
    query_cameras,
    gallery_persons,
    gallery_cameras,
    *,
    average_precision="standard",
    ties="stable",
    ranks=(1, 5, 10, 20),
):
    """Scores a distance matrix.

    For each query, gallery entries of person -1 (junk) and of the query's own
    person in the query's own camera are removed. What is left of the person
    are the matches; a query without one is invalid: dropped and counted.

    Memory beyond the matrix is a few rows of it.

    Args:
        distances: array `(queries, gallery)`, finite; smaller is nearer.
        query_persons: integers `(queries,)`.
        query_cameras: integers `(queries,)`.
        gallery_persons: integers `(gallery,)`. Distractors are an ordinary
            person that no query is.
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
    scorer = _Scorer(queries, gallery, gallery[0] == JUNK, average_precision, ties, ranks)
    scorer.score(0, distances)
    return scorer.result()


def evaluate_embeddings(
    query_embeddings,
    query_persons,
    query_cameras,
    gallery_embeddings,
    gallery_persons,
    gallery_cameras,
    metric="euclidean",
    *,
    average_precision="standard",
    ties="stable",
    ranks=(1, 5, 10, 20),
):
    """Scores embeddings of queries against those of a gallery.

    As `evaluate` with `kreid.distances.distance_matrix`, but distances are
    computed for a few queries at a time; the whole matrix never exists.

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
    scorer = _Scorer(queries, gallery, gallery[0] == JUNK, average_precision, ties, ranks)
    for start, block in distance_blocks(query_embeddings, queries, gallery_embeddings, gallery, metric):
        scorer.score(start, block)
    return scorer.result()


def evaluate_test(embeddings, persons, cameras, query_rows, metric="euclidean", *, ties="stable", ranks=(1, 5, 10, 20)):
    """Scores the embeddings of all test tracklets under every protocol.

    Distances are computed for a few queries at a time; the whole matrix never
    exists.

    Args:
        embeddings: array `(tracklets, features)`: queries, gallery, distractors
            and junk, as `ReidDataset.test` lists them.
        persons: integers `(tracklets,)`; -1 is junk.
        cameras: integers `(tracklets,)`.
        query_rows: rows of `embeddings` that are queries.
        metric: `"euclidean"` or `"cosine"`.
        ties: see `evaluate`.
        ranks: see `evaluate`.

    Returns:
        A dict from the names in `PROTOCOLS` to a `RetrievalResult` each.

    Raises:
        ValueError: as `evaluate` and `kreid.distances.distance_matrix` do.

    Example:

    >>> embeddings = np.array([[0.0], [0.1], [0.2], [3.0]])
    >>> results = kreid.evaluation.evaluate_test(embeddings, [7, 9, 7, 7], [0, 1, 1, 2], query_rows=[0])
    >>> round(results["standard"].map, 4), round(results["mars"].map, 4)
    (0.5833, 0.4167)
    """
    embeddings = np.asarray(embeddings)
    query_rows, queries, gallery, scorers = scorers_of_test(embeddings, persons, cameras, query_rows, ties, ranks)
    for start, block in distance_blocks(embeddings[query_rows], queries, embeddings, gallery, metric):
        for scorer in scorers.values():
            scorer.score(start, block)
    return {name: scorer.result() for name, scorer in scorers.items()}


def scorers_of_test(embeddings, persons, cameras, query_rows, ties, ranks):
    """Returns the rows of the queries, labels of queries and of all tracklets, and a scorer per protocol."""
    persons, cameras = checked_labels(persons, cameras, "test")
    if embeddings.ndim != 2 or len(embeddings) != len(persons):
        raise ValueError(
            "`embeddings` needs one row per test tracklet. Received: "
            f"embeddings.shape={embeddings.shape}, {len(persons)} persons"
        )
    check_finite(embeddings, "embeddings")
    query_rows = checked_query_rows(query_rows, len(persons))
    junk = persons == JUNK
    without_queries = junk.copy()
    without_queries[query_rows] = True
    left_out = {"with_queries": junk, "without_queries": without_queries}
    queries = (persons[query_rows], cameras[query_rows])
    scorers = {
        name: _Scorer(
            queries, (persons, cameras), left_out[protocol["gallery"]], protocol["average_precision"], ties, ranks
        )
        for name, protocol in PROTOCOLS.items()
    }
    return query_rows, queries, (persons, cameras), scorers


def distance_blocks(query_embeddings, queries, gallery_embeddings, gallery, metric):
    """Yields the first query of each block of rows and its distances; see `evaluate_embeddings`.

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
        yield start, distance_matrix(query_embeddings[start : start + step], gallery_embeddings, metric)


class _Scorer:
    """Takes rows of distances in any portions and keeps three numbers per query."""

    def __init__(self, queries, gallery, left_out, average_precision, ties, ranks):
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
        self.left_out = np.flatnonzero(left_out)
        # Columns by person, in gallery order, so that a query finds its own without reading all labels.
        kept = np.flatnonzero(~left_out)
        self.by_person = kept[np.argsort(self.persons[kept], kind="stable")]
        ordered = self.persons[self.by_person]
        self.starts = np.searchsorted(ordered, self.query_persons, side="left")
        self.stops = np.searchsorted(ordered, self.query_persons, side="right")
        self.average_precision = np.full(len(self.query_persons), np.nan)
        self.inverse_negative_penalty = np.full(len(self.query_persons), np.nan)
        self.first_hit = np.zeros(len(self.query_persons), np.int64)

    def score(self, first_query, distances):
        """Scores the queries from `first_query` on, whose rows of distances these are."""
        scratch = np.empty(distances.shape[1], bool)
        for offset, distances_of_query in enumerate(distances):
            query = first_query + offset
            check_distances(distances_of_query, query, scratch)
            own = self.by_person[self.starts[query] : self.stops[query]]
            same_camera = self.cameras[own] == self.query_cameras[query]
            matches = own[~same_camera]
            if not len(matches):
                continue
            row = distances_of_query.astype(np.result_type(distances, np.float32))  # A copy that can hold infinity.
            row[self.left_out] = np.inf
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
            average_precision=self.average_precision,
            inverse_negative_penalty=self.inverse_negative_penalty,
            first_hit=self.first_hit,
            num_queries=len(valid),
            num_valid=int(valid.sum()),
        )


def check_distances(distances, query, scratch):
    """Raises for a query's row of distances with a NaN or an infinity; `scratch` is a row of bool."""
    if not np.isfinite(distances, out=scratch).all():
        column = int(np.argmin(scratch))
        raise ValueError(
            "Distances must be finite; look for NaN in the embeddings. Received: "
            f"distances[{query}, {column}]={distances[column]}"
        )


def average_precision_at(positions, trapezoidal):
    """Returns the average precision of matches at these positions, from 0, in rising order."""
    hits = np.arange(1, len(positions) + 1)
    precision = hits / (positions + 1)
    if trapezoidal:
        before = np.divide(hits - 1, positions, out=np.ones(len(positions)), where=positions > 0)
        precision = (precision + before) / 2
    return precision.sum() / len(positions)


def ranked_positions(row, matches, ties, scratch):
    """Returns the positions, from 0, of the matches in the ranking of `row`, in rising order."""
    distances = row[matches]
    order = np.argsort(distances, kind="stable")
    distances, matches = distances[order], matches[order]
    # What lies beyond the last match has no say.
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


def checked_labels(persons, cameras, name):
    """Returns persons and cameras as arrays, once they are found to be two rows of as many integers."""
    persons, cameras = np.asarray(persons), np.asarray(cameras)
    for labels in (persons, cameras):
        if labels.ndim != 1 or labels.shape != persons.shape or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"The {name} persons and cameras are two rows of as many integers. Received: "
                f"persons {persons.dtype} {persons.shape}, cameras {cameras.dtype} {cameras.shape}"
            )
    return persons, cameras
