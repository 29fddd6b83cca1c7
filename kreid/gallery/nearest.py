"""Find the nearest tracklets exactly, in parts of a gallery that come one after the other."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from kreid.data.tracklet import DISTRACTOR
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.parts import Part

# Values of a block of approximate distances.
_BLOCK = 1 << 22
_EXACT_ROWS = 4096
# The largest relative error of one operation in float32.
_UNIT = float(np.finfo(np.float32).eps) / 2
# Below this, products of float32 lose their last digits.
_UNDERFLOW = 1e-36
# Cosine distances up to this are rounding errors in float64, as in `kreid.distances.distance_matrix`.
_ROUNDING = 32 * np.finfo(np.float64).eps


class Match(NamedTuple):
    """A tracklet that a search found.

    Args:
        id: of the tracklet.
        person: of the tracklet; 0 is unknown.
        camera: of the tracklet.
        distance: to the query.
        start: seconds, NaN if unknown.
        end: seconds, NaN if unknown.
        source: of the tracklet.
        tags: of the tracklet.
    """

    id: str
    person: int
    camera: int
    distance: float
    start: float
    end: float
    source: str
    tags: dict[str, str]


class NearestTracklets:
    """The nearest tracklets of each query, among all parts that were added.

    Approximate distances by a matrix product in float32, with a bound of their error, leave few candidates; their
    distances are computed in float64. So the result is exact, does not depend on the parts, and equal distances are in
    the order of the ids.

    Args:
        queries: a `TrackletEmbeddings`, of the metric and dimension of the parts.
        count: tracklets to find for each query.
        threshold: only distances below it count; `None` for all.
        other_cameras: leave out tracklets of the query's camera.
        by_person: find the nearest tracklet of each person; tracklets of unknown persons count one by one.
    """

    def __init__(
        self,
        queries: TrackletEmbeddings,
        count: int,
        threshold: float | None = None,
        other_cameras: bool = False,
        by_person: bool = False,
    ) -> None:
        self._queries, self._count, self._threshold = queries, count, threshold
        self._other_cameras, self._by_person = other_cameras, by_person
        self._found: list[list[Match]] = [[] for _ in range(len(queries))]
        vectors = queries.embeddings
        self._squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)

    def add(self, part: Part) -> None:
        """Search some tracklets more.

        Args:
            part: a `Part`.
        """
        stored, squares = part.embeddings, part.squares
        if not len(stored):
            return
        own_rows = part.positions(self._queries.ids.tolist())
        persons, cameras = part.persons, part.cameras
        step = max(1, _BLOCK // len(stored))
        for start in range(0, len(self._queries), step):
            chosen = slice(start, min(start + step, len(self._queries)))
            # Damaged values may be NaN, and are then no candidates.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                lower, upper = self._bounds(stored, squares, chosen)
            left_out = own_rows == np.arange(chosen.start, chosen.stop)[:, None]
            if self._other_cameras:
                left_out |= cameras == self._queries.cameras[chosen, None]
            lower[left_out] = upper[left_out] = np.inf
            limits = self._limits(upper, persons, chosen)
            for row, query in enumerate(range(chosen.start, chosen.stop)):
                candidates = np.flatnonzero((lower[row] <= limits[row]) & np.isfinite(lower[row]))
                if len(candidates):
                    self._merge(query, part, stored, persons, candidates)

    def results(self) -> list[list[Match]]:
        """Return the matches of each query, nearest first."""
        return self._found

    def _bounds(self, stored: np.ndarray, squares: np.ndarray, chosen: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return bounds of the squared Euclidean or the cosine distances, `(queries, tracklets)`."""
        # Sums of D products in any order err by at most D + 1 units of the sum of the factors' absolute products.
        error = 2 * (stored.shape[1] + 8) * _UNIT
        product = self._queries.embeddings[chosen] @ stored.T
        if self._queries.metric == "cosine":
            lengths = np.sqrt(self._squares[chosen, None]).astype(np.float32) * np.sqrt(squares)
            distances = 1 - product / lengths
            return distances - np.float32(error), distances + np.float32(error)
        scale = self._squares[chosen, None].astype(np.float32) + squares
        distances = scale - 2 * product
        scale *= np.float32(error)
        scale += np.float32(_UNDERFLOW)
        return distances - scale, distances + scale

    def _limits(self, upper: np.ndarray, persons: np.ndarray, chosen: slice) -> np.ndarray:
        """Return for each query the distance above which no tracklet is among the nearest."""
        if self._by_person:
            groups = _groups(persons)
            order = np.argsort(groups, kind="stable")
            starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
            upper = np.minimum.reduceat(upper[:, order], starts, axis=1)
        limits = np.full(len(upper), np.inf)
        if upper.shape[1] >= self._count:
            limits = np.partition(upper, self._count - 1, axis=1)[:, self._count - 1].astype(np.float64)
        for row, query in enumerate(range(chosen.start, chosen.stop)):
            known = [np.inf if self._threshold is None else self._threshold]
            if len(self._found[query]) == self._count:
                known.append(self._found[query][-1].distance)
            squared = self._queries.metric == "euclidean"
            # More than the rounding of float64.
            limits[row] = min(limits[row], min(known) ** (2 if squared else 1) * (1 + 1e-9) + 1e-12 * (not squared))
        return limits

    def _merge(self, query: int, part: Part, stored: np.ndarray, persons: np.ndarray, rows: np.ndarray) -> None:
        distances = self._exact(query, stored, rows)
        if self._threshold is not None:
            near = distances < self._threshold
            rows, distances = rows[near], distances[near]
        if self._by_person:
            groups = _groups(persons[rows])
            _, places = np.unique(groups, return_inverse=True)
            nearest = np.full(places.max(initial=-1) + 1, np.inf)
            np.minimum.at(nearest, places, distances)
            first = distances == nearest[places]
            rows, distances = rows[first], distances[first]
        if not self._by_person and len(rows) > self._count:
            near = distances <= np.partition(distances, self._count - 1)[self._count - 1]
            rows, distances = rows[near], distances[near]
        if not len(rows):
            return
        merged = sorted(
            [*self._found[query], *_matches(part.take(rows), distances)], key=lambda match: (match.distance, match.id)
        )
        if self._by_person:
            merged = list(_first_of_each_person(merged))
        self._found[query] = merged[: self._count]

    def _exact(self, query: int, stored: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return distances in float64; a tracklet's does not depend on the tracklets beside it."""
        vector = self._queries.embeddings[query].astype(np.float64)
        distances = np.empty(len(rows))
        for start in range(0, len(rows), _EXACT_ROWS):
            part = slice(start, start + _EXACT_ROWS)
            values = stored[rows[part]].astype(np.float64)
            if self._queries.metric == "euclidean":
                values -= vector
                distances[part] = np.sqrt((values * values).sum(axis=1))
            else:
                lengths = np.sqrt((values * values).sum(axis=1)) * np.sqrt((vector * vector).sum())
                distances[part] = np.clip(1 - (values * vector).sum(axis=1) / lengths, 0.0, 2.0)
        if self._queries.metric == "cosine":
            distances[distances < _ROUNDING] = 0.0
        return distances


def check_search(count: int, threshold: float | Literal["model"] | None) -> None:
    """Raise `ValueError` if a search is asked for an impossible count or threshold."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(f"Search for at least one tracklet. Received: count={count!r}")
    if threshold is None or threshold == "model":
        return
    if isinstance(threshold, (str, bool)) or not threshold > 0:
        raise ValueError(
            f"A threshold is a distance above 0, 'model' for the gallery's, or None for none. Received: "
            f"threshold={threshold!r}"
        )


def _groups(persons: np.ndarray) -> np.ndarray:
    """Return the persons, with numbers of their own for unknown ones."""
    unknown = persons == DISTRACTOR
    groups = persons.copy()
    groups[unknown] = -1 - np.arange(np.count_nonzero(unknown))
    return groups


def _first_of_each_person(matches: Sequence[Match]) -> Iterator[Match]:
    seen = set()
    for match in matches:
        if match.person == DISTRACTOR or match.person not in seen:
            seen.add(match.person)
            yield match


def _matches(record: TrackletEmbeddings, distances: np.ndarray) -> Iterator[Match]:
    columns = (record.ids, record.persons, record.cameras, distances, record.starts, record.ends, record.sources)
    for values in zip(*(column.tolist() for column in columns), map(dict, record.tags), strict=True):
        yield Match(*values)
