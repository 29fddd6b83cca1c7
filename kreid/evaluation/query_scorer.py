"""Score queries from their rows of distances.

Only the positions of the matches are needed, so nothing is sorted while a query has few of them: a match's position is
the number of gallery entries nearer than it.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from kreid.evaluation.retrieval_result import RetrievalResult

Ties: TypeAlias = Literal["stable", "best", "worst"]
Labels: TypeAlias = tuple[np.ndarray, np.ndarray]

#: The forms of average precision, see `kreid.evaluation.evaluate`.
FORMS = ("standard", "trapezoidal")

# Above this many matches sorting the row once is cheaper than one count per match.
_COUNTED_MATCHES = 48


class QueryScorer:
    """Take rows of distances block by block and keep the scores of each query, in each form of average precision.

    Args:
        queries: persons and cameras of the queries.
        gallery: persons and cameras of the gallery.
        excluded: bool `(gallery,)`, the entries that are not ranked.
        ties: see `kreid.evaluation.evaluate`.
        ranks: see `kreid.evaluation.evaluate`.

    Raises:
        ValueError: if an option is unknown.
    """

    def __init__(
        self,
        queries: Labels,
        gallery: Labels,
        excluded: np.ndarray,
        ties: Ties,
        ranks: Sequence[int],
    ) -> None:
        if ties not in ("stable", "best", "worst"):
            raise ValueError(f"`ties` is 'stable', 'best' or 'worst'. Received: ties={ties!r}")
        if not all(isinstance(rank, (int, np.integer)) and rank >= 1 for rank in ranks):
            raise ValueError(f"`ranks` are integers from 1. Received: ranks={ranks!r}")
        self.ties = ties
        self.ranks = ranks
        self.query_persons, self.query_cameras = queries
        self.persons, self.cameras = gallery
        self.excluded = np.flatnonzero(excluded)
        # Columns by person, in gallery order, so that the columns of a query's person are a slice.
        ranked = np.flatnonzero(~excluded)
        self.by_person = ranked[np.argsort(self.persons[ranked], kind="stable")]
        sorted_persons = self.persons[self.by_person]
        self.starts = np.searchsorted(sorted_persons, self.query_persons, side="left")
        self.stops = np.searchsorted(sorted_persons, self.query_persons, side="right")
        self.average_precisions = {form: np.full(len(self.query_persons), np.nan) for form in FORMS}
        self.inverse_negative_penalty = np.full(len(self.query_persons), np.nan)
        self.first_hit = np.zeros(len(self.query_persons), np.int64)

    def score(self, queries: np.ndarray, distances: np.ndarray) -> None:
        """Score some queries.

        Args:
            queries: their numbers.
            distances: their rows, `(queries, gallery)`.

        Raises:
            ValueError: if a distance is NaN or infinite.
        """
        scratch = np.empty(distances.shape[1], bool)
        for query, distances_of_query in zip(queries.tolist(), distances, strict=True):
            check_distances(distances_of_query, query, scratch)
            if self.query_persons[query] < 1:
                continue
            same_person = self.by_person[self.starts[query] : self.stops[query]]
            same_camera = self.cameras[same_person] == self.query_cameras[query]
            matches = same_person[~same_camera]
            if not len(matches):
                continue
            row = distances_of_query.astype(np.result_type(distances, np.float32))  # A copy that can hold infinity.
            row[self.excluded] = np.inf
            row[same_person[same_camera]] = np.inf
            positions = ranked_positions(row, matches, self.ties, scratch)
            for form, values in self.average_precisions.items():
                values[query] = average_precision_at(positions, trapezoidal=form == "trapezoidal")
            self.inverse_negative_penalty[query] = len(positions) / (positions[-1] + 1)
            self.first_hit[query] = positions[0] + 1

    def result(self, average_precision: str) -> RetrievalResult:
        """Return the scores with one form of average precision, see `kreid.evaluation.evaluate`.

        Raises:
            ValueError: if no query is valid.
        """
        valid = self.first_hit > 0
        if not valid.any():
            raise ValueError(
                "No query has a match from another camera in the gallery, so there is nothing to score; check persons "
                f"and cameras. Received: {len(valid)} queries, {len(self.by_person)} gallery entries that are ranked"
            )
        average_precisions = self.average_precisions[average_precision]
        first_hit = self.first_hit[valid]
        return RetrievalResult(
            cmc={int(rank): float(np.mean(first_hit <= rank)) for rank in self.ranks},
            map=float(average_precisions[valid].mean()),
            minp=float(self.inverse_negative_penalty[valid].mean()),
            num_queries=len(valid),
            num_valid=int(valid.sum()),
            average_precision=average_precisions,
            inverse_negative_penalty=self.inverse_negative_penalty,
            first_hit=self.first_hit,
        )


def check_form(average_precision: str) -> None:
    """Raise if there is no such form of average precision."""
    if average_precision not in FORMS:
        raise ValueError(
            f"`average_precision` is 'standard' or 'trapezoidal'. Received: average_precision={average_precision!r}"
        )


def check_distances(distances: np.ndarray, query: int, scratch: np.ndarray) -> None:
    """Raise if a distance of a query's row is NaN or infinite; `scratch` is a row of bool that is overwritten."""
    if not np.isfinite(distances, out=scratch).all():
        column = int(np.argmin(scratch))
        raise ValueError(
            "Distances must be finite; look for NaN in the embeddings. Received: "
            f"distances[{query}, {column}]={distances[column]}"
        )


def average_precision_at(positions: np.ndarray, trapezoidal: bool) -> float:
    """Return the average precision of matches at the positions, from 0, in rising order."""
    hits = np.arange(1, len(positions) + 1)
    precision = hits / (positions + 1)
    if trapezoidal:
        before = np.divide(hits - 1, positions, out=np.ones(len(positions)), where=positions > 0)
        precision = (precision + before) / 2
    return precision.sum() / len(positions)


def ranked_positions(row: np.ndarray, matches: np.ndarray, ties: Ties, scratch: np.ndarray) -> np.ndarray:
    """Return the positions, from 0, of the matches in the ranking of a row, in rising order.

    Args:
        row: distances of a query, infinite where an entry is not ranked.
        matches: columns of the matches.
        ties: see `kreid.evaluation.evaluate`.
        scratch: a row of bool that is overwritten.
    """
    distances = row[matches]
    order = np.argsort(distances, kind="stable")
    distances, matches = distances[order], matches[order]
    # Entries beyond the last match change no position.
    near = row[np.less_equal(row, distances[-1], out=scratch)]
    if len(matches) <= _COUNTED_MATCHES:
        scratch = scratch[: len(near)]
        nearer = np.array([np.count_nonzero(np.less(near, value, out=scratch)) for value in distances])
        up_to = np.array([np.count_nonzero(np.less_equal(near, value, out=scratch)) for value in distances])
    else:
        sorted_near = np.sort(near)
        nearer = np.searchsorted(sorted_near, distances, side="left")
        up_to = np.searchsorted(sorted_near, distances, side="right")
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


def checked_labels(persons: ArrayLike, cameras: ArrayLike, name: str) -> Labels:
    """Check persons and cameras and return them as arrays."""
    persons, cameras = np.asarray(persons), np.asarray(cameras)
    for labels in (persons, cameras):
        if labels.ndim != 1 or labels.shape != persons.shape or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"The {name} persons and cameras are two lists of integers of the same length. Received: "
                f"persons {persons.dtype} {persons.shape}, cameras {cameras.dtype} {cameras.shape}"
            )
    return persons, cameras
