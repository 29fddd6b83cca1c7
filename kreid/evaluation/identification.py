"""Who is it, or nobody we know: search with queries of which some have no match in the gallery."""

from dataclasses import dataclass

import numpy as np

from kreid.data.tracklet import JUNK
from kreid.evaluation.retrieval import check_distances, checked_labels, distance_blocks, ranked_positions
from kreid.evaluation.verification import check_rate, count_within


@dataclass(frozen=True, eq=False)
class OpenSetResult:
    """What `identify` found.

    A query raises an alarm where its nearest gallery entry is nearer than the threshold.

    Attributes:
        nearest: distances of each query's nearest entry, `(queries,)`; infinite where no entry counts.
        match: distances of its nearest match; NaN for a query without one.
        match_rank: int64, position of that match, from 1; 0 for a query without one.
        num_matched: queries with a match.
        num_unmatched: queries without.
    """

    nearest: np.ndarray
    match: np.ndarray
    match_rank: np.ndarray
    num_matched: int
    num_unmatched: int

    def threshold_at(self, false_positive_rate):
        """The highest threshold at which no more than this share of the queries without a match raises an alarm.

        Args:
            false_positive_rate: to allow, above 0 and below 1.

        Returns:
            A float: accept distances below it. Infinite where the rest of those queries have no entry at all.

        Raises:
            ValueError: if there are too few queries without a match to see the rate.
        """
        check_rate(false_positive_rate, self.num_unmatched, "queries without a match", "false_positive_rate")
        alarms = np.sort(self.nearest[self.match_rank == 0])
        return float(alarms[count_within(false_positive_rate, len(alarms))])

    def rates_at(self, threshold, rank=1):
        """The false positive identification rate, and the detection and identification rate, at a threshold.

        Args:
            threshold: distances below it are accepted.
            rank: positions within which the match must be.

        Returns:
            Two floats: queries without a match that raise an alarm, among these; queries with a match within `rank`
            and below the threshold, among those with one.

        Raises:
            ValueError: if the rank is no positive integer.
        """
        if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)) or rank < 1:
            raise ValueError(f"`rank` is an integer from 1. Received: rank={rank!r}")
        threshold = np.float64(threshold)
        matched = self.match_rank > 0
        found = (self.match_rank[matched] <= rank) & (self.match[matched] < threshold)
        return float(np.mean(self.nearest[~matched] < threshold)), float(found.mean())


def identify(
    query_embeddings,
    query_persons,
    query_cameras,
    gallery_embeddings,
    gallery_persons,
    gallery_cameras,
    metric="euclidean",
):
    """Searches a gallery that holds some of the queries' persons only.

    Junk in the gallery and the query's own person in the query's own camera are removed, as in `evaluate`. A query has
    a match where its person, 1 or above, is left; distractors and junk may be queries, and have none. Equal distances
    are in the order of the gallery.

    Args:
        query_embeddings: array `(queries, features)`.
        query_persons: integers `(queries,)`.
        query_cameras: integers `(queries,)`.
        gallery_embeddings: array `(gallery, features)`.
        gallery_persons: integers `(gallery,)`.
        gallery_cameras: integers `(gallery,)`.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        An `OpenSetResult`.

    Raises:
        ValueError: if sizes do not fit, an embedding is NaN or infinite, the gallery is empty, or all queries have a
            match or none has.

    Example:

    >>> gallery = [[0.0], [1.0]], [7, 8], [0, 0]
    >>> found = kreid.evaluation.identify([[0.1], [0.8], [0.5]], [7, 8, 9], [1, 1, 1], *gallery)
    >>> found.rates_at(0.15), found.rates_at(0.3), found.rates_at(0.6)
    ((0.0, 0.5), (0.0, 1.0), (1.0, 1.0))

    Reference: Grother and Ngan, Face Recognition Vendor Test, NIST IR 8009, 2014: FPIR, and 1 - FNIR for the detection
    and identification rate.
    """
    persons, cameras = queries = checked_labels(query_persons, query_cameras, "query")
    gallery = checked_labels(gallery_persons, gallery_cameras, "gallery")
    if not np.any(gallery[0] != JUNK):
        raise ValueError(f"The gallery is empty but for junk. Received: {len(gallery[0])} gallery entries")
    nearest, match = np.full(len(persons), np.inf), np.full(len(persons), np.nan)
    match_rank = np.zeros(len(persons), np.int64)
    scratch = np.empty(len(gallery[0]), bool)
    for start, block in distance_blocks(query_embeddings, queries, gallery_embeddings, gallery, metric):
        for query, row in enumerate(block, start):
            check_distances(row, query, scratch)
            own = gallery[0] == persons[query]
            row[(gallery[0] == JUNK) | (own & (gallery[1] == cameras[query]))] = np.inf
            nearest[query] = row.min()
            matches = np.flatnonzero(own & (gallery[1] != cameras[query])) if persons[query] > 0 else ()
            if len(matches):
                match[query] = row[matches].min()
                match_rank[query] = ranked_positions(row, matches, "stable", scratch)[0] + 1
    matched = int(np.count_nonzero(match_rank))
    if matched in (0, len(persons)):
        raise ValueError(
            "Open-set identification needs queries with a match in the gallery and queries without. "
            f"Received: {matched} with, {len(persons) - matched} without"
        )
    return OpenSetResult(nearest, match, match_rank, matched, len(persons) - matched)
