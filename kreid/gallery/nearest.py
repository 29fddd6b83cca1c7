"""Find the nearest tracklets exactly, in parts of a gallery that come one after the other."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from kreid.data.tracklet import DISTRACTOR
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.parts import Part, RecordPart

# Values of a block of approximate distances, which stays in a processor's cache.
_BLOCK = 1 << 18
# Tracklets of the first block, after which there is a limit; each block that follows has at most four times as many.
_FIRST_ROWS = 1024
# Queries at once, and up to how many a block's scores are dot products.
_QUERIES, _DOTS = 512, 8
_EXACT_ROWS = 4096
# The largest relative error of one operation in float32.
UNIT = float(np.finfo(np.float32).eps) / 2
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
        self._found = [_Found() for _ in range(len(queries))]
        self._parts: list[Part] = []

    def add(self, part: Part) -> None:
        """Search some tracklets more.

        Args:
            part: a `Part`.
        """
        if not len(part.persons):
            return
        for start in range(0, len(self._queries), _QUERIES):
            chosen = np.arange(start, min(start + _QUERIES, len(self._queries)))
            # Damaged values may be NaN, and are then no candidates.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                candidates = self._candidates(part, chosen)
            if len(candidates.rows):
                self._merge(part, chosen[candidates.queries], candidates.rows)

    def results(self) -> list[list[Match]]:
        """Return the matches of each query, nearest first."""
        matches: dict[tuple[int, int], Match] = {}
        for number, part in enumerate(self._parts):
            rows = np.unique(np.concatenate([found.rows[found.parts == number] for found in self._found]))
            if len(rows):
                matches.update(zip(((number, row) for row in rows.tolist()), _matches(part.take(rows)), strict=True))
        results = []
        for found in self._found:
            places = zip(found.parts.tolist(), found.rows.tolist(), found.distances.tolist(), strict=True)
            nearest = [matches[part, row]._replace(distance=distance) for part, row, distance in places]
            nearest.sort(key=lambda match: (match.distance, match.id))
            results.append([*(_first_of_each_person(nearest) if self._by_person else nearest)][: self._count])
        return results

    def _candidates(self, part: Part, chosen: np.ndarray) -> "_Candidates":
        """Return all tracklets that may be among the nearest of the chosen queries."""
        queries = self._queries if len(chosen) == len(self._queries) else self._queries.take(chosen)
        candidates = _Candidates(part, queries, self._count, self._by_person, self._other_cameras)
        candidates.limit(np.array([self._known_limit(query) for query in chosen.tolist()]))
        most, total = max(1, _BLOCK // len(chosen)), len(part.persons)
        first, rows = 0, most if candidates.has_limits else max(_FIRST_ROWS, 4 * self._count)
        while first < total:
            last = min(total, first + min(rows, most))
            candidates.add(slice(first, last))
            first, rows = last, 4 * rows
        candidates.leave_out_distant()
        return candidates

    def _known_limit(self, query: int) -> float:
        """Return the squared Euclidean or the cosine distance above which no tracklet more is among the nearest."""
        known = [np.inf if self._threshold is None else self._threshold]
        known.append(self._found[query].limit)
        # More than the rounding of float64.
        if self._queries.metric == "euclidean":
            return min(known) * min(known) * (1 + 1e-9)
        return min(known) * (1 + 1e-9) + 1e-12

    def _merge(self, part: Part, queries: np.ndarray, rows: np.ndarray) -> None:
        """Put candidates of queries, which are in the order of the queries, among the nearest."""
        distances = self._exact(part, queries, rows)
        number, groups = len(self._parts), self._groups_of(part, rows)
        starts = np.flatnonzero(np.diff(queries, prepend=-1))
        changed = queries[starts].tolist()
        for query, own in zip(changed, np.split(np.arange(len(rows)), starts[1:]), strict=True):
            if self._threshold is not None:
                own = own[distances[own] < self._threshold]
            self._found[query].add(number, rows[own], distances[own], groups[own], self._count, self._by_person)
        if part.in_memory:
            self._parts.append(part)
            return
        # Of others, only what was found is kept.
        found = [self._found[query] for query in changed]
        taken = np.unique(np.concatenate([one.rows[one.parts == number] for one in found]))
        if len(taken):
            for one in found:
                here = one.parts == number
                one.rows[here] = np.searchsorted(taken, one.rows[here])
            self._parts.append(RecordPart(part.take(taken), np.zeros(len(taken))))

    def _groups_of(self, part: Part, rows: np.ndarray) -> np.ndarray:
        """Return the persons of rows, with numbers of their own for unknown ones, in all parts."""
        persons = part.persons[rows]
        return np.where(persons == DISTRACTOR, -1 - (len(self._parts) << 32) - rows, persons)

    def _exact(self, part: Part, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return distances in float64; a pair's does not depend on the others."""
        distances = np.empty(len(rows))
        for start in range(0, len(rows), _EXACT_ROWS):
            chunk = slice(start, start + _EXACT_ROWS)
            values = part.vectors(rows[chunk]).astype(np.float64)
            vectors = self._queries.embeddings[queries[chunk]].astype(np.float64)
            if self._queries.metric == "euclidean":
                values -= vectors
                distances[chunk] = np.sqrt((values * values).sum(axis=1))
            else:
                lengths = np.sqrt((values * values).sum(axis=1)) * np.sqrt((vectors * vectors).sum(axis=1))
                distances[chunk] = np.clip(1 - (values * vectors).sum(axis=1) / lengths, 0.0, 2.0)
        if self._queries.metric == "cosine":
            distances[distances < _ROUNDING] = 0.0
        return distances


class _Found:
    """The nearest tracklets of a query so far; more than `count` if some at the end are equally near.

    Attributes:
        parts: numbers of their parts.
        rows: in these.
        distances: to the query.
        limit: the distance above which no tracklet more is among the nearest.
    """

    def __init__(self) -> None:
        self.parts = self.rows = self._groups = np.zeros(0, np.int64)
        self.distances, self.limit = np.zeros(0), np.inf

    def add(
        self, part: int, rows: np.ndarray, distances: np.ndarray, groups: np.ndarray, count: int, by_person: bool
    ) -> None:
        """Add tracklets of a part.

        Args:
            part: number of the part.
            rows: of the tracklets.
            distances: of the tracklets.
            groups: persons of the tracklets, and numbers below 0 for unknown ones.
            count: tracklets to keep.
            by_person: keep the nearest of each person.
        """
        parts, rows = np.append(self.parts, np.full(len(rows), part)), np.append(self.rows, rows)
        distances, groups = np.append(self.distances, distances), np.append(self._groups, groups)
        kept, nearest = np.arange(len(rows)), distances
        if by_person:
            _, places = np.unique(groups, return_inverse=True)
            nearest = np.full(places.max(initial=-1) + 1, np.inf)
            np.minimum.at(nearest, places, distances)
            kept = kept[distances == nearest[places]]
        if len(nearest) >= count:
            self.limit = float(np.partition(nearest, count - 1)[count - 1])
            kept = kept[distances[kept] <= self.limit]
        self.parts, self.rows, self.distances, self._groups = parts[kept], rows[kept], distances[kept], groups[kept]


class _Candidates:
    """Pairs of queries and tracklets of a part whose distances may be among the nearest.

    Distances are squared Euclidean, or cosine. A pair's lower bound is its score plus the query's `_offsets`: the score
    is one matrix product and one operation on each value of it, all else is computed for candidates alone.

    Args:
        part: a `Part`.
        queries: a `TrackletEmbeddings`.
        count: see `NearestTracklets`.
        by_person: see `NearestTracklets`.
        other_cameras: see `NearestTracklets`.

    Attributes:
        queries: numbers of the queries, rising after `leave_out_distant`.
        rows: of the tracklets in the part.
    """

    def __init__(
        self, part: Part, queries: TrackletEmbeddings, count: int, by_person: bool, other_cameras: bool
    ) -> None:
        self._part, self._count = part, count
        self._ids, self._cameras = queries.ids.tolist(), queries.cameras if other_cameras else None
        self._groups = _groups(part.persons) if by_person else None
        vectors, squares = queries.embeddings, part.squares
        # Sums of D products in any order err by at most D + 1 units of the sum of the factors' absolute products.
        self._error = 2 * (vectors.shape[1] + 8) * UNIT
        own = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        self._euclidean = queries.metric == "euclidean"
        if self._euclidean:
            self._own_squares = own
            self._factors, self._offsets = -2 * vectors, (1 - self._error) * own - _UNDERFLOW
            self._others = np.float32(1 - self._error) * squares
        else:
            self._factors = (vectors / -np.sqrt(own)[:, None]).astype(np.float32)
            self._offsets = np.full(len(vectors), 1 - self._error)
            self._others = 1 / np.sqrt(squares)
        self.queries = self.rows = np.zeros(0, np.int64)
        self._lower = self._upper = np.zeros(0)
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._number = self._most = 0

    def limit(self, limits: np.ndarray) -> None:
        """Set for each query the distance above which no tracklet is among the nearest."""
        self._limits = limits
        scores = limits - self._offsets
        self._highest = np.nextafter(scores.astype(np.float32), np.float32(np.inf))

    @property
    def has_limits(self) -> bool:
        """Whether there is a limit for each query."""
        return bool(np.isfinite(self._limits).all())

    def add(self, rows: slice) -> None:
        """Add the tracklets of some rows."""
        vectors, count = self._part.vectors(rows), len(self._factors)
        # A product with few rows is no faster than its dot products, and slower than the memory.
        if count <= _DOTS:
            scores = np.vecdot(vectors[:, None], self._factors)
        else:
            scores = vectors @ self._factors.T
        if self._euclidean:
            scores += self._others[rows, None]
        else:
            scores *= self._others[rows, None]
        places = np.flatnonzero(scores <= self._highest)
        if not len(places):
            return
        self._new.append((places % count, places // count + rows.start, scores.ravel()[places]))
        self._number += len(places)
        if self._number > self._most:
            self.leave_out_distant()

    def leave_out_distant(self) -> None:
        """Leave out candidates that cannot be among the nearest, because nearer ones are known."""
        if self._new:
            self._add_new()
        near = self._lower <= self._limits[self.queries]
        if self._groups is not None:
            groups = self._groups[self.rows]
            order = np.lexsort((self._upper, groups, self.queries))
            first = np.diff(self.queries[order], prepend=-1) != 0
            first |= np.diff(groups[order], prepend=0) != 0
            nearest = np.empty(len(order))
            nearest[order] = self._upper[order][first][np.cumsum(first) - 1]
            near &= self._lower <= nearest
            queries, upper = self.queries[order][first], self._upper[order][first]
        else:
            queries, upper = self.queries, self._upper
        order = np.lexsort((upper, queries))
        starts = np.searchsorted(queries[order], np.arange(len(self._limits)))
        last = starts + self._count - 1
        # Queries with enough candidates: those whose last one is still theirs.
        enough = last < np.append(starts[1:], len(order))
        limits = self._limits.copy()
        limits[enough] = np.minimum(limits[enough], upper[order][last[enough]])
        near &= self._lower <= limits[self.queries]
        order = np.flatnonzero(near)
        order = order[np.argsort(self.queries[order], kind="stable")]
        self.queries, self.rows = self.queries[order], self.rows[order]
        self._lower, self._upper = self._lower[order], self._upper[order]
        self.limit(limits)
        self._number = len(order)
        # Seldom enough to cost little, often enough to have low limits.
        self._most = max(4 * self._count * len(limits), 2 * self._number)

    def _add_new(self) -> None:
        queries, rows, scores = (np.concatenate(values) for values in zip(*self._new, strict=True))
        self._new = []
        kept = np.isfinite(scores) & (self._part.positions(self._ids, rows) != queries)
        if self._cameras is not None:
            kept &= self._part.cameras[rows] != self._cameras[queries]
        queries, rows, scores = queries[kept], rows[kept], scores[kept]
        lower = scores + self._offsets[queries]
        width = np.full(len(rows), 2 * self._error)
        if self._euclidean:
            width = width * (self._own_squares[queries] + self._part.squares[rows]) + 2 * _UNDERFLOW
        self.queries, self.rows = np.append(self.queries, queries), np.append(self.rows, rows)
        self._lower, self._upper = np.append(self._lower, lower), np.append(self._upper, lower + width)


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


def _matches(record: TrackletEmbeddings) -> Iterator[Match]:
    """Yield matches without distances."""
    unknown = np.full(len(record), np.nan)
    columns = (record.ids, record.persons, record.cameras, unknown, record.starts, record.ends, record.sources)
    for values in zip(*(column.tolist() for column in columns), map(dict, record.tags), strict=True):
        yield Match(*values)
