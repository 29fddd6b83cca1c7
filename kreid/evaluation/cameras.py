"""Scores by the camera of the query and the camera searched, as the MARS authors' code computes them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid.evaluation.query_scorer import average_precision_at, check_distances, checked_labels, ranked_positions
from kreid.evaluation.retrieval import LABELS, blocks_of_test, check_test, warn_of_unscored_queries
from kreid.gallery.embeddings import TrackletEmbeddings, checked_query_rows, labelled


class CameraMatrices(NamedTuple):
    """Scores of the queries of each camera (rows) searched in each camera (columns), as fractions.

    Args:
        cameras: int `(cameras,)`, the numbers of rows and columns, rising.
        map: float64 `(cameras, cameras)`, mean average precision; NaN where no query has a match.
        rank1: float64 `(cameras, cameras)`; NaN where no query has a match.
        num_queries: int64 `(cameras, cameras)`, queries with a match there.
    """

    cameras: np.ndarray
    map: np.ndarray
    rank1: np.ndarray
    num_queries: np.ndarray


def camera_matrices(
    distances: ArrayLike, persons: ArrayLike, cameras: ArrayLike, query_rows: ArrayLike
) -> CameraMatrices:
    """Score a distance matrix camera by camera.

    For a query and a camera, the matches are the other tracklets of the query's person in that camera, which may be the
    query's own; the person's tracklets in all other cameras are removed. A query that is a distractor (person 0) or
    junk (-1) has no match. Other persons of all cameras stay, and so does junk: the authors' code removes junk from the
    scores of the whole test set, but not here. Average precision is trapezoidal; equal distances keep the order of the
    columns.

    Args:
        distances: array `(queries, tracklets)`, finite; a column for every test
            tracklet: queries, gallery, distractors and junk.
        persons: integers `(tracklets,)`.
        cameras: integers `(tracklets,)`.
        query_rows: the tracklets that are queries, by number.

    Returns:
        A `CameraMatrices`.

    Raises:
        ValueError: if sizes do not fit, a query comes twice, or a distance is NaN or infinite.

    Example:

    >>> scores = kreid.evaluation.camera_matrices([[0.0, 0.3, 0.1, 0.2]], [7, 7, 9, 7], [0, 0, 0, 1], [0])
    >>> scores.rank1[0].tolist(), scores.map[0].tolist()
    ([0.0, 0.0], [0.25, 0.25])

    Reference: Zheng et al., MARS, 2016, Figure 7, and its evaluation code.
    """
    persons, cameras = checked_labels(persons, cameras, "test")
    scorer = _CameraScorer(persons, cameras, checked_query_rows(query_rows, len(persons)))
    distances = np.asarray(distances)
    if distances.shape != (len(scorer.query_rows), len(scorer.persons)):
        raise ValueError(
            "`distances` needs one row per query and one column per tracklet. Received: "
            f"distances.shape={distances.shape}, {len(scorer.query_rows)} queries, {len(scorer.persons)} tracklets"
        )
    warn_of_unscored_queries(persons[scorer.query_rows])
    scorer.score(np.arange(len(distances)), distances)
    return scorer.result()


def evaluate_cameras(
    embeddings: TrackletEmbeddings | ArrayLike,
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    query_rows: ArrayLike | None = None,
    metric: str | None = None,
) -> CameraMatrices:
    """Score embeddings camera by camera; distances are computed for a few queries at a time.

    Args:
        embeddings: a `TrackletEmbeddings`, or an array `(tracklets, features)` of all test tracklets.
        persons: with an array, see `camera_matrices`.
        cameras: with an array, see `camera_matrices`.
        query_rows: with an array, see `camera_matrices`.
        metric: with an array, `"euclidean"` (the default) or `"cosine"`.

    Returns:
        A `CameraMatrices`.

    Raises:
        ValueError: as `camera_matrices` and `kreid.distances.distance_matrix` do.

    Example:

    >>> scores = kreid.evaluation.evaluate_cameras([[0.0], [0.3], [0.1]], [7, 7, 9], [0, 1, 1], [0, 1])
    >>> scores.rank1.tolist()
    [[nan, 0.0], [0.0, nan]]
    """
    test = labelled(embeddings, persons, cameras, query_rows, metric, needed=LABELS)
    check_test(test)
    warn_of_unscored_queries(test.persons[test.query_rows])
    scorer = _CameraScorer(test.persons, test.cameras, test.query_rows)
    for rows, block in blocks_of_test(test):
        scorer.score(rows, block)
    return scorer.result()


class _CameraScorer:
    """Take rows of distances block by block and add up the scores of each pair of cameras."""

    def __init__(self, persons: np.ndarray, cameras: np.ndarray, query_rows: np.ndarray) -> None:
        self.persons, self.query_rows = persons, query_rows
        self.cameras, self.indices = np.unique(cameras, return_inverse=True)
        shape = (len(self.cameras), len(self.cameras))
        self.precisions, self.hits, self.counts = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)

    def score(self, queries: np.ndarray, distances: np.ndarray) -> None:
        """Score some queries, given their numbers and rows of distances."""
        scratch = np.empty(len(self.persons), bool)
        for number, distances_of_query in zip(queries.tolist(), distances, strict=True):
            query = self.query_rows[number]
            check_distances(distances_of_query, number, scratch)
            if self.persons[query] < 1:
                continue
            same_person = np.flatnonzero(self.persons == self.persons[query])
            # A copy that can hold infinity.
            row = distances_of_query.astype(np.result_type(distances_of_query, np.float32))
            row[same_person] = np.inf
            others = same_person[same_person != query]
            for camera in np.unique(self.indices[others]):
                matches = others[self.indices[others] == camera]
                row[matches] = distances_of_query[matches]
                positions = ranked_positions(row, matches, "stable", scratch)
                row[matches] = np.inf
                cell = self.indices[query], camera
                self.precisions[cell] += average_precision_at(positions, trapezoidal=True)
                self.hits[cell] += positions[0] == 0
                self.counts[cell] += 1

    def result(self) -> CameraMatrices:
        """Return the means; NaN where there is no query."""
        with np.errstate(invalid="ignore"):
            return CameraMatrices(self.cameras, self.precisions / self.counts, self.hits / self.counts, self.counts)
