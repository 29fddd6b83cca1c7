"""Open-set identification: search with queries, some of which have no match in the gallery."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kreid.data.tracklet import JUNK
from kreid.evaluation.pairs import check_rate, count_within
from kreid.evaluation.query_scorer import Labels, check_distances, checked_labels, ranked_positions
from kreid.evaluation.retrieval import distance_blocks
from kreid.gallery.embeddings import TrackletEmbeddings


@dataclass(frozen=True, eq=False)
class OpenSetResult:
    """Distances of queries with and without a match in the gallery, from `identify`.

    A query raises an alarm where its nearest gallery entry is nearer than the threshold.

    Args:
        nearest: distance of each query's nearest entry, `(queries,)`; infinite where all entries are removed.
        match: distances of its nearest match; NaN for a query without one.
        match_rank: int64, position of that match, from 1; 0 for a query without one.
        num_matched: queries with a match.
        num_unmatched: queries without a match.
    """

    nearest: np.ndarray
    match: np.ndarray
    match_rank: np.ndarray
    num_matched: int
    num_unmatched: int

    def threshold_at(self, false_positive_rate: float) -> float:
        """Return the highest threshold at which no more than a share of the queries without a match raises an alarm.

        Args:
            false_positive_rate: to allow, above 0 and below 1.

        Returns:
            A float: accept distances below it. Infinite where it would be the distance of a query without any entry.

        Raises:
            ValueError: if there are too few queries without a match to show the rate.
        """
        check_rate(false_positive_rate, self.num_unmatched, "queries without a match", "false_positive_rate")
        alarms = np.sort(self.nearest[self.match_rank == 0])
        return float(alarms[count_within(false_positive_rate, len(alarms))])

    def rates_at(self, threshold: float, rank: int = 1) -> tuple[float, float]:
        """Return the false positive identification rate, and the detection and identification rate, at a threshold.

        Args:
            threshold: distances below it are accepted.
            rank: positions within which the match must be.

        Returns:
            Two floats: the share of the queries without a match that raise an alarm, and the share of the queries with
            a match whose match is within `rank` and below the threshold.

        Raises:
            ValueError: if the rank is not a positive integer.
        """
        if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)) or rank < 1:
            raise ValueError(f"`rank` is an integer from 1. Received: rank={rank!r}")
        threshold = np.float64(threshold)
        matched = self.match_rank > 0
        identified = (self.match_rank[matched] <= rank) & (self.match[matched] < threshold)
        return float(np.mean(self.nearest[~matched] < threshold)), float(identified.mean())


def identify(
    query_embeddings: TrackletEmbeddings | ArrayLike,
    query_persons: ArrayLike | None = None,
    query_cameras: ArrayLike | None = None,
    gallery_embeddings: ArrayLike | None = None,
    gallery_persons: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    metric: str | None = None,
) -> OpenSetResult:
    """Search a gallery that holds only some of the queries' persons.

    Gallery entries that are junk or show the query's person in the query's camera are removed, as in `evaluate`. A
    query has a match where entries of its person, 1 or above, remain; a query that is a distractor or junk has none.
    Equal distances keep the order of the gallery.

    Args:
        query_embeddings: a `TrackletEmbeddings`, whose queries search its other rows; or an array
            `(queries, features)`.
        query_persons: with an array, integers `(queries,)`.
        query_cameras: with an array, integers `(queries,)`.
        gallery_embeddings: with an array, array `(gallery, features)`.
        gallery_persons: with an array, integers `(gallery,)`.
        gallery_cameras: with an array, integers `(gallery,)`.
        metric: with an array, `"euclidean"` (the default) or `"cosine"`.

    Returns:
        An `OpenSetResult`.

    Raises:
        ValueError: if sizes do not fit, an embedding is NaN or infinite, the gallery is empty, or all queries have a
            match or none has.

    Example:

    >>> gallery = [[0.0], [1.0]], [7, 8], [0, 0]
    >>> search = kreid.evaluation.identify([[0.1], [0.8], [0.5]], [7, 8, 9], [1, 1, 1], *gallery)
    >>> search.rates_at(0.15), search.rates_at(0.3), search.rates_at(0.6)
    ((0.0, 0.5), (0.0, 1.0), (1.0, 1.0))

    Reference: Grother and Ngan, Face Recognition Vendor Test, NIST IR 8009, 2014: FPIR, and 1 - FNIR for the detection
    and identification rate.
    """
    if isinstance(query_embeddings, TrackletEmbeddings):
        test = query_embeddings
        given = (query_persons, query_cameras, gallery_embeddings, gallery_persons, gallery_cameras, metric)
        if any(value is not None for value in given):
            raise ValueError(
                "`TrackletEmbeddings` hold queries, gallery and labels; leave the other arguments out. "
                f"Received: {sum(value is not None for value in given)} more arguments"
            )
        rest = np.delete(np.arange(len(test)), test.query_rows)
        query_embeddings, query_persons, query_cameras, gallery_embeddings, gallery_persons, gallery_cameras = (
            values[rows] for rows in (test.query_rows, rest) for values in (test.embeddings, test.persons, test.cameras)
        )
        metric = test.metric
    if (
        query_persons is None
        or query_cameras is None
        or gallery_embeddings is None
        or gallery_persons is None
        or gallery_cameras is None
    ):
        needed = query_persons, query_cameras, gallery_embeddings, gallery_persons, gallery_cameras
        raise ValueError(
            "An array of query embeddings needs gallery embeddings, and the persons and cameras of both. "
            f"Received: {sum(value is None for value in needed)} of 5 missing"
        )
    queries = checked_labels(query_persons, query_cameras, "query")
    gallery = checked_labels(gallery_persons, gallery_cameras, "gallery")
    if not np.any(gallery[0] != JUNK):
        raise ValueError(f"The gallery holds nothing but junk. Received: {len(gallery[0])} gallery entries")
    blocks = distance_blocks(
        query_embeddings, queries, gallery_embeddings, gallery, "euclidean" if metric is None else metric
    )
    return _searched(blocks, queries, gallery)


def _searched(blocks: Iterator[tuple[np.ndarray, np.ndarray]], queries: Labels, gallery: Labels) -> OpenSetResult:
    """Search with blocks of queries' numbers and distances."""
    (persons, cameras), (gallery_persons, gallery_cameras) = queries, gallery
    junk = gallery_persons == JUNK
    nearest, match = np.full(len(persons), np.inf), np.full(len(persons), np.nan)
    match_rank = np.zeros(len(persons), np.int64)
    scratch = np.empty(len(junk), bool)
    for rows, block in blocks:
        for query, row in zip(rows.tolist(), block, strict=True):
            check_distances(row, query, scratch)
            same_person, same_camera = gallery_persons == persons[query], gallery_cameras == cameras[query]
            row[junk | (same_person & same_camera)] = np.inf
            nearest[query] = row.min()
            matches = np.flatnonzero(same_person & ~same_camera)
            if persons[query] > 0 and len(matches):
                match[query] = row[matches].min()
                match_rank[query] = ranked_positions(row, matches, "stable", scratch)[0] + 1
    matched = int(np.count_nonzero(match_rank))
    if matched in (0, len(persons)):
        raise ValueError(
            "Open-set identification needs queries with a match in the gallery and queries without. "
            f"Received: {matched} with, {len(persons) - matched} without"
        )
    return OpenSetResult(nearest, match, match_rank, matched, len(persons) - matched)
