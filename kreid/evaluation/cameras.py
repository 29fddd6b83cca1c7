"""Scores by the camera of the query and the camera searched, as the MARS authors' code computes them."""

from typing import NamedTuple

import numpy as np

from kreid.distances.arrays import check_finite
from kreid.evaluation.retrieval import (
    average_precision_at,
    check_distances,
    checked_labels,
    distance_blocks,
    ranked_positions,
)
from kreid.gallery.embeddings import checked_query_rows


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


def camera_matrices(distances, persons, cameras, query_rows):
    """Scores a distance matrix camera by camera.

    For a query and a camera the matches are the query's person there, the
    query itself left out; its tracklets in the other cameras are removed.
    Other persons of all cameras stay, and junk too: the authors' code removes
    it from the scores as a whole, but not here. In the query's own camera the
    matches are the person's other tracklets there. Average precision is
    trapezoidal, ties are in the order of the columns.

    Args:
        distances: array `(queries, tracklets)`, finite; a column for every test
            tracklet: queries, gallery, distractors and junk.
        persons: integers `(tracklets,)`.
        cameras: integers `(tracklets,)`.
        query_rows: the tracklets that are queries, by number.

    Returns:
        A `CameraMatrices`.

    Raises:
        ValueError: if sizes do not fit, a query comes twice, or a distance is
            NaN or infinite.

    Example:

    >>> found = kreid.evaluation.camera_matrices([[0.0, 0.3, 0.1, 0.2]], [7, 7, 9, 7], [0, 0, 0, 1], [0])
    >>> found.rank1[0].tolist(), found.map[0].tolist()
    ([0.0, 0.0], [0.25, 0.25])

    Reference: Zheng et al., MARS, 2016, Figure 7, and its evaluation code.
    """
    scorer = _CameraScorer(persons, cameras, query_rows)
    distances = np.asarray(distances)
    if distances.shape != (len(scorer.query_rows), len(scorer.persons)):
        raise ValueError(
            "`distances` needs one row per query and one column per tracklet. Received: "
            f"distances.shape={distances.shape}, {len(scorer.query_rows)} queries, {len(scorer.persons)} tracklets"
        )
    scorer.score(0, distances)
    return scorer.result()


def evaluate_cameras(embeddings, persons, cameras, query_rows, metric="euclidean"):
    """Scores embeddings camera by camera; distances are computed for a few queries at a time.

    Args:
        embeddings: array `(tracklets, features)` of all test tracklets.
        persons: see `camera_matrices`.
        cameras: see `camera_matrices`.
        query_rows: see `camera_matrices`.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        A `CameraMatrices`.

    Raises:
        ValueError: as `camera_matrices` and `kreid.distances.distance_matrix` do.

    Example:

    >>> found = kreid.evaluation.evaluate_cameras([[0.0], [0.3], [0.1]], [7, 7, 9], [0, 1, 1], [0, 1])
    >>> found.rank1.tolist()
    [[nan, 0.0], [0.0, nan]]
    """
    scorer = _CameraScorer(persons, cameras, query_rows)
    embeddings = np.asarray(embeddings)
    everybody = (scorer.persons, scorer.cameras)
    if embeddings.ndim != 2 or len(embeddings) != len(scorer.persons):
        raise ValueError(
            "`embeddings` needs one row per tracklet. Received: "
            f"embeddings.shape={embeddings.shape}, {len(scorer.persons)} persons"
        )
    check_finite(embeddings, "embeddings")
    queries = tuple(values[scorer.query_rows] for values in everybody)
    for start, block in distance_blocks(embeddings[scorer.query_rows], queries, embeddings, everybody, metric):
        scorer.score(start, block)
    return scorer.result()


class _CameraScorer:
    """Takes rows of distances in any portions and adds up the scores of each pair of cameras."""

    def __init__(self, persons, cameras, query_rows):
        self.persons, self.cameras = checked_labels(persons, cameras, "test")
        self.query_rows = checked_query_rows(query_rows, len(self.persons))
        self.numbers, self.places = np.unique(self.cameras, return_inverse=True)
        shape = (len(self.numbers), len(self.numbers))
        self.precisions, self.hits, self.counts = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)

    def score(self, first_query, distances):
        """Scores the queries from `first_query` on, whose rows of distances these are."""
        scratch = np.empty(len(self.persons), bool)
        for offset, found in enumerate(distances):
            query = self.query_rows[first_query + offset]
            check_distances(found, first_query + offset, scratch)
            own = np.flatnonzero(self.persons == self.persons[query])
            row = found.astype(np.result_type(found, np.float32))  # A copy that can hold infinity.
            row[own] = np.inf
            own = own[own != query]
            for camera in np.unique(self.places[own]):
                matches = own[self.places[own] == camera]
                row[matches] = found[matches]
                positions = ranked_positions(row, matches, "stable", scratch)
                row[matches] = np.inf
                cell = self.places[query], camera
                self.precisions[cell] += average_precision_at(positions, trapezoidal=True)
                self.hits[cell] += positions[0] == 0
                self.counts[cell] += 1

    def result(self):
        with np.errstate(invalid="ignore"):
            return CameraMatrices(self.numbers, self.precisions / self.counts, self.hits / self.counts, self.counts)
