"""CMC and mean average precision of queries against a gallery, with the cross-camera rule."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kreid.data.tracklet import JUNK
from kreid.distances import distance_matrix
from kreid.distances.arrays import check_finite
from kreid.evaluation.query_scorer import Labels, QueryScorer, Ties, check_form, checked_labels
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.gallery.embeddings import Labelled, TrackletEmbeddings, labelled

#: The three ways MARS is scored. "standard" is the way of the common toolboxes, "mars" that of the authors' code: the
#: queries stay in the gallery and the precision-recall curve is integrated by trapezoids. "with_queries", the way of
#: the code of AP3D, SINet, BiCnet-TKS, TKP and TF-CLIP, has the gallery of "mars" and the average precision of
#: "standard".
PROTOCOLS = {
    "standard": {"gallery": "without_queries", "average_precision": "standard"},
    "mars": {"gallery": "with_queries", "average_precision": "trapezoidal"},
    "with_queries": {"gallery": "with_queries", "average_precision": "standard"},
}

# Bytes of the distances held at once when they come from embeddings. Each block reads the gallery again.
_BLOCK_BYTES = 2**27

# The labels that a score needs with a bare array.
LABELS = ("persons", "cameras", "query_rows")


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

    For each query, the gallery entries that are junk (person -1) or show the query's person in the query's camera are
    removed. The person's other entries are the matches. A query without a match is invalid: it is counted and not
    scored. A query that is a distractor (person 0) or junk is invalid too, with a warning: two distractors may be two
    persons.

    Memory beyond the matrix is a few rows of it.

    Args:
        distances: array `(queries, gallery)`, finite; smaller is nearer.
        query_persons: integers `(queries,)`.
        query_cameras: integers `(queries,)`.
        gallery_persons: integers `(gallery,)`.
        gallery_cameras: integers `(gallery,)`.
        average_precision: `"standard"`, the mean of the precisions at the matches, or `"trapezoidal"`: each match adds
            the mean of its precision and the precision one position earlier, 1 at the start.
        ties: the order of equal distances: `"stable"` as in the gallery,
            `"best"` matches first, `"worst"` matches last.
        ranks: positions, from 1, at which to give the CMC.

    Returns:
        A `RetrievalResult`.

    Raises:
        ValueError: if sizes do not fit, an option is unknown, a distance is NaN or infinite, or no query is valid.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.1, 0.2, 0.3]], [7], [0], [7, 9, 7], [0, 1, 1])
    >>> result.cmc[1], result.map
    (0.0, 0.5)

    Reference: Zheng et al., MARS, 2016, and its evaluation code, for the
    trapezoidal form; Ye et al., Deep Learning for Person Re-identification, 2021, for mINP.
    """
    check_form(average_precision)
    distances = np.asarray(distances)
    queries = checked_labels(query_persons, query_cameras, "query")
    gallery = checked_labels(gallery_persons, gallery_cameras, "gallery")
    if distances.shape != (len(queries[0]), len(gallery[0])):
        raise ValueError(
            "`distances` needs one row per query and one column per gallery entry. Received: "
            f"distances.shape={distances.shape}, {len(queries[0])} queries, {len(gallery[0])} gallery entries"
        )
    warn_of_unscored_queries(queries[0])
    scorer = QueryScorer(queries, gallery, gallery[0] == JUNK, ties, ranks)
    scorer.score(np.arange(len(distances)), distances)
    return scorer.result(average_precision)


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
    """Score embeddings of queries against embeddings of a gallery.

    The scores are those of `evaluate` with `kreid.distances.distance_matrix`, but distances are computed for a few
    queries at a time; the whole matrix never exists. For a whole test set, or a `TrackletEmbeddings`, use
    `evaluate_test`.

    Args:
        query_embeddings: array `(queries, features)`.
        query_persons: see `evaluate`.
        query_cameras: see `evaluate`.
        gallery_embeddings: array `(gallery, features)`.
        gallery_persons: see `evaluate`.
        gallery_cameras: see `evaluate`.
        metric: `"euclidean"` or `"cosine"`.
        average_precision: see `evaluate`.
        ties: see `evaluate`. Distances are ties when they are equal after rounding to the embeddings' precision.
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
    check_form(average_precision)
    queries = checked_labels(query_persons, query_cameras, "query")
    gallery = checked_labels(gallery_persons, gallery_cameras, "gallery")
    warn_of_unscored_queries(queries[0])
    scorer = QueryScorer(queries, gallery, gallery[0] == JUNK, ties, ranks)
    for rows, block in distance_blocks(query_embeddings, queries, gallery_embeddings, gallery, metric):
        scorer.score(rows, block)
    return scorer.result(average_precision)


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

    Distances are computed for a few queries at a time; the whole matrix never exists.

    Args:
        embeddings: a `TrackletEmbeddings`, which brings its labels; or an array `(tracklets, features)`: queries,
            gallery, distractors and junk, as `ReidDataset.test` lists them.
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
        ValueError: as `evaluate` and `kreid.distances.distance_matrix` do, and if an array comes without labels or a
            `TrackletEmbeddings` with labels.

    Example:

    >>> embeddings = np.array([[0.0], [0.1], [0.2], [3.0]])
    >>> results = kreid.evaluation.evaluate_test(embeddings, [7, 9, 7, 7], [0, 1, 1, 2], query_rows=[0])
    >>> round(results["standard"].map, 4), round(results["mars"].map, 4)
    (0.5833, 0.4167)
    """
    test = labelled(embeddings, persons, cameras, query_rows, metric, needed=LABELS)
    scorers = scorers_of_test(test, ties, ranks)
    warn_of_unscored_queries(test.persons[test.query_rows])
    for rows, block in blocks_of_test(test):
        for scorer in scorers.values():
            scorer.score(rows, block)
    return results_of_test(scorers)


def scorers_of_test(test: Labelled, ties: Ties, ranks: Sequence[int]) -> dict[str, QueryScorer]:
    """Check embeddings and labels, and return a scorer for each gallery of the protocols."""
    check_test(test)
    junk = test.persons == JUNK
    without_queries = junk.copy()
    without_queries[test.query_rows] = True
    excluded = {"with_queries": junk, "without_queries": without_queries}
    queries = (test.persons[test.query_rows], test.cameras[test.query_rows])
    labels = (test.persons, test.cameras)
    return {gallery: QueryScorer(queries, labels, excluded[gallery], ties, ranks) for gallery in excluded}


def results_of_test(scorers: Mapping[str, QueryScorer]) -> dict[str, RetrievalResult]:
    """Return the result of each protocol from the scorers of `scorers_of_test`."""
    return {
        name: scorers[protocol["gallery"]].result(protocol["average_precision"]) for name, protocol in PROTOCOLS.items()
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
    """Yield the numbers of some queries, and their distances to all test tracklets."""
    labels = (test.persons, test.cameras)
    queries = tuple(values[test.query_rows] for values in labels)
    yield from distance_blocks(test.embeddings[test.query_rows], queries, test.embeddings, labels, test.metric)


def warn_of_unscored_queries(query_persons: np.ndarray) -> None:
    """Warn, in the name of the caller's caller, of queries that are distractors or junk, which have no match."""
    count = np.count_nonzero(query_persons < 1)
    if count:
        warnings.warn(
            f"{count} of {len(query_persons)} queries are distractors (person 0) or junk (-1), which have no match: "
            "they are not scored. Number persons from 1.",
            stacklevel=3,
        )


def distance_blocks(
    query_embeddings: ArrayLike, queries: Labels, gallery_embeddings: ArrayLike, gallery: Labels, metric: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the numbers of some queries, and their distances to the gallery.

    Args:
        query_embeddings: see `evaluate_embeddings`.
        queries: persons and cameras of the queries.
        gallery_embeddings: see `evaluate_embeddings`.
        gallery: persons and cameras of the gallery.
        metric: see `evaluate_embeddings`.

    Raises:
        ValueError: if sizes do not fit, or an embedding is NaN or infinite.
    """
    query_rows = _checked_embeddings(query_embeddings, queries[0], "query")
    gallery_rows = _checked_embeddings(gallery_embeddings, gallery[0], "gallery")
    row_bytes = max(query_rows.itemsize, gallery_rows.itemsize) * max(1, len(gallery_rows))
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(query_rows), step):
        block = query_rows[start : start + step]
        yield np.arange(start, start + len(block)), distance_matrix(block, gallery_rows, metric)


def _checked_embeddings(embeddings: ArrayLike, persons: np.ndarray, name: str) -> np.ndarray:
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or len(rows) != len(persons):
        raise ValueError(
            f"Give one row of {name} embeddings per person. Received: "
            f"{name}_embeddings.shape={rows.shape}, {len(persons)} persons"
        )
    check_finite(rows, f"{name}_embeddings")
    return rows
